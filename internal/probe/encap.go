//go:build linux

package probe

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/synbond/synbond/internal/encap"
	"github.com/synbond/synbond/internal/paths"
)

// The datagrams of encapsulated subflows travel over the UDP connections of the probes, which
// pass NATs and show who is at which address. A CPE asks for what it needs in an extended probe.

// Encapsulator is a HAG's end of encapsulated subflows. Its methods are called by several
// goroutines, and must not block.
type Encapsulator interface {
	// Grant returns what a path of a CPE is given whose address is confirmed, and reports
	// whether there is something to give.
	Grant(now time.Time, box uint64, path int, via encap.Via) (encap.Grant, bool)
	// Heard notes a probe of a CPE whose address is confirmed.
	Heard(now time.Time, box uint64, path int, via encap.Via)
	// Inner returns the inner address of a CPE's path, the zero Addr without one.
	Inner(box uint64, path int) netip.Addr
	// Take takes a datagram from that address that has come to the socket with that index.
	Take(datagram []byte, from netip.AddrPort, socket int)
}

// Encapsulate gives a HAG its end of encapsulated subflows, before Run.
func (r *Responder) Encapsulate(e Encapsulator) { r.encap = e }

// Send sends a datagram of an encapsulated subflow. It returns an error if there is no such
// socket.
func (r *Responder) Send(datagram []byte, via encap.Via) error {
	if via.Socket < 0 || via.Socket >= len(r.conns) {
		return net.ErrClosed
	}
	_, err := r.conns[via.Socket].WriteToUDPAddrPort(datagram, via.Addr)
	return err
}

// via returns the way to the sender of the present probe.
func (r *replier) via(source netip.AddrPort) encap.Via {
	return encap.Via{Addr: source, Socket: r.socket, Interface: r.index}
}

// grant returns what the path of a probe is given, zero for nothing.
func (r *replier) grant(now time.Time, m message, source netip.AddrPort) encap.Grant {
	if r.encap == nil {
		return encap.Grant{}
	}
	g, _ := r.encap.Grant(now, m.box, int(m.path), r.via(source))
	return g
}

// heard notes a probe, and returns the inner address of its path.
func (r *replier) heard(now time.Time, m message, source netip.AddrPort) netip.Addr {
	if r.encap == nil {
		return netip.Addr{}
	}
	r.encap.Heard(now, m.box, int(m.path), r.via(source))
	return r.encap.Inner(m.box, int(m.path))
}

// Reasons for which a HAG gives nothing.
const (
	denialOld  = "the HAG's box is older, and knows no encapsulation"
	denialNone = "the HAG cannot encapsulate: see its `synbond doctor`"
)

// encapsulation is what a CPE's monitor knows about the encapsulated subflows of a path.
type encapsulation struct {
	offer  paths.Offer
	asked  bool
	first  uint64                 // sequence of the first probe that asked
	outlet atomic.Pointer[prober] // over which datagrams are sent, nil for none
}

// Want says on which paths subflows are to be encapsulated, a bit each. The HAG's answer is in
// their statuses. It may be called from any goroutine.
func (m *Monitor) Want(all uint8) { m.wanted.Store(uint32(all)) }

// Deliver has the datagrams of encapsulated subflows delivered; it is called before Run. The
// datagram is valid until the function returns, which must not block.
func (m *Monitor) Deliver(deliver func(path int, datagram []byte)) { m.deliver = deliver }

// Send sends a datagram of an encapsulated subflow over a path. It may be called from any
// goroutine.
func (m *Monitor) Send(path int, datagram []byte) error {
	at := m.paths[path].encap.outlet.Load()
	if at == nil {
		return net.ErrClosed
	}
	_, err := at.conn.Write(datagram)
	return err
}

// wants reports whether the subflows of a path are to be encapsulated.
func (m *Monitor) wants(p *path) bool { return m.wanted.Load()>>p.index&1 != 0 }

// asks reports whether the HAG has yet to say whether it can encapsulate.
func (m *Monitor) asks(p *path) bool { return m.wants(p) && p.encap.offer == (paths.Offer{}) }

// askAgain has the next probes of a path ask again: the HAG may have forgotten the path.
func (p *path) askAgain() {
	for _, at := range p.probers {
		if at != nil {
			at.asked = time.Time{}
		}
	}
}

// sent notes that an extended probe was sent.
func (e *encapsulation) sent(m message) {
	if m.encap && !e.asked {
		e.asked, e.first = true, m.sequence
	}
	e.asked = e.asked && m.encap
}

// replied takes the HAG's answer, if a reply has one.
func (e *encapsulation) replied(m message) {
	switch {
	case !e.asked || m.sequence < e.first || m.size == 0:
	case m.grant.Valid():
		e.offer = paths.Offer{Inner: m.grant.Inner, Key: m.grant.Key}
	case m.encap:
		e.offer = paths.Offer{Denial: denialNone}
	default:
		e.offer = paths.Offer{Denial: denialOld}
	}
}

// outlet returns the prober over which datagrams are sent: that of IPv4 if both can, whose
// headers are shorter.
func (p *path) outlet() *prober {
	for _, at := range []*prober{p.probers[1], p.probers[0]} {
		if at != nil && at.confirmed && !at.silent() {
			return at
		}
	}
	return nil
}
