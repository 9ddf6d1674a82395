package encap

import (
	"encoding/binary"
	"net/netip"
)

// segment is an IPv4 packet with a whole TCP segment, as parseSegment has checked it. Its
// methods read and write within the packet.
type segment []byte

// Offsets in the IPv4 header (RFC 791, section 3.1) and in the TCP header (RFC 9293, section 3.1).
const (
	ipLength      = 2
	ipFragment    = 6
	ipProtocol    = 9
	ipChecksum    = 10
	ipSource      = 12
	ipDestination = 16
	ipHeader      = 20 // without options

	tcpSource      = 0
	tcpDestination = 2
	tcpChecksum    = 16
	tcpHeader      = 20 // without options

	protocolTCP  = 6
	fragmentBits = 0x3fff // more fragments, and the offset
)

// parseSegment reports whether b is an IPv4 packet with a whole TCP segment, and nothing else.
func parseSegment(b []byte) (segment, bool) {
	if len(b) < ipHeader+tcpHeader || b[0]>>4 != 4 || b[0]&15 < ipHeader/4 {
		return nil, false
	}
	s := segment(b)
	if int(binary.BigEndian.Uint16(b[ipLength:])) != len(b) || s.tcp()+tcpHeader > len(b) ||
		b[ipProtocol] != protocolTCP || binary.BigEndian.Uint16(b[ipFragment:])&fragmentBits != 0 {
		return nil, false
	}
	return s, true
}

// tcp returns the offset of the TCP header.
func (s segment) tcp() int { return int(s[0]&15) * 4 }

func (s segment) source() netip.AddrPort      { return s.end(ipSource, tcpSource) }
func (s segment) destination() netip.AddrPort { return s.end(ipDestination, tcpDestination) }

// end returns the end whose address and port are at these offsets.
func (s segment) end(addr, port int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s[addr:])), binary.BigEndian.Uint16(s[s.tcp()+port:]))
}

func (s segment) setSource(to netip.AddrPort)      { s.setEnd(ipSource, tcpSource, to) }
func (s segment) setDestination(to netip.AddrPort) { s.setEnd(ipDestination, tcpDestination, to) }

// setEnd changes an end, and the checksums by the difference: a segment that was damaged before
// stays so for its receiver.
func (s segment) setEnd(addr, port int, to netip.AddrPort) {
	tcp := s.tcp()
	four := to.Addr().As4()
	var ip, both difference
	for i := 0; i < len(four); i += 2 {
		ip.word(s[addr+i:], four[i:])
	}
	both = ip // the pseudo-header has the addresses, too
	both.word(s[tcp+port:], binary.BigEndian.AppendUint16(nil, to.Port()))
	ip.apply(s[ipChecksum:])
	both.apply(s[tcp+tcpChecksum:])
	copy(s[addr:], four[:])
	binary.BigEndian.PutUint16(s[tcp+port:], to.Port())
}

// difference is what changed words add to a checksum: the sum of ~m + m' in RFC 1624, section 3.
type difference uint32

// word adds the change of a word.
func (d *difference) word(before, after []byte) {
	*d += difference(^binary.BigEndian.Uint16(before)) + difference(binary.BigEndian.Uint16(after))
}

// apply changes a checksum: HC' = ~(~HC + ~m + m'), equation 3.
func (d difference) apply(checksum []byte) {
	sum := uint32(^binary.BigEndian.Uint16(checksum)) + uint32(d)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(checksum, ^uint16(sum))
}
