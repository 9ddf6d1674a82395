package pcaps

import (
	"net/netip"
	"slices"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// seen encodes a packet from the tap, if it belongs to a flow of the box.
func (e *encoder) seen(ev *event) (record, bool) {
	nic := e.nics.of(ev.iface, ev.at)
	if nic == nil {
		return record{}, false
	}
	direction := Inbound
	if ev.outgoing {
		direction = Outbound
	}
	rec := frame(ev.at, nic, direction, ev.packet)
	rec.decode(LinkRaw)
	rec.Data = rec.Packet() // without the padding of Ethernet
	rec.Length = len(rec.Data)
	var seg rewrite.Segment
	if seg.Parse(rec.Data) != nil {
		return rec, e.icmp(&rec, nic)
	}
	mptcp, err := seg.MPTCP()
	if err != nil {
		mptcp = rewrite.MPTCP{} // the segment may still end a flow
	}
	if !e.belongs(&rec, &seg, mptcp) {
		return record{}, false
	}
	e.update(&rec, &seg, nic)
	rec.Data = withChecksum(&seg, rec.Data, 0)
	if seg.Flags&rewrite.SYN == 0 {
		rec.Data = rec.Data[:len(rec.Data)-len(seg.Payload)] // a recording has no application data
	}
	return rec, true
}

// icmp reports whether a packet is an ICMP error about a flow of the box, and adds the
// outcome if the error tells it to the client.
func (e *encoder) icmp(rec *record, nic *nic) bool {
	report, ok := parseICMP(rec.Data)
	if !ok {
		return false
	}
	up, down := keys(report.src, report.dst)
	if !e.ring.has(up) && !e.ring.has(down) {
		return false
	}
	if h := e.handshake(up); h != nil && rec.Direction == Outbound && nic.side == h.nic.side && h.outcome != "" {
		rec.comments = []string{h.outcome}
		e.close(up)
	}
	return true
}

// keys returns the key of a flow with the client src, and of one with the client dst.
func keys(src, dst netip.AddrPort) (up, down state.Key) {
	return state.KeyOf(src, dst), state.KeyOf(dst, src)
}

// belongs reports whether a segment belongs into the recording: to a flow in one of the
// files, or to a new connection of the machine itself with another box.
func (e *encoder) belongs(rec *record, seg *rewrite.Segment, mptcp rewrite.MPTCP) bool {
	up, down := keys(seg.Src, seg.Dst)
	if rec.Direction == Inbound {
		h := e.handshake(down)
		queued := seg.IsSYNACK() && h != nil && h.asks
		if queued || seg.IsSYN() && !slices.Contains(e.join, seg.Dst) {
			return false // the event of the queue has it
		}
	}
	if e.ring.has(up) || e.ring.has(down) {
		return true
	}
	if seg.IsSYN() && (mptcp.Join || mptcp.Capable) {
		rec.key = up // a subflow, or an onward connection from an address of the box
	}
	return rec.key == up
}

// update updates the handshake of a segment, and adds the outcome to the packet that tells
// it to the client.
func (e *encoder) update(rec *record, seg *rewrite.Segment, nic *nic) {
	up, down := keys(seg.Src, seg.Dst)
	if h := e.handshake(down); h != nil && h.nic.side == nic.side && rec.Direction == Outbound {
		if h.outcome != "" {
			rec.comments, h.outcome = []string{h.outcome}, ""
		}
		if seg.IsSYNACK() {
			h.answered, h.answer = true, seg.Seq
		} else {
			e.close(down) // refused or aborted
		}
		return
	}
	h := e.handshake(up)
	switch {
	case h == nil:
	case h.nic.side == nic.side && rec.Direction == Inbound:
		h.acked = h.acked || seg.Flags&(rewrite.ACK|rewrite.SYN) == rewrite.ACK
	case h.outcome != "" && seg.IsSYN(): // the held SYN itself goes on
		rec.comments = []string{h.outcome}
		e.close(up)
	}
}
