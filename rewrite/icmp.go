package rewrite

import (
	"encoding/binary"
	"net/netip"
)

// ICMPError is an ICMP or ICMPv6 "destination unreachable" (RFC 792; RFC 4443,
// section 3.1) about a TCP segment.
type ICMPError struct {
	Code uint8 // of the error; what it means depends on the family of Src
	// Src, Dst and Seq are those of the segment that the error quotes.
	Src, Dst netip.AddrPort
	Seq      uint32
}

const (
	protocolICMP   = 1
	protocolICMPv6 = 58

	icmpUnreachable   = 3
	icmpv6Unreachable = 1
	// icmpSize is type, code, checksum and four bytes that depend on the type.
	icmpSize = 8
	// quotedTCP is how much of the TCP header every error quotes: ports and sequence number.
	quotedTCP = 8
)

// Parse reads a packet that starts at its IP header. The error is a [Reason]:
// NotTCP when the packet is no such error, or quotes no TCP segment. Extension
// headers, of the packet or the quoted one, are not walked. Checksums are not
// verified.
func (e *ICMPError) Parse(packet []byte) error {
	*e = ICMPError{}
	_, _, protocol, message, err := cutIP(packet)
	if err != nil {
		return err
	}
	if protocol != protocolICMP && protocol != protocolICMPv6 {
		return NotTCP
	}
	if len(message) < icmpSize {
		return Truncated
	}
	unreachable := map[uint8]uint8{protocolICMP: icmpUnreachable, protocolICMPv6: icmpv6Unreachable}[protocol]
	if message[0] != unreachable {
		return NotTCP
	}
	src, dst, protocol, quoted, err := cutIP(message[icmpSize:])
	switch {
	case err != nil:
		return err
	case protocol != protocolTCP:
		return NotTCP
	case len(quoted) < quotedTCP:
		return Truncated
	}
	e.Code = message[1]
	e.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(quoted[tcpSourcePort:]))
	e.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(quoted[tcpDestinationPort:]))
	e.Seq = binary.BigEndian.Uint32(quoted[tcpSequence:])
	return nil
}

// cutIP cuts the fixed IP header, and IPv4 options, off a packet that may end
// before its length says: an error quotes only the start of one.
func cutIP(packet []byte) (src, dst netip.Addr, protocol uint8, payload []byte, err error) {
	if len(packet) == 0 {
		return src, dst, 0, nil, Truncated
	}
	switch packet[0] >> 4 {
	case 4:
		if len(packet) < ipv4MinimumSize {
			return src, dst, 0, nil, Truncated
		}
		h := ipv4(packet)
		header := h.headerLength()
		if header < ipv4MinimumSize {
			return src, dst, 0, nil, BadIPHeader
		}
		if header > len(packet) {
			return src, dst, 0, nil, Truncated
		}
		if h.fragment() {
			return src, dst, 0, nil, Fragment
		}
		return h.source(), h.destination(), h.protocol(), packet[header:], nil
	case 6:
		if len(packet) < ipv6Size {
			return src, dst, 0, nil, Truncated
		}
		h := ipv6(packet)
		return h.source(), h.destination(), h.nextHeader(), packet[ipv6Size:], nil
	}
	return src, dst, 0, nil, BadIPHeader
}
