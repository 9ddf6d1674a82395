package pcaps

import (
	"errors"
	"syscall"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Packets after the SYN of a flow.

// synack handles the second packet of a handshake. It ends the dial of a flow, or answers
// a learning SYN. cut means that the capture has truncated the options of the packet.
func (r *replay) synack(f *Frame, t *track, packet []byte, cut bool) error {
	m, text := r.optionsOf(cut)
	if t == nil || t.fromClient(&r.seg) {
		return r.answered(f, t, text, packet)
	}
	in := r.iface(f)
	if cut {
		t.mptcp.cut()
	} else {
		r.observe(in, t, m, f.Number)
	}
	if t.sentByBox(f, in) {
		t.answer, t.renumbered = r.seg.Seq, false
		return r.dialShown(f, t, outcome{text: text, answer: answer(&r.seg, packet, t.isn, t.capable(m))})
	}
	switch t.state {
	case state.Dialing:
		if !t.answers(&r.seg, in) {
			break
		}
		t.answer, t.renumbered = r.seg.Seq, r.seg.Ack-t.isn-1 > t.data
		reply := answer(&r.seg, packet, t.isn, t.capable(m))
		return r.dialEnded(f, t, outcome{text: text, answer: reply})
	case state.Released, state.Relaying: // for the box's socket
		r.step(f, t, Server, Box, text)
		return r.omit()
	case state.Rejected: // the box has not forwarded the SYN
		return r.omit()
	}
	if r.isCopy && t.edited {
		return r.omit()
	}
	return r.answered(f, t, text, packet)
}

// answered handles a SYN+ACK that is not for the box's socket. A learning box decides on
// it.
func (r *replay) answered(f *Frame, t *track, text string, packet []byte) error {
	if !r.learns {
		r.step(f, t, Server, Client, text)
		return r.pass(f)
	}
	d, _ := r.packet(f, state.Multipath, packet)
	if t != nil {
		r.sync(t)
		t.edited = d.Verdict == core.Rewrite
	}
	if d.Verdict != core.Rewrite {
		r.step(f, t, Server, Client, text)
		return errors.Join(r.decided(r.cause(f, text), d, ""), r.passDecided(f, d))
	}
	out := describePacket(d.Edited)
	r.step(f, t, Server, Box, text)
	r.step(f, t, Box, Client, out)
	return errors.Join(r.decided(r.cause(f, text), d, out+" → client"), r.writeEdited(f, d, packet))
}

// rst handles a reset.
func (r *replay) rst(f *Frame, t *track) error {
	in, up := r.iface(f), t.fromClient(&r.seg)
	refused := outcome{text: describe(&r.seg, rewrite.MPTCP{}), errno: syscall.ECONNREFUSED}
	switch {
	case t.sentByBox(f, in) && !up:
		return r.dialShown(f, t, refused)
	case t.sentByBox(f, in) || r.isCopy && t.state == state.Refused:
		return r.omit()
	case t.state == state.Dialing && !up && r.seg.Flags&rewrite.ACK != 0 && t.answers(&r.seg, in):
		return r.dialEnded(f, t, refused)
	case t.state == state.Dialing: // a client's reset does not end the dial
		return r.passThrough(f, t, up, refused.text)
	}
	if j := t.mptcp.join; j != nil && !up && !t.acked {
		j.state("refused: reset")
	}
	if id := r.id(t); up && t.state == state.Released {
		r.core.ClientReset(nil, r.now, id)
	} else {
		r.core.Closed(nil, r.now, id, state.Reset)
	}
	r.sync(t)
	return r.passThrough(f, t, up, refused.text)
}

// passThrough copies a packet from one end of the connection to the other.
func (r *replay) passThrough(f *Frame, t *track, up bool, text string) error {
	from, to := Server, Client
	if up {
		from, to = Client, Server
	}
	r.step(f, t, from, to, text)
	return r.pass(f)
}

// id returns the ID of a flow in the core.
func (r *replay) id(t *track) state.ID {
	f, _ := r.core.Flow(t.key)
	return f.ID
}

// fin handles the end of one direction.
func (r *replay) fin(f *Frame, t *track, cut bool) error {
	up := t.fromClient(&r.seg)
	r.acknowledge(f, t, up, cut)
	t.finUp, t.finDown = t.finUp || up, t.finDown || !up
	if t.finUp && t.finDown {
		r.core.Closed(nil, r.now, r.id(t), state.FIN)
		r.sync(t)
	}
	if t.sentByBox(f, r.iface(f)) {
		return r.omit()
	}
	return r.passThrough(f, t, up, describe(&r.seg, rewrite.MPTCP{}))
}

// ack handles any other segment of a flow, mostly data.
func (r *replay) ack(f *Frame, t *track, cut bool) error {
	up, in := t.fromClient(&r.seg), r.iface(f)
	first := r.acknowledge(f, t, up, cut)
	if t.flow != nil && t.mptcp.watched() {
		if !cut {
			r.observeACK(in, t, up)
		} else if first {
			t.mptcp.cut()
		}
	}
	switch {
	case t.sentByBox(f, in):
		return r.omit()
	case first, up && t.listens() && len(r.seg.Payload) == 0:
		return r.thirdACK(f, t, first, cut)
	}
	return r.pass(f)
}

// acknowledge handles the client's first ACK, which completes its handshake, and reports
// whether the segment is that ACK. It may have data or FIN, after a loss of earlier ACKs.
func (r *replay) acknowledge(f *Frame, t *track, up, cut bool) (first bool) {
	if !up || t.acked || r.seg.Flags&rewrite.ACK == 0 || t.state == state.Dialing {
		return false
	}
	if t.state == state.Released && !t.renumbered && int32(r.seg.Ack-t.answer) <= 0 {
		return false
	}
	t.acked, t.reply = true, nil
	r.core.Paired(nil, r.now, r.id(t))
	r.sync(t)
	return true
}

// thirdACK handles the third packet of a handshake, or a repetition of it. For an ACK to
// the box's listener it writes the ACK of the box to the server, without MP_CAPABLE.
func (r *replay) thirdACK(f *Frame, t *track, first, cut bool) error {
	m, text := r.optionsOf(cut)
	switch {
	case t.listens() && m.Capable && r.isCopy:
		return r.omit()
	case t.listens() && m.Capable:
	case first:
		return r.passThrough(f, t, true, text)
	default:
		return r.pass(f)
	}
	r.step(f, t, Client, Box, text)
	out := *f
	out.Replace(withoutCapable(f.Packet(), &r.seg, headerAt(&r.seg, len(f.Packet())+f.Missing())))
	r.step(f, t, Box, Server, describe(&r.seg, rewrite.MPTCP{}))
	return r.write(&out, r.interfaceOn(f, state.Plain))
}

// optionsOf returns the MPTCP options of the current segment, and a text for the segment.
// Truncated and bad options count as none.
func (r *replay) optionsOf(cut bool) (m rewrite.MPTCP, text string) {
	if cut {
		return m, describe(&r.seg, m) + ", options cut off"
	}
	m, _ = r.seg.MPTCP()
	return m, describe(&r.seg, m)
}

// icmp handles an ICMP error. An error about the box's SYN ends the dial: in SYN-SENT the
// kernel gives up at every error (kernel: tcp_v4_err, tcp_v6_err) but those about the path
// MTU.
func (r *replay) icmp(f *Frame, report icmpReport) error {
	key := state.KeyOf(report.src, report.dst)
	t := r.tracks.byKey(key)
	if t == nil {
		return r.pass(f)
	}
	o := outcome{text: report.text, errno: report.errno, from: report.from}
	r.isCopy = t.copied(f, false)
	switch {
	case t.sentByBox(f, r.iface(f)):
		if report.seq != t.isn { // from the machine's kernel to the box's socket
			return r.omit()
		}
		if report.kind == unreachable[core.Prohibited][0] {
			o.errno = syscall.EACCES // the box sends this code for EACCES; a kernel maps it to another errno
		}
		return r.dialShown(f, t, o)
	case r.isCopy && t.state == state.Unreachable:
		return r.omit()
	case t.state == state.Dialing && report.errno != 0 && (report.seq == t.onward || report.seq == t.isn):
		return r.dialEnded(f, t, o)
	}
	return r.passThrough(f, t, false, report.text)
}
