package core

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Step is one step of a decision, for people.
type Step struct {
	Name string // policy, learnt, dial, flow or limits
	Text string
}

// Explanation tells the decision of a core about a SYN, and the reasons.
type Explanation struct {
	Steps    []Step
	Flow     state.Flow // as it would begin; the zero Flow if there would be none
	Decision Decision
	Dial     Dial // of a flow that would be relayed
	// Waits reports whether the SYN would wait for the end of the last connection of its
	// 5-tuple before it is decided on.
	Waits bool
	Room  state.Room
}

// Explain decides about the SYN p by the functions that decide about packets, and changes
// nothing. It tries them on a core that has the policies, the memory and the limits of this
// one, and of its flows only the one of the SYN.
func (c *Core) Explain(now time.Duration, p Packet) (e Explanation) {
	trial := c.trial(p)
	e.Room = trial.table.Room()
	trial.trace = func(s Step) { e.Steps = append(e.Steps, s) }
	e.Waits = true
	for _, a := range trial.Packet(nil, now, p) {
		switch {
		case a.Kind == Decide && a.Decision.Packet.Data != nil: // not that of a SYN whose place it takes
			e.Decision, e.Waits = a.Decision, false
		case a.Kind == Connect:
			e.Dial = a.Dial
		}
	}
	if e.Decision.Key != (state.Key{}) {
		e.Flow, _ = trial.table.Last(e.Decision.Key)
	}
	return e
}

// ExplainRequest is [Core.Explain] for a request of a client, for an address.
func (c *Core) ExplainRequest(now time.Duration, q Request) (e Explanation) {
	c.mu.Lock()
	table, _ := c.table.Trial(q.key())
	trial := &Core{
		table: table, learnt: c.learnt, policy: c.policy, own: c.own, spent: c.spent, gone: c.gone,
		rivals: make(map[state.ID]state.ID), handshakes: make(map[state.ID]*handshake), unbonded: make(unbonded),
	}
	c.mu.Unlock()
	e.Room = table.Room()
	trial.trace = func(s Step) { e.Steps = append(e.Steps, s) }
	for _, a := range trial.Asked(nil, now, q) {
		switch a.Kind {
		case Decide:
			e.Decision = a.Decision
		case Connect:
			e.Dial = a.Dial
		}
	}
	e.Flow, _ = table.Last(q.key())
	return e
}

// trial returns a core on which to try one SYN.
func (c *Core) trial(p Packet) *Core {
	c.mu.Lock()
	defer c.mu.Unlock()
	var seg rewrite.Segment
	var key state.Key
	reach := newReach()
	if seg.Parse(p.Data) == nil {
		key = state.KeyOf(seg.Src, seg.Dst)
		reach = c.reach.about(seg.Dst)
	}
	table, was := c.table.Trial(key)
	handshakes := make(map[state.ID]*handshake)
	if h := c.handshakes[was.ID]; h != nil {
		kept := *h
		same, _ := table.Last(key)
		handshakes[same.ID] = &kept
	}
	return &Core{
		table: table, learnt: c.learnt, policy: c.policy, dialPolicy: c.dialPolicy, upstreams: c.upstreams.copied(), rivals: make(map[state.ID]state.ID), stopped: c.stopped, deliveries: c.deliveries, reach: reach, unbonded: make(unbonded), handshakes: handshakes,
		gone: func(f state.Flow) bool { f.ID = was.ID; return c.gone(f) },
	}
}

// say traces a step.
func (c *Core) say(name, format string, args ...any) {
	c.trace(Step{name, fmt.Sprintf(format, args...)})
}

// tracePolicy traces the choice of the policy, with the rules before it.
func (c *Core) tracePolicy(s *heldSYN, choice Choice) {
	if c.trace == nil {
		return
	}
	if s.mptcp.Join {
		c.say("policy", "an MP_JOIN always passes")
		return
	}
	by := "the default action"
	for i := range c.policy.Rules {
		r := &c.policy.Rules[i]
		key := r.mismatch(s.Side, &s.seg, s.mptcp)
		if key == "" {
			by = "rule " + r.Name
			break
		}
		c.say("policy", "rule %s does not match: %s", r.Name, key)
	}
	if choice.Reason != state.None {
		c.say("policy", "%s, although %s may say otherwise: %s", choice.Action, by, explained(choice.Reason))
		return
	}
	c.say("policy", "%s, by %s", choice.Action, by)
}

// traceRecall traces what was learnt of the destination.
func (c *Core) traceRecall(f *state.Flow) {
	switch {
	case c.trace == nil:
	case f.Action == state.Learn:
		c.say("learnt", "nothing is known of the destination: ask it")
	default:
		c.say("learnt", "%s: %s", f.Action, explained(f.Reason))
	}
}

// traceDial traces the dial policy for a flow with an action that it may have changed.
func (c *Core) traceDial(action state.Action, f *state.Flow, from Source) {
	switch {
	case c.trace == nil:
	case f.Reason == state.Filtered, f.Reason == state.NotDelivered:
		c.say("dial", "new flows pass: %s", explained(f.Reason))
	case action != state.Relay || f.Side != state.Plain:
	case c.dialPolicy.Mode == ThroughUpstream: // see traceThrough
	case c.dialPolicy.Mode == AsClient:
		c.say("dial", "new flows are dialed from the client's address")
	case c.dialPolicy.Mode == OwnSource && from.Addr.IsValid():
		c.say("dial", "new flows are dialed from %s by %s: %s", from.Addr, from.Interface, explained(c.dialPolicy.Reason))
	default:
		c.say("dial", "new flows pass: %s", explained(c.dialPolicy.Reason))
	}
}

// traceThrough traces the upstream through which a flow goes.
func (c *Core) traceThrough(f *state.Flow, h *handshake) {
	switch {
	case c.trace == nil:
	case h.through != nil:
		first := h.through.waiting[0]
		c.say("dial", "through upstream %s, from %s by %s", first.at, first.from.Addr, first.from.Interface)
	case f.Reason == state.NoUpstream, f.Reason == state.IsUpstream:
		c.say("dial", "%s: %s", f.Action, explained(f.Reason))
	}
}

// traceAvoid traces what earlier dials to the server have shown.
func (c *Core) traceAvoid(f *state.Flow, h *handshake) {
	switch {
	case c.trace == nil:
	case h.obstacle != state.None:
		c.say("learnt", "try again what has failed: %s", explained(h.obstacle))
	case h.dial.Plain:
		c.say("learnt", "dial without MP_CAPABLE: %s", explained(f.Reason))
	case f.Reason == state.MPTCPBlocked || f.Reason == state.Unanswered:
		c.say("learnt", "pass: %s", explained(f.Reason))
	}
}

// traceBegin traces the flow table's answer.
func (c *Core) traceBegin(b state.Begun) {
	switch {
	case c.trace == nil:
	case b.Full != state.None:
		c.say("limits", "%s", explained(b.Full))
	case b.Repeat && b.Other:
		c.say("flow", "there is a flow with this 5-tuple, which is %s", b.State)
	case b.Repeat:
		c.say("flow", "there is a flow with this 5-tuple, which is %s: the SYN is a repeat", b.State)
	}
}

// explained returns a reason with its meaning.
func explained(r state.Reason) string {
	_, meaning, found := strings.Cut(r.Meaning(), ": ")
	if !found {
		meaning = r.Meaning()
	}
	return r.String() + " (" + meaning + ")"
}

// tracePermit traces the choice for an address of a destination.
func (c *Core) tracePermit(a netip.Addr, choice Choice) {
	switch {
	case c.trace == nil:
	case choice.Reason != state.None:
		c.say("policy", "%s for %s: %s", choice.Action, a, explained(choice.Reason))
	case choice.Rule != "":
		c.say("policy", "%s for %s, by rule %s", choice.Action, a, choice.Rule)
	default:
		c.say("policy", "%s for %s, by the default action", choice.Action, a)
	}
}

// traceSpent traces that a user has used up a quota.
func (c *Core) traceSpent(user string) {
	if c.trace != nil {
		c.say("limits", "reject for user %s: %s", user, explained(state.UserQuota))
	}
}

// traceRule traces a rule that does not match.
func (c *Core) traceRule(r *Rule, key string) {
	if c.trace != nil {
		c.say("policy", "rule %s does not match: %s", r.Name, key)
	}
}
