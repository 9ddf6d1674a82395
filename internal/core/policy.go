package core

import (
	"net/netip"
	"slices"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Policy chooses the action for a SYN: that of the first rule that matches, else
// the default. A policy is never changed, only replaced.
type Policy struct {
	Rules   []Rule
	Default state.Action
	// EndToEnd is the DSCP by which boxes tell each other of SYNs with which hosts
	// offer MPTCP themselves; 0 for none.
	EndToEnd uint8
}

// Rule names an action for the SYNs that match all that it says. What it leaves
// empty matches everything.
type Rule struct {
	Name     string         // that flows show
	From, To []netip.Prefix // of the client, of the server
	Ports    []PortRange    // of the server
	Side     *state.Side    // by which the SYN enters
	Capable  *bool          // whether it bears MP_CAPABLE
	// Users and Names match requests only, see [Request]: who asks, and the name asked for, or
	// *.example.com for all names below one.
	Users, Names []string
	Action       state.Action
	Subflows     SubflowPolicy // of what is relayed, at a CPE
	QUIC         QUIC          // for the driver, at a CPE: what to do with QUIC of the same hosts
}

// QUIC is the treatment of UDP to port 443, the rival of TCP that cannot be bonded, by a rule.
type QUIC uint8

const (
	QUICByPath QUIC = iota // nothing: the path decides
	QUICPass
	QUICReject
)

// Choice is the answer of a policy about a SYN.
type Choice struct {
	Action   state.Action
	Reason   state.Reason // to pass what policy would relay
	Rule     string       // that has chosen the action; "" with a Reason, or for the default
	Subflows SubflowPolicy
}

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Choose says what to do with a SYN that entered on side.
func (p *Policy) Choose(side state.Side, seg *rewrite.Segment, syn rewrite.MPTCP) Choice {
	if syn.Join {
		return Choice{Action: state.Pass, Reason: state.MPJoin} // belongs to a connection between its ends
	}
	choice := Choice{Action: p.Default}
	i := slices.IndexFunc(p.Rules, func(r Rule) bool { return r.matches(side, seg, syn) })
	if i >= 0 {
		r := &p.Rules[i]
		choice = Choice{Action: r.Action, Rule: r.Name, Subflows: r.Subflows}
	}
	// The box speaks MPTCP on the multipath side only, and cannot sign in a host's
	// name: to relay all SYNs means all that can be relayed. Where all pass by
	// default, these say why they would pass anyway.
	relays := choice.Action == state.Relay || choice.Action == state.Learn || choice.Action == state.Pass && i < 0
	promised := side == state.Multipath && syn.Capable && p.marked(seg) // by the other box, to the host
	switch {
	case relays && side == state.Plain && syn.Capable, promised && (relays || i < 0):
		return Choice{Action: state.Pass, Reason: state.EndToEnd} // the host speaks MPTCP itself
	case relays && side == state.Multipath && !syn.Capable: // the other box did not offer to bond it
		return Choice{Action: state.Pass, Reason: state.PlainTCP}
	case relays && seg.Authenticated():
		return Choice{Action: state.Pass, Reason: state.Reason(rewrite.Authenticated)}
	}
	return choice
}

// marked reports whether the other box has marked the SYN as a host's own.
func (p *Policy) marked(seg *rewrite.Segment) bool {
	return p.EndToEnd != 0 && seg.DSCP() == p.EndToEnd
}

// OverQUIC returns the rules that also apply to QUIC of the plain side: those that may match an
// ordinary host's SYN from there to port 443.
func (p *Policy) OverQUIC() []Rule {
	return slices.DeleteFunc(slices.Clone(p.Rules), func(r Rule) bool {
		return r.Side != nil && *r.Side != state.Plain || r.Capable != nil && *r.Capable || len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, PortRange.hasHTTPS)
	})
}

func (p PortRange) hasHTTPS() bool { return p.First <= 443 && 443 <= p.Last }

// Learns reports whether any SYN may be chosen to learn from.
func (p *Policy) Learns() bool {
	return p.Default == state.Learn || slices.ContainsFunc(p.Rules, func(r Rule) bool { return r.Action == state.Learn })
}

func (r *Rule) matches(side state.Side, seg *rewrite.Segment, syn rewrite.MPTCP) bool {
	return r.mismatch(side, seg, syn) == ""
}

// mismatch names the first key of a rule that a SYN does not match, "" if it matches all.
func (r *Rule) mismatch(side state.Side, seg *rewrite.Segment, syn rewrite.MPTCP) string {
	switch {
	case len(r.Users) > 0:
		return "users" // who asks in a preface
	case len(r.Names) > 0:
		return "names"
	case r.Side != nil && *r.Side != side:
		return "side"
	case r.Capable != nil && *r.Capable != syn.Capable:
		return "mp_capable"
	case !within(r.From, seg.Src.Addr()):
		return "from"
	case !within(r.To, seg.Dst.Addr()):
		return "to"
	case len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, func(p PortRange) bool {
		return p.First <= seg.Dst.Port() && seg.Dst.Port() <= p.Last
	}):
		return "ports"
	}
	return ""
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	return len(prefixes) == 0 || slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}
