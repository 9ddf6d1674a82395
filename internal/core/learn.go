package core

import (
	"time"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// capableSYN is MP_CAPABLE as it stands in a SYN of version 1, without
// checksums, with HMAC-SHA256 (RFC 8684, section 3.1).
var capableSYN = []byte{30, 4, 0x01, 0x01}

// usualSYN is room for any SYN without data, and for most with.
const usualSYN = 1600

// strip takes MP_CAPABLE out of the decision's packet.
func (c *Core) strip(d Decision, seg *rewrite.Segment) Decision {
	packet, err := seg.Strip(make([]byte, 0, usualSYN))
	return c.edited(d, packet, err)
}

// offer sees to it that the decision's SYN asks whether the server speaks MPTCP.
func (c *Core) offer(now time.Duration, id state.ID, d Decision, s *heldSYN) Decision {
	d.Asks = true
	if s.mptcp.Capable { // it asks already
		d.Verdict = Accept
		return d
	}
	packet, err := s.seg.Add(make([]byte, 0, usualSYN), capableSYN)
	if err != nil { // it asks nothing: nothing can be learnt
		d.Asks = false
		c.table.Move(now, id, state.Passed, state.Because(err))
	}
	return c.edited(d, packet, err)
}

// edited is the decision with its new packet. What cannot be edited passes as it is.
func (c *Core) edited(d Decision, packet []byte, err error) Decision {
	if err != nil {
		why := state.Because(err)
		c.table.Count(why)
		d.Verdict, d.Reason = Accept, why
		return d
	}
	d.Verdict, d.Edited = Rewrite, packet
	return d
}

// recall turns the action learn into what is known of the destination. Where
// the SYN and the server agree, both with MPTCP or both without, the flow needs
// no box. Where they differ it is relayed.
func (c *Core) recall(now time.Duration, seg *rewrite.Segment, syn rewrite.MPTCP) (state.Action, state.Reason) {
	capable, known := c.learnt.Known(now, seg.Dst.Addr())
	if !known {
		return state.Learn, state.None
	}
	action := state.Relay
	if capable == syn.Capable {
		action = state.Pass
	}
	return action, learntReason(capable)
}

func learntReason(capable bool) state.Reason {
	if capable {
		return state.LearntMPTCP
	}
	return state.LearntPlain
}

// answer decides about a SYN+ACK: the first one that answers a SYN which was to ask
// says whether the destination speaks MPTCP. Where the box had added MP_CAPABLE it
// does not reach the client, neither now nor when it is repeated, or late; so the
// client's ACK bears none, and the server falls back to TCP (RFC 8684, section 3.7).
func (c *Core) answer(acts []Action, now time.Duration, p Packet, seg *rewrite.Segment, synack rewrite.MPTCP) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	d := Decision{Packet: p, Verdict: Accept, Reason: state.NotAsked, Key: state.KeyOf(seg.Dst, seg.Src)}
	f, known := c.table.Last(d.Key)
	if !known {
		return append(acts, Action{Kind: Decide, Decision: d})
	}
	if f.State == state.Learning {
		learnt, _ := c.table.Move(now, f.ID, state.Passed, learntReason(synack.Capable))
		c.learnt.Learn(now, d.Key.Server().Addr(), synack.Capable)
		d.Reason = learnt.Reason
	}
	if synack.Capable && !f.Capable && f.Side == state.Plain {
		d = c.strip(d, seg)
	}
	return append(acts, Action{Kind: Decide, Decision: d})
}

// mark changes the DSCP of a SYN with MP_CAPABLE that passes: on its way to the
// other box it is marked as a host's own, and from there on no longer.
func (p *Policy) mark(d Decision, side state.Side, seg *rewrite.Segment) Decision {
	var dscp uint8
	switch {
	case side == state.Plain && p.EndToEnd != 0:
		dscp = p.EndToEnd
	case side == state.Multipath && p.marked(seg):
	default:
		return d
	}
	d.Verdict, d.Edited = Rewrite, seg.SetDSCP(make([]byte, 0, usualSYN), dscp)
	return d
}
