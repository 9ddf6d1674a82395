package core

import (
	"bytes"
	"time"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// A SYN that comes while the last connection of its 5-tuple is still being
// closed, and a dial from an address that is still busy, are tried again every
// retryEvery, until patience is over.
const (
	retryEvery = 5 * time.Millisecond
	patience   = time.Second
)

// mostHops is the largest hop limit of a SYN that looks for routers (traceroute -T goes up to
// 30). An MPTCP leg has the kernel's hop limit (IP_TTL is refused), so such a SYN would reach
// the server. Hosts begin with 64 or more.
const mostHops = 30

// Packet takes a packet that a queue holds. One action is the decision about it,
// unless that has to wait: then it is a Wake, and p.Data has been copied.
func (c *Core) Packet(acts []Action, now time.Duration, p Packet) []Action {
	return c.packet(acts, now, p, now+patience)
}

// packet decides about a packet. If it is a SYN that has to wait for the end of
// another flow, it waits until then at most.
func (c *Core) packet(acts []Action, now time.Duration, p Packet, until time.Duration) []Action {
	s := heldSYN{Packet: p, until: until}
	seg := &s.seg
	if err := seg.Parse(p.Data); err != nil {
		return c.ignore(acts, p, state.Because(err))
	}
	if seg.SourceRouted {
		return c.ignore(acts, p, state.Reason(rewrite.SourceRouted)) // TPROXY would see an address on the way
	}
	var err error
	s.mptcp, err = seg.MPTCP()
	switch {
	case err != nil:
		return c.ignore(acts, p, state.Because(err))
	case seg.IsSYNACK():
		return c.answer(acts, now, p, seg, s.mptcp)
	case !seg.IsSYN():
		return c.ignore(acts, p, state.NotASYN)
	case !seg.ChecksumOK():
		return c.ignore(acts, p, state.Reason(rewrite.BadChecksum)) // whoever gets it will drop it
	}
	traits := seg.Traits()
	if traits.HopLimit <= 1 || p.Side == state.Plain && traits.HopLimit <= mostHops {
		return c.ignore(acts, p, state.HopLimit) // a router must answer that its time is exceeded
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f, subflows, from := c.choose(now, &s)
	h := handshake{
		side: p.Side, path: p.Path, subflows: subflows, until: until,
		dial: Dial{
			Client: seg.Src, Server: seg.Dst, Multipath: p.Side.Opposite() == state.Multipath, Traits: traits,
			In: p.Interface, Out: p.Out, Mark: p.Mark,
		},
	}
	h.dial.leave(from)
	h.through = c.goThrough(now, &f)
	c.traceThrough(&f, &h)
	s.wait = c.avoid(now, &f, &h)
	c.traceAvoid(&f, &h)
	return c.begin(acts, now, &s, f, h)
}

// heldSYN is a SYN that is being decided on.
type heldSYN struct {
	Packet
	seg   rewrite.Segment
	mptcp rewrite.MPTCP
	until time.Duration
	wait  time.Duration // for the answer, if its flow tries again what has failed before
}

// firstOrLast reports whether a SYN has not waited yet, or waits no longer. Only then
// the kernel is asked about a half-open connection: that takes a system call under the
// core's lock, and a SYN that waits is looked at 200 times.
func (s *heldSYN) firstOrLast(now time.Duration) bool {
	return s.until-now >= patience || now >= s.until
}

// choose asks policy, what was learnt, and the dial policy about a SYN.
func (c *Core) choose(now time.Duration, s *heldSYN) (f state.Flow, subflows SubflowPolicy, from Source) {
	choice := c.policy.Choose(s.Side, &s.seg, s.mptcp)
	f = state.Flow{
		Key: state.KeyOf(s.seg.Src, s.seg.Dst), Side: s.Side, Capable: s.mptcp.Capable, Held: s.ID, ISN: s.seg.Seq,
		Action: choice.Action, Reason: choice.Reason, Rule: choice.Rule,
	}
	c.tracePolicy(s, choice)
	if f.Action == state.Learn {
		f.Action, f.Reason = c.recall(now, &s.seg, s.mptcp)
		c.traceRecall(&f)
	}
	c.stopped.apply(&f)
	c.deliveries.of(&f).apply(now, &f)
	action := f.Action
	from = c.dialPolicy.apply(&f)
	c.traceDial(action, &f, from)
	return f, choice.Subflows, from
}

// begin records the flow of a SYN, unless it is there already or there is no
// room for it: then MP_CAPABLE is taken out, or the SYN passes if it has none.
// A box that is full stops bonding, it breaks nothing.
func (c *Core) begin(acts []Action, now time.Duration, s *heldSYN, f state.Flow, h handshake) []Action {
	if f.Action == state.Strip && !s.mptcp.Capable {
		f.Action = state.Pass
	}
	at := beginnings[f.Action]
	f.State = at.state
	reuses := at.verdict != Hold && c.table.MayReuse(now, f.Key)
	begun := c.table.Begin(now, f)
	c.traceBegin(begun)
	switch {
	case begun.Full != state.None:
		f.Action, f.Reason, f.Rule = state.Strip, begun.Full, ""
		return c.begin(acts, now, s, f, h)
	case begun.Repeat && begun.State == state.Released &&
		(c.givenUp(begun.ID, s) || begun.Other && s.firstOrLast(now) && c.over(begun.ID)):
		c.table.Move(now, begun.ID, state.Abandoned, state.Reset)
		return c.begin(c.abandon(acts, begun.ID), now, s, f, h)
	case begun.Repeat && begun.State == state.Released && c.undelivered(now, s, begun):
		c.deliveries.of(&f).loses(now)
		c.table.Move(now, begun.ID, state.Abandoned, state.NotDelivered)
		f.Action, f.Reason, f.Rule = state.Strip, state.NotDelivered, ""
		return c.begin(c.abandon(acts, begun.ID), now, s, f, h)
	case begun.Repeat:
		return c.repeat(acts, now, s, f.Key, begun)
	}
	d := Decision{Packet: s.Packet, Verdict: at.verdict, Reason: f.Reason, Rule: f.Rule, Key: f.Key, Reuses: reuses}
	switch f.Action {
	case state.Relay:
		kept := h // what the map keeps is on the heap: only what is relayed pays for that
		c.handshakes[begun.ID] = &kept
		if kept.through != nil {
			kept.dialed, kept.last = now, now
			return c.goOnThrough(append(acts, Action{Kind: Decide, Decision: d}), now, begun.ID, &kept)
		}
		acts = append(acts, Action{Kind: Decide, Decision: d}, Action{Kind: Connect, Flow: begun.ID, Dial: h.dial})
		return c.begins(acts, now, begun.ID, &kept, s.wait)
	case state.Strip:
		d = c.strip(d, &s.seg)
	case state.Learn:
		d = c.offer(now, begun.ID, d, s)
	}
	if d.Verdict == Accept && s.mptcp.Capable {
		d = c.policy.mark(d, s.Side, &s.seg)
	}
	return append(acts, Action{Kind: Decide, Decision: d})
}

// repeat decides about a SYN of a flow that is live already.
func (c *Core) repeat(acts []Action, now time.Duration, s *heldSYN, key state.Key, b state.Begun) []Action {
	d := Decision{Packet: s.Packet, Verdict: Deliver, Reason: state.Repeat, Key: key}
	switch b.State {
	case state.Dialing:
		d.Verdict, d.Supersedes = Hold, true
		old := Decision{Packet: Packet{ID: b.Superseded, Side: s.Side}, Verdict: Drop, Reason: state.Repeat, Key: key}
		n := len(acts)
		acts, why := c.repeated(append(acts, Action{Kind: Decide, Decision: d}, Action{Kind: Decide, Decision: old}), now, b, s)
		if why != state.None {
			acts[n].Decision.Verdict, acts[n].Decision.Reason = Accept, why
		}
		return acts
	case state.Learning:
		// The first SYN, or its answer, was lost, perhaps for its MP_CAPABLE.
		c.table.Move(now, b.ID, state.Passed, state.NotLearnt)
		d.Verdict, d.Reason = Accept, state.NotLearnt
		if s.mptcp.Capable {
			d = c.policy.mark(d, s.Side, &s.seg)
		}
	case state.Released, state.Relaying:
		// The kernel has a socket for it, and knows best how to answer; unless the
		// flow is about to end, and the SYN asks for a new one: the client's leg has
		// closed already, or its ACK and its reset wait both for the relay to accept it.
		over := b.Other
		if b.State == state.Relaying {
			over = c.over(b.ID)
		}
		switch {
		case over && now < s.until:
			s.Data = bytes.Clone(s.Data) // the queue wants its memory back
			return c.retryLater(acts, now, retry{packet: s.Packet, until: s.until})
		case over && b.State == state.Relaying:
			// The listener would answer it, and nobody has asked the server.
			d.Verdict, d.Reason = Drop, state.TupleBusy
		}
	}
	return append(acts, Action{Kind: Decide, Decision: d})
}

// over reports whether the client's connection of a flow has ended in the kernel.
func (c *Core) over(id state.ID) bool {
	f, live := c.table.ByID(id)
	return live && c.gone(f)
}

// beginnings has where a flow starts, by action.
var beginnings = [...]struct {
	state   state.State
	verdict Verdict
}{
	state.Relay:  {state.Dialing, Hold},
	state.Pass:   {state.Passed, Accept},
	state.Strip:  {state.Passed, Rewrite},
	state.Learn:  {state.Learning, Rewrite},
	state.Reject: {state.Rejected, Prohibited},
}

// Unknown takes a packet that came in by an interface of neither side.
func (c *Core) Unknown(acts []Action, p Packet) []Action {
	return c.ignore(acts, p, state.UnknownInterface)
}

// ignore lets through what is no SYN that a box can understand.
func (c *Core) ignore(acts []Action, p Packet, why state.Reason) []Action {
	c.table.Count(why)
	return append(acts, Action{Kind: Decide, Decision: Decision{Packet: p, Verdict: Accept, Reason: why}})
}
