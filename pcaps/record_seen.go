package pcaps

import (
	"net/netip"
	"slices"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// seen records a packet by the tap, if it belongs to a flow of the box.
func (s *scribe) seen(n *note) (record, bool) {
	nic := s.nics.of(n.iface, n.at)
	if nic == nil {
		return record{}, false
	}
	direction := Inbound
	if n.outgoing {
		direction = Outbound
	}
	rec := frame(n.at, nic, direction, n.packet)
	rec.decode(LinkRaw)
	rec.Data = rec.Packet() // without the padding of Ethernet
	rec.Length = len(rec.Data)
	var seg rewrite.Segment
	if seg.Parse(rec.Data) != nil {
		return rec, s.report(&rec, nic)
	}
	mptcp, err := seg.MPTCP()
	if err != nil {
		mptcp = rewrite.MPTCP{} // the segment may end a flow all the same
	}
	if !s.concerns(&rec, &seg, mptcp) {
		return record{}, false
	}
	s.follow(&rec, &seg, nic)
	rec.Data = withChecksum(&seg, rec.Data, 0)
	if seg.Flags&rewrite.SYN == 0 {
		rec.Data = rec.Data[:len(rec.Data)-len(seg.Payload)] // what the ends say is their own business
	}
	return rec, true
}

// report takes up an ICMP error about a flow of the box.
func (s *scribe) report(rec *record, nic *nic) bool {
	about, ok := parseICMP(rec.Data)
	if !ok {
		return false
	}
	up, down := keys(about.src, about.dst)
	if !s.ring.has(up) && !s.ring.has(down) {
		return false
	}
	if o := s.opening(up); o != nil && rec.Direction == Outbound && nic.side == o.nic.side && o.outcome != "" {
		rec.comments = []string{o.outcome}
		s.close(up)
	}
	return true
}

// keys returns those of the flow that src has opened, and of the one that dst has.
func keys(src, dst netip.AddrPort) (up, down state.Key) {
	return state.KeyOf(src, dst), state.KeyOf(dst, src)
}

// concerns tells whether the recording needs a segment: of a flow that it has, or
// of a new one that a box itself opens or takes.
func (s *scribe) concerns(rec *record, seg *rewrite.Segment, mptcp rewrite.MPTCP) bool {
	up, down := keys(seg.Src, seg.Dst)
	if rec.Direction == Inbound {
		o := s.opening(down)
		asked := seg.IsSYNACK() && o != nil && o.asks
		if asked || seg.IsSYN() && !slices.Contains(s.join, seg.Dst) {
			return false // comes by the queue
		}
	}
	if s.ring.has(up) || s.ring.has(down) {
		return true
	}
	if seg.IsSYN() && (mptcp.Join || mptcp.Capable) {
		rec.key = up // a subflow, or an onward connection from an address of the box
	}
	return rec.key == up
}

// follow keeps up with the handshake that a segment is part of, and comments on
// the packet that tells a client the outcome.
func (s *scribe) follow(rec *record, seg *rewrite.Segment, nic *nic) {
	up, down := keys(seg.Src, seg.Dst)
	if o := s.opening(down); o != nil && o.nic.side == nic.side && rec.Direction == Outbound {
		if o.outcome != "" {
			rec.comments, o.outcome = []string{o.outcome}, ""
		}
		if seg.IsSYNACK() {
			o.answered, o.answer = true, seg.Seq
		} else {
			s.close(down) // refused, or given up
		}
		return
	}
	o := s.opening(up)
	switch {
	case o == nil:
	case o.nic.side == nic.side && rec.Direction == Inbound:
		o.acked = o.acked || seg.Flags&(rewrite.ACK|rewrite.SYN) == rewrite.ACK
	case o.outcome != "" && seg.IsSYN(): // let through after all
		rec.comments = []string{o.outcome}
		s.close(up)
	}
}
