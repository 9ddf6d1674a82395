package pcaps

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"syscall"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// outcome is the end of a flow's dial, according to the capture.
type outcome struct {
	text   string        // describes the packet that ends the dial
	errno  syscall.Errno // 0 if the server has answered
	answer []byte        // the SYN+ACK to the client, if the server has answered
	from   netip.Addr    // sender of the ICMP error, if any
}

// dialEnded handles the packet that ends the dial of a flow in state Dialing. In a
// recording the box's packet to the client follows, see dialShown.
func (r *replay) dialEnded(f *Frame, t *track, o outcome) error {
	r.step(f, t, Server, Box, o.text)
	if r.iface(f).recorded {
		t.pending = o
		return r.omit()
	}
	return r.settle(f, t, o)
}

// dialShown handles a packet of a recorded box to its client, which shows the outcome of
// the dial and its time. The kernel may have ended the dial later than the server's packet
// arrived, or otherwise.
func (r *replay) dialShown(f *Frame, t *track, o outcome) error {
	r.report.Totals.LeftOut++
	if t.state != state.Dialing {
		return nil
	}
	if t.pending.text != "" {
		o.text, o.from = t.pending.text, t.pending.from
	}
	return r.settle(f, t, o)
}

// settle ends the dial of a flow.
func (r *replay) settle(f *Frame, t *track, o outcome) error {
	var err error
	if o.errno != 0 {
		err = o.errno
	}
	// A capture cannot tell whether the box's SYN with MP_CAPABLE would have had another
	// answer: the box is to see the same one, with MPTCP and without.
	end := core.Dialed{Err: err, MPTCP: true}
	r.acts = r.core.DialEnded(r.acts[:0], r.now, r.id(t), end)
	if slices.ContainsFunc(r.acts, func(a core.Action) bool { return a.Kind == core.Connect }) {
		r.acts = r.core.DialEnded(r.acts[:0], r.now, r.id(t), end)
	}
	i := slices.IndexFunc(r.acts, func(a core.Action) bool { return a.Kind == core.Decide })
	if i < 0 {
		return r.pass(f)
	}
	d := r.acts[i].Decision
	held, reply := t.held, t.refusal(d.Verdict, o.from)
	t.held, t.quote = nil, nil
	r.sync(t)
	c := r.cause(f, o.text)
	switch d.Verdict {
	case core.Deliver:
		reply, t.reply = o.answer, o.answer
	case core.Drop:
		return r.decided(c, d, "")
	case core.Accept: // the SYN itself goes on
		r.step(f, t, Box, Server, "SYN")
		held.Time = f.Time
		return errors.Join(r.decided(c, d, "SYN → server"), r.passDecided(held, d))
	}
	out := describePacket(reply)
	r.step(f, t, Box, Client, out)
	carrier := f
	if held.Interface != f.Interface {
		carrier = r.reversed(held)
		carrier.Time = f.Time
	}
	err = r.writeBuilt(carrier, r.iface(held).Interface, reply, d)
	return errors.Join(r.decided(c, d, out+" → client"), err)
}

// refusal returns the packet to the client for the verdict on a failed dial, with an ICMP
// error from the given address; nil for other verdicts.
func (t *track) refusal(v core.Verdict, from netip.Addr) []byte {
	switch v {
	case core.Reset:
		return reset(t.client, t.server, t.isn+1+t.data, t.quote)
	case core.NoRoute, core.HostUnreachable, core.Prohibited:
		if !from.IsValid() {
			from = t.server.Addr()
		}
		return icmpError(v, from, t.client.Addr(), t.quote)
	}
	return nil
}

// answers reports whether a SYN+ACK or RST of the server answers the dial of a flow: it
// acknowledges the SYN, and perhaps data of the SYN. In a capture of a relaying box it may
// acknowledge a SYN of the box that the capture lacks: then the side decides.
func (t *track) answers(seg *rewrite.Segment, in *captureInterface) bool {
	across := in.sideKnown && !in.recorded && in.side != t.side
	return seg.Ack-t.isn-1 <= t.data || seg.Ack-t.onward-1 <= t.data || across
}

// capable returns the MP_CAPABLE in the box's SYN+ACK to the client, given the one of the
// server; nil for a client that has not offered version 1. Without a key of the server,
// placeholderKey replaces the key of the box's kernel.
func (t *track) capable(server rewrite.MPTCP) *rewrite.MPCapable {
	if t.side == state.Plain || !t.syn.Capable || t.syn.Version != 1 {
		return nil
	}
	if server.Capable && server.Version == 1 {
		return &rewrite.MPCapable{
			Version: 1, Flags: server.CapableFlags, Form: rewrite.CapableKey, SenderKey: server.SenderKey,
		}
	}
	flags := rewrite.CapableHMACSHA | t.syn.CapableFlags&rewrite.CapableChecksum
	return &rewrite.MPCapable{Version: 1, Flags: flags, Form: rewrite.CapableKey, SenderKey: t.placeholderKey()}
}

// placeholderKey returns the first 64 bits of the SHA-256 of client, server and sequence
// number of the SYN. It is the same in every replay.
func (t *track) placeholderKey() uint64 {
	text := t.client.String() + " " + t.server.String()
	sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(text), t.isn))
	return binary.BigEndian.Uint64(sum[:])
}
