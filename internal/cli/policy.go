package cli

import (
	"context"
	"fmt"
	"github.com/synbond/synbond/internal/core"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/state"
)

// policy turns the rules and the default action into a policy.
func (s *settings) policy() (*core.Policy, error) {
	p := &core.Policy{EndToEnd: s.EndToEndDSCP}
	var err error
	if p.Default, err = actionOf(s.Action); err != nil {
		return nil, err
	}
	for i, r := range s.Rule {
		rule, err := r.rule()
		if err == nil {
			rule.Subflows, err = r.subflows(s.Path)
		}
		if err != nil {
			return nil, fmt.Errorf("%srule %d: %w", s.whereIsRule(i), i+1, err)
		}
		if rule.Name == "" {
			rule.Name = fmt.Sprintf("rule-%d", i+1)
		}
		p.Rules = append(p.Rules, rule)
	}
	switch s.EndToEnd {
	case "marked":
	case "prefer":
		p.Rules = append(p.Rules, preferEndToEnd)
	default:
		return nil, fmt.Errorf("end_to_end %q is none of marked, prefer", s.EndToEnd)
	}
	return p, nil
}

// preferEndToEnd lets a HAG find out by the SYNs that come with MP_CAPABLE which
// servers speak MPTCP, and leave these alone.
var preferEndToEnd = core.Rule{Name: "prefer-end-to-end", Side: new(state.Multipath), Capable: new(true), Action: state.Learn}

func (r *ruleSettings) rule() (core.Rule, error) {
	out := core.Rule{Name: r.Name, Capable: r.MPCapable}
	var err error
	if out.Action, err = actionOf(r.Action); err != nil {
		return out, err
	}
	if out.From, err = prefixes(r.From); err != nil {
		return out, fmt.Errorf("from: %w", err)
	}
	if out.To, err = prefixes(r.To); err != nil {
		return out, fmt.Errorf("to: %w", err)
	}
	for _, text := range r.Ports {
		ports, err := portRange(text)
		if err != nil {
			return out, err
		}
		out.Ports = append(out.Ports, ports)
	}
	switch r.Side {
	case "":
	case state.Plain.String(), state.Multipath.String():
		side := state.Plain
		if r.Side == state.Multipath.String() {
			side = state.Multipath
		}
		out.Side = &side
	default:
		return out, fmt.Errorf("side %q is none of plain, multipath", r.Side)
	}
	return out, nil
}

// subflows returns the subflow policy of the rule, given the paths there are.
func (r *ruleSettings) subflows(all []pathSettings) (core.SubflowPolicy, error) {
	t := core.SubflowPolicy{After: uint64(r.After)}
	for _, name := range r.Paths {
		i := slices.IndexFunc(all, func(p pathSettings) bool { return p.name() == name })
		if i < 0 {
			return t, fmt.Errorf("paths: there is no path %q", name)
		}
		t.Paths |= 1 << i
	}
	return t, nil
}

// whereIsRule names the line on which rule i begins, in a configuration file.
func (s *settings) whereIsRule(i int) string {
	for line, text := range s.lines {
		if strings.HasPrefix(strings.TrimSpace(text), "[[rule]]") {
			if i--; i < 0 {
				return fmt.Sprintf("%s:%d: ", s.file, line+1)
			}
		}
	}
	return ""
}

// prefixes reads prefixes and single addresses.
func prefixes(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if a, err2 := netip.ParseAddr(t); err2 == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q: write 192.0.2.0/24, 2001:db8::/32 or an address", t)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// portRange reads "443" or "8000-8999".
func portRange(text string) (core.PortRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	a, err := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	b, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if err != nil || err2 != nil || a > b {
		return core.PortRange{}, fmt.Errorf("ports: %q: write \"443\" or \"8000-8999\"", text)
	}
	return core.PortRange{First: uint16(a), Last: uint16(b)}, nil
}

// mergeAgain is merge for a box that runs: what rules refer to stays as it was.
func (s *settings) mergeAgain(file string, flags *pflag.FlagSet, running *settings) error {
	err := s.merge(file, flags)
	s.Path, s.EndToEnd, s.EndToEndDSCP = running.Path, running.EndToEnd, running.EndToEndDSCP
	return err
}

// reload reads the policy anew at each SIGHUP, until ctx ends. A file that
// cannot be read keeps the policy as it is, and says why.
func (s *settings) reload(ctx context.Context, file string, log *slog.Logger, read func(*settings) error) <-chan *core.Policy {
	policies := make(chan *core.Policy)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	go func() {
		defer signal.Stop(hangups)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
			}
			next := *s
			p, err := &core.Policy{}, read(&next)
			if err == nil {
				p, err = next.policy()
			}
			if err != nil {
				log.Error("the policy stays as it is", "file", file, "err", oneLine(err))
				continue
			}
			select {
			case policies <- p:
			case <-ctx.Done():
				return
			}
		}
	}()
	return policies
}
