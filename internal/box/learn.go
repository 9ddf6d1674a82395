package box

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
func (c *Core) offer(now time.Duration, d Decision, seg *rewrite.Segment, capable bool) Decision {
	d.Asks = true
	if capable { // it asks already
		d.Verdict = Accept
		return d
	}
	packet, err := seg.Add(make([]byte, 0, usualSYN), capableSYN)
	if err != nil { // it asks nothing: nothing can be learnt
		d.Asks = false
		c.Table.Move(now, d.Key, state.Passed, err.Error())
	}
	return c.edited(d, packet, err)
}

// edited is the decision with its new packet. What cannot be edited passes as it is.
func (c *Core) edited(d Decision, packet []byte, err error) Decision {
	if err != nil {
		c.Table.Count(err.Error())
		d.Verdict, d.Reason = Accept, err.Error()
		return d
	}
	d.Verdict, d.Packet = Rewrite, packet
	return d
}

// recall turns the action learn into what is known of the destination. Where
// the SYN and the server agree, both with MPTCP or both without, the flow needs
// no box. Where they differ it is relayed.
func (c *Core) recall(now time.Duration, seg *rewrite.Segment, syn rewrite.MPTCP, reason string) (state.Action, string) {
	capable, known := c.Learnt.Known(now, seg.Dst.Addr())
	if !known {
		return state.Learn, reason
	}
	action := state.Relay
	if capable == syn.Capable {
		action = state.Pass
	}
	return action, learntReason(capable)
}

func learntReason(capable bool) string {
	if capable {
		return "learnt-mptcp"
	}
	return "learnt-plain"
}

// answer decides about a SYN+ACK: if it answers a SYN that was to ask, it says
// whether the destination speaks MPTCP. Where the box had added MP_CAPABLE it
// does not reach the client, so its ACK bears none, and the server falls back to
// TCP (RFC 8684, section 3.7).
func (c *Core) answer(now time.Duration, seg *rewrite.Segment, synack rewrite.MPTCP) Decision {
	key := state.KeyOf(seg.Dst, seg.Src)
	f, asked := c.Table.Move(now, key, state.Passed, learntReason(synack.Capable))
	if !asked {
		return Decision{Verdict: Accept, Reason: "not-asked", Key: key}
	}
	c.Learnt.Learn(now, key.Server().Addr(), synack.Capable)
	d := Decision{Verdict: Accept, Reason: f.Reason, Key: key}
	if synack.Capable && f.Side == state.Plain { // from the multipath side the client itself asked
		return c.strip(d, seg)
	}
	return d
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
	d.Verdict, d.Packet = Rewrite, seg.SetDSCP(make([]byte, 0, usualSYN), dscp)
	return d
}
