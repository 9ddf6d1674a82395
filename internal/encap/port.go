package encap

import "net/netip"

// Grant is what a HAG gives a path of a CPE.
type Grant struct {
	Inner netip.Addr // the CPE's end of the path's encapsulated subflows
	Key   uint64
}

// Valid reports whether the grant may have come from a HAG.
func (g Grant) Valid() bool {
	n, ok := low(g.Inner)
	return ok && n > 0 && n <= lastInner
}

// Port is a CPE's end of a path. It is safe for concurrent use.
type Port struct {
	grant    Grant
	remote   netip.AddrPort
	counters *Counters
}

// NewPort returns the end of a path with that index and grant.
func NewPort(path int, g Grant, c *Counters) *Port { return &Port{g, Remote(path), c} }

// Inbound returns the packet in a datagram, for the device. The packet shares its memory.
func (p *Port) Inbound(datagram []byte) ([]byte, Reason) {
	packet, why := p.inbound(datagram)
	p.counters.received[why].Add(1)
	return packet, why
}

func (p *Port) inbound(datagram []byte) ([]byte, Reason) {
	key, packet, ok := parseHeader(datagram)
	if !ok {
		return nil, Malformed
	}
	if key != p.grant.Key {
		return nil, Stranger
	}
	s, ok := parseSegment(packet)
	switch {
	case !ok:
		return nil, Malformed
	case s.source() != p.remote || s.destination().Addr() != p.grant.Inner:
		return nil, WrongEnds
	}
	return packet, Passed
}

// Outbound makes a datagram of a packet from the device, which begins at HeaderSize in b.
func (p *Port) Outbound(b []byte) Reason {
	why := p.outbound(b)
	p.counters.sent[why].Add(1)
	return why
}

func (p *Port) outbound(b []byte) Reason {
	s, ok := parseSegment(b[HeaderSize:])
	switch {
	case !ok:
		return Malformed
	case s.source().Addr() != p.grant.Inner || s.destination() != p.remote:
		return WrongEnds
	}
	putHeader(b, p.grant.Key)
	return Passed
}
