//go:build linux

package host

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// checks of a machine, in the order in which doctor prints them, each with the name of its
// line there. They only read.
var checks = []struct {
	name  string
	scope Scope
	find  func(Survey) ([]Finding, error)
}{
	{"IPv6 forwarding", Settings, func(s Survey) ([]Finding, error) { return s.forwarding("IPv6", "net/ipv6/conf/all/forwarding") }},
	{"IPv4 forwarding", Settings, func(s Survey) ([]Finding, error) { return s.forwarding("IPv4", "net/ipv4/ip_forward") }},
	{"interfaces' families", Settings, Survey.perInterface},
	{"TCP settings", Settings, Survey.settings},
	{"connection tracking", Settings, Survey.tracking},
	{"clock", Settings, Survey.clock},
	{"firewall", Everything, Survey.firewall},
	{"counts of connections", Everything, Survey.counted},
	{"translation of sources", Everything, Survey.ownSource},
	{"policy rules", Everything, Survey.policyRules},
	{"interfaces", Everything, Survey.interfaces},
	{"routes to the join addresses", Everything, Survey.joinRoutes},
}

// Result is the result of one check.
type Result struct {
	Name     string
	Findings []Finding
	Err      error // the check could not look
}

// Check runs the checks of a scope.
func (s Survey) Check(scope Scope) []Result {
	var all []Result
	for _, c := range checks {
		if c.scope <= scope {
			all = append(all, s.result(c.name, c.find))
		}
	}
	return all
}

// ErrPanic is the error of a check that is itself at fault.
var ErrPanic = errors.New("panic")

// result runs one check. A check reads rules that anybody may have written: where it is not
// up to them, the box must go on without it.
func (s Survey) result(name string, find func(Survey) ([]Finding, error)) (r Result) {
	defer func() {
		if cause := recover(); cause != nil {
			r = Result{Name: name, Err: fmt.Errorf("%w: %v", ErrPanic, cause)}
		}
	}()
	found, err := find(s)
	return Result{name, found, err}
}

func (s Survey) forwarding(family, key string) ([]Finding, error) {
	value, err := s.Sysctl(key)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return []Finding{NoFamily.Finding(family, "this machine lacks "+family)}, nil
	case err != nil:
		return nil, err
	case value == "0":
		return []Finding{NotForwarding.Finding(family, family+" is not forwarded").With("sysctl " + dotted(key) + "=1")}, nil
	}
	return nil, nil
}

// dotted returns the key of a setting as sysctl(8) takes it: dots and slashes change places.
func dotted(key string) string { return strings.NewReplacer("/", ".", ".", "/").Replace(key) }
