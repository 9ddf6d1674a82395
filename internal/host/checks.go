//go:build linux

package host

import (
	"errors"
	"os"
	"strings"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
)

// Survey is a look at a machine on behalf of a box.
type Survey struct {
	// Surroundings is the machine. [Here] is the one that this process runs on.
	Surroundings

	// Of the box; empty for a look without a configuration.
	Plain []string     // interfaces that face hosts
	Paths []paths.Path // with their join addresses, those that they share included
}

// Surroundings are the parts of a machine that checks read.
type Surroundings interface {
	// Sysctl returns a kernel setting, or os.ErrNotExist if the kernel lacks it. The key is
	// that of [ReadSysctl].
	Sysctl(key string) (string, error)
	// InputDrops lists the nftables chains that drop relayed packets in the input hook.
	InputDrops() ([]string, error)
	// Network returns the interfaces and routes as they are now.
	Network() (Network, error)
}

// Here is the machine and the network namespace of the calling thread.
type Here struct{}

// Sysctl implements [Surroundings].
func (Here) Sysctl(key string) (string, error) { return ReadSysctl(key) }

// InputDrops implements [Surroundings].
func (Here) InputDrops() ([]string, error) { return nfq.DefaultDrops() }

// checks of a machine, in the order in which doctor prints them, each with the name of its
// line there. They only read.
var checks = []struct {
	name string
	find func(Survey) ([]Finding, error)
}{
	{"IPv6 forwarding", func(s Survey) ([]Finding, error) { return s.forwarding("IPv6", "net/ipv6/conf/all/forwarding") }},
	{"IPv4 forwarding", func(s Survey) ([]Finding, error) { return s.forwarding("IPv4", "net/ipv4/ip_forward") }},
	{"firewall", Survey.input},
	{"interfaces", Survey.interfaces},
	{"reverse-path filter", Survey.reversePath},
}

// Result is the result of one check.
type Result struct {
	Name     string
	Findings []Finding
	Err      error // the check could not look
}

// Check runs all checks.
func (s Survey) Check() []Result {
	var all []Result
	for _, c := range checks {
		found, err := c.find(s)
		all = append(all, Result{c.name, found, err})
	}
	return all
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

func (s Survey) input() (found []Finding, err error) {
	drops, err := s.InputDrops()
	for _, chain := range drops {
		found = append(found, InputDrops.Finding(chain, "the chain "+chain+" drops input by default").
			With("let it accept relayed packets: "+nfq.Advice))
	}
	return found, err
}

// dotted returns the key of a setting as sysctl(8) takes it: dots and slashes change places.
func dotted(key string) string { return strings.NewReplacer("/", ".", ".", "/").Replace(key) }
