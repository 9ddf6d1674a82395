package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

// Table bounds the number of flows and their times.
func (s *Settings) Table() state.Config {
	return state.Config{
		MaxFlows: s.Limits.Flows, MaxHalfOpen: s.Limits.HalfOpen, MaxEnded: s.Limits.Ended, MaxPerUser: s.Limits.UserFlows,
		Dial: s.Timeouts.Dial.Duration, HalfOpen: s.Timeouts.HalfOpen.Duration,
	}
}

// Learnt bounds the memory of destinations.
func (s *Settings) Learnt() state.LearntConfig {
	return state.LearntConfig{
		Bits4: s.Learn.Prefix4, Bits6: s.Learn.Prefix6, TTL: s.Learn.TTL.Duration, Max: s.Learn.Max,
	}
}

// Joins are the join addresses of a HAG.
func (s *Settings) Joins() []netip.AddrPort { return addrPorts(s.Join) }

// name is the path's name in dumps and rules.
func (p *Path) name() string { return cmp.Or(p.Name, p.Interface) }

func addrPorts(all []Address) []netip.AddrPort {
	out := make([]netip.AddrPort, len(all))
	for i, a := range all {
		out[i] = a.AddrPort
	}
	return out
}

func prefixes(all []Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		out = append(out, p.Prefix)
	}
	return out
}

// Policy returns the policy: the rules and the default action.
func (s *Settings) Policy() (*core.Policy, error) {
	p := &core.Policy{EndToEnd: uint8(s.EndToEndDSCP), Default: actionOf(s.Action)}
	for i := range s.Rules {
		rule, err := s.rule(i)
		if err != nil {
			return nil, err
		}
		p.Rules = append(p.Rules, rule)
	}
	if s.EndToEnd == "prefer" {
		p.Rules = append(p.Rules, preferEndToEnd)
	}
	return p, nil
}

// preferEndToEnd lets a HAG learn from the SYNs with MP_CAPABLE which servers speak
// MPTCP, and leave connections to these alone.
var preferEndToEnd = core.Rule{Name: "prefer-end-to-end", Side: new(state.Multipath), Capable: new(true), Action: state.Learn}

// rule returns rule i of the policy.
func (s *Settings) rule(i int) (core.Rule, error) {
	r := &s.Rules[i]
	out := core.Rule{
		Name: cmp.Or(r.Name, fmt.Sprintf("rule-%d", i+1)), Capable: r.MPCapable, Action: actionOf(r.Action),
		Subflows: core.SubflowPolicy{After: uint64(r.After)},
	}
	out.QUIC = map[string]core.QUIC{"pass": core.QUICPass, "reject": core.QUICReject}[r.QUIC]
	out.From, out.To, out.Users, out.Names = prefixes(r.From), prefixes(r.To), r.Users, r.Names
	for _, p := range r.Ports {
		out.Ports = append(out.Ports, core.PortRange(p))
	}
	switch r.Side {
	case state.Plain.String():
		out.Side = new(state.Plain)
	case state.Multipath.String():
		out.Side = new(state.Multipath)
	}
	if r.QUIC != "" && len((&core.Policy{Rules: []core.Rule{out}}).OverQUIC()) == 0 {
		return out, s.mistake(fmt.Sprintf("rule[%d].quic", i), fmt.Errorf("rule %d: quic: want a rule for the plain side, port 443 and SYNs without MP_CAPABLE", i+1))
	}
	for _, name := range r.Paths {
		at := slices.IndexFunc(s.Paths, func(p Path) bool { return p.name() == name })
		if at < 0 {
			return out, s.mistake(fmt.Sprintf("rule[%d].paths", i), fmt.Errorf("rule %d: paths: there is no path %q", i+1, name))
		}
		out.Subflows.Paths |= 1 << at
	}
	return out, nil
}

// actionOf returns the action of that name, which the schema has checked.
func actionOf(name string) state.Action {
	return state.Action(max(0, slices.Index(state.Actions[:], name)))
}
