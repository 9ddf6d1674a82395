package encap

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Via is a way to a CPE: the address and port from which its probes come, the socket of the HAG
// at which they come in, and the index of the interface, 0 if it is not known.
type Via struct {
	Addr      netip.AddrPort
	Socket    int
	Interface int
}

const (
	// forgetAfter is the time without a probe after which a CPE's grants are void.
	forgetAfter = 2 * time.Minute
	// sweepEvery is the time between two searches for such CPEs.
	sweepEvery = 10 * time.Second
	// maxBoxes is the largest number of CPEs with grants.
	maxBoxes = lastInner / MaxPaths
)

// Hub is a HAG's end of the encapsulated subflows of all CPEs. It is safe for concurrent use.
type Hub struct {
	Counters

	join   netip.AddrPort
	newKey func() uint64

	mu    sync.RWMutex // guards what follows, and the links but for their last
	boxes map[uint64]*member
	byKey map[uint64]*link
	byLow map[uint16]*link
	next  uint16    // low half of the next inner address, if it is free
	swept time.Time // when CPEs were last forgotten
}

// member is one run of a CPE.
type member struct {
	heard time.Time
	links [MaxPaths]*link
}

// link is a path of a CPE.
type link struct {
	grant  Grant
	remote netip.AddrPort
	via    [2]Via       // over IPv6 and IPv4, as last heard
	last   atomic.Int32 // the one by which a packet came last
}

// NewHub returns a hub whose subflows end at the IPv4 join address. newKey draws keys that
// nobody can guess.
func NewHub(join netip.AddrPort, newKey func() uint64) *Hub {
	return &Hub{
		join: join, newKey: newKey, next: 1,
		boxes: make(map[uint64]*member), byKey: make(map[uint64]*link), byLow: make(map[uint16]*link),
	}
}

// Grant returns what the path of a CPE is given, or has been given already. It reports false
// where there is no room. The caller has made sure that the CPE is at that address.
func (h *Hub) Grant(now time.Time, box uint64, path int, via Via) (Grant, bool) {
	if path < 0 || path >= MaxPaths {
		return Grant{}, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.boxes[box]
	if m == nil {
		if h.sweep(now); len(h.boxes) >= maxBoxes {
			return Grant{}, false
		}
		m = &member{}
		h.boxes[box] = m
	}
	l := m.links[path]
	if l == nil {
		l = &link{grant: Grant{h.freeInner(), h.newKey()}, remote: Remote(path)}
		n, _ := low(l.grant.Inner)
		m.links[path], h.byKey[l.grant.Key], h.byLow[n] = l, l, l
	}
	m.hear(now, l, via)
	return l.grant, true
}

// freeInner returns an inner address that is free: maxBoxes leave some.
func (h *Hub) freeInner() netip.Addr {
	for {
		n := h.next
		if h.next++; h.next > lastInner {
			h.next = 1
		}
		if h.byLow[n] == nil {
			return address(n)
		}
	}
}

// hear notes that a CPE was heard over a path.
func (m *member) hear(now time.Time, l *link, via Via) {
	m.heard = now
	family := familyOf(via.Addr)
	if l.via == ([2]Via{}) {
		l.last.Store(family)
	}
	l.via[family] = via
}

// familyOf returns the index of an address's family in a link's ways.
func familyOf(a netip.AddrPort) int32 {
	if a.Addr().Is4() {
		return 1
	}
	return 0
}

// Heard notes a probe of a CPE over a path: its packets come from there from now on. Of one
// without a grant the hub remembers nothing.
func (h *Hub) Heard(now time.Time, box uint64, path int, via Via) {
	if path < 0 || path >= MaxPaths {
		return
	}
	h.mu.RLock()
	m := h.boxes[box]
	h.mu.RUnlock()
	if m == nil {
		return // most have none
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := m.links[path]; l != nil {
		m.hear(now, l, via)
	}
	m.heard = now
	h.sweep(now)
}

// sweep forgets the CPEs that were not heard of for long, if it is time.
func (h *Hub) sweep(now time.Time) {
	if now.Sub(h.swept) < sweepEvery {
		return
	}
	h.swept = now
	for box, m := range h.boxes {
		if now.Sub(m.heard) <= forgetAfter {
			continue
		}
		delete(h.boxes, box)
		for _, l := range m.links {
			if l != nil {
				n, _ := low(l.grant.Inner)
				delete(h.byKey, l.grant.Key)
				delete(h.byLow, n)
			}
		}
	}
}

// Inbound returns the packet in a datagram that came from an address to a socket, with the join
// address as its destination, for the device. The packet shares the datagram's memory.
func (h *Hub) Inbound(datagram []byte, from netip.AddrPort, socket int) ([]byte, Reason) {
	packet, why := h.inbound(datagram, from, socket)
	h.received[why].Add(1)
	return packet, why
}

func (h *Hub) inbound(datagram []byte, from netip.AddrPort, socket int) ([]byte, Reason) {
	key, packet, ok := parseHeader(datagram)
	if !ok {
		return nil, Malformed
	}
	h.mu.RLock()
	l, family := h.byKey[key], familyOf(from)
	known := l != nil && l.via[family].Addr == from && l.via[family].Socket == socket
	h.mu.RUnlock()
	if !known {
		return nil, Stranger
	}
	s, ok := parseSegment(packet)
	switch {
	case !ok:
		return nil, Malformed
	case s.source().Addr() != l.grant.Inner || s.destination() != l.remote:
		return nil, WrongEnds
	}
	l.last.Store(family)
	s.setDestination(h.join)
	return packet, Passed
}

// Outbound makes a datagram of a packet from the device, which begins at HeaderSize in b, and
// returns its way.
func (h *Hub) Outbound(b []byte) (Via, Reason) {
	via, why := h.outbound(b)
	h.sent[why].Add(1)
	return via, why
}

func (h *Hub) outbound(b []byte) (Via, Reason) {
	s, ok := parseSegment(b[HeaderSize:])
	if !ok {
		return Via{}, Malformed
	}
	n, inner := low(s.destination().Addr())
	if s.source() != h.join || !inner {
		return Via{}, WrongEnds
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	l := h.byLow[n]
	if l == nil {
		return Via{}, Stranger
	}
	s.setSource(l.remote)
	putHeader(b, l.grant.Key)
	return l.via[l.last.Load()], Passed
}

// Outer returns the index of the interface by which the packets of an inner address travel. It
// reports false for an address that was not given.
func (h *Hub) Outer(inner netip.Addr) (index int, ok bool) {
	n, ok := low(inner)
	if !ok {
		return 0, false
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	l := h.byLow[n]
	if l == nil {
		return 0, false
	}
	return l.via[l.last.Load()].Interface, true
}

// Inner returns the inner address of a CPE's path, the zero Addr without one.
func (h *Hub) Inner(box uint64, path int) netip.Addr {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if m := h.boxes[box]; m != nil && path >= 0 && path < MaxPaths && m.links[path] != nil {
		return m.links[path].grant.Inner
	}
	return netip.Addr{}
}
