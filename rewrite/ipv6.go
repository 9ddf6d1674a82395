package rewrite

import (
	"encoding/binary"
	"net/netip"
)

// ipv6 is a view of an IPv6 header (RFC 8200, section 3). Its methods read without
// checks, after parseIPv6 has checked the length.
type ipv6 []byte

const (
	ipv6Size = 40

	ipv6PayloadLength = 4
	ipv6NextHeader    = 6
	ipv6Source        = 8
	ipv6Destination   = 24
)

func (h ipv6) payloadLength() int      { return int(binary.BigEndian.Uint16(h[ipv6PayloadLength:])) }
func (h ipv6) nextHeader() uint8       { return h[ipv6NextHeader] }
func (h ipv6) source() netip.Addr      { return netip.AddrFrom16([16]byte(h[ipv6Source:])) }
func (h ipv6) destination() netip.Addr { return netip.AddrFrom16([16]byte(h[ipv6Destination:])) }

// Protocol numbers known to cutExtension (IANA "Protocol Numbers" and "IPv6 Extension
// Header Types").
const (
	protocolHopByHop    = 0
	protocolTCP         = 6
	protocolRouting     = 43
	protocolFragment    = 44
	protocolAH          = 51
	protocolNoNext      = 59
	protocolDestination = 60
	protocolMobility    = 135
	protocolHIP         = 139
	protocolShim6       = 140
	// From here on numbers are unassigned or experimental: such a header may be an
	// extension header before a TCP header, or not (RFC 7045, section 2.1).
	protocolFirstUnassigned = 148
)

// extension is a view of one IPv6 extension header, header and data.
type extension []byte

const (
	// ipv6FragmentMask covers the fragment offset and M (RFC 8200, section 4.5).
	ipv6FragmentMask = 0xfff9
	fragmentSize     = 8
	// authenticationMinimum is the fixed part of AH in bytes (RFC 4302, section 2).
	authenticationMinimum = 12
	// jumboPayload is the type of the hop-by-hop option of jumbograms (RFC 2675,
	// section 2).
	jumboPayload = 0xc2
	// homeAddress is the type of the destination option with the home address of a
	// mobile node (RFC 6275, section 6.3).
	homeAddress = 0xc9
)

// parseIPv6 walks the extension headers up to the TCP header. Their number needs no
// bound: each has at least eight bytes of the packet.
func parseIPv6(packet []byte) (ipResult, error) {
	if len(packet) < ipv6Size {
		return ipResult{}, Truncated
	}
	h := ipv6(packet)
	end := ipv6Size + h.payloadLength()
	if end > len(packet) {
		return ipResult{}, Truncated
	}
	next := h.nextHeader()
	if end == ipv6Size && next != protocolNoNext {
		return ipResult{}, BadIPHeader // a jumbogram (RFC 2675, section 3)
	}
	r := ipResult{src: h.source(), dst: h.destination(), tcp: ipv6Size, end: end}
	for next != protocolTCP {
		if next == protocolHopByHop && r.tcp != ipv6Size {
			return ipResult{}, BadIPHeader // allowed only as the first header (RFC 8200, section 4.1)
		}
		x, err := cutExtension(next, packet[r.tcp:end])
		if err != nil {
			return ipResult{}, err
		}
		if err := r.applyExtension(next, x); err != nil {
			return ipResult{}, err
		}
		next = x[0]
		r.tcp += len(x)
	}
	return r, nil
}

// cutExtension returns the extension header of the given kind at the start of
// payload. The error is the reason why no TCP header can be found behind it.
func cutExtension(kind uint8, payload []byte) (extension, error) {
	switch kind {
	case protocolHopByHop, protocolRouting, protocolFragment, protocolAH, protocolDestination:
	case protocolMobility, protocolHIP, protocolShim6:
		return nil, UnknownExtensionHeader
	default:
		if kind >= protocolFirstUnassigned {
			return nil, UnknownExtensionHeader
		}
		return nil, NotTCP
	}
	if len(payload) < 8 {
		return nil, BadIPHeader
	}
	size := 8 + int(payload[1])*8 // RFC 8200, sections 4.3, 4.4 and 4.6
	switch kind {
	case protocolFragment:
		size = fragmentSize // its second byte is reserved
	case protocolAH:
		size = 8 + int(payload[1])*4 // counts words (RFC 4302, section 2.2)
		if size < authenticationMinimum {
			return nil, BadIPHeader
		}
	}
	if size > len(payload) {
		return nil, BadIPHeader
	}
	return payload[:size], nil
}

// applyExtension refuses fragments, jumbograms and packets from a home address, and
// takes the final destination from a routing header.
func (r *ipResult) applyExtension(kind uint8, x extension) error {
	switch kind {
	case protocolFragment:
		if binary.BigEndian.Uint16(x[2:])&ipv6FragmentMask != 0 {
			return Fragment
		}
	case protocolRouting:
		return r.followRouting(x)
	case protocolHopByHop:
		// Beside a payload length other than zero the option of jumbograms is an error
		// (RFC 2675, section 3).
		if has, ok := x.hasOption(jumboPayload); has || !ok {
			return BadIPHeader
		}
	case protocolDestination:
		// The home address replaces the source in TCP's pseudo-header (RFC 6275, section
		// 9.3.1). A malformed option is for the destination to refuse.
		if has, _ := x.hasOption(homeAddress); has {
			return UnknownExtensionHeader
		}
	}
	return nil
}

// hasOption reports whether a hop-by-hop or a destination options header has an option
// of the type, and whether the options up to there are well-formed (RFC 8200, section
// 4.2).
func (x extension) hasOption(kind uint8) (has, ok bool) {
	for options := x[2:]; len(options) > 0; {
		if options[0] == 0 { // Pad1 has no length
			options = options[1:]
			continue
		}
		if len(options) < 2 || 2+int(options[1]) > len(options) {
			return false, false
		}
		if options[0] == kind {
			return true, true
		}
		options = options[2+int(options[1]):]
	}
	return false, true
}

// Routing types with a known place of the final destination.
const (
	routingSource   = 0 // RFC 2460, section 4.4; deprecated by RFC 5095
	routingMobility = 2 // RFC 6275, section 6.4
	routingSegment  = 4 // RFC 8754, section 2
)

// followRouting sets the final destination from a routing header with segments left.
// TCP's pseudo-header holds the final destination (RFC 8200, section 8.1). Without
// segments left the IPv6 header has that address already.
func (r *ipResult) followRouting(x extension) error {
	segmentsLeft, addresses := int(x[3]), (len(x)-8)/16
	if segmentsLeft == 0 {
		return nil
	}
	last := addresses - 1
	switch x[2] {
	case routingSource, routingMobility:
		if (len(x)-8)%16 != 0 || segmentsLeft > addresses {
			return BadIPHeader
		}
		if x[2] == routingMobility && addresses != 1 {
			return BadIPHeader
		}
	case routingSegment:
		// The list is in reverse order. A reduced list leaves out the first segment, so
		// that segmentsLeft may point one beyond the last entry (section 4.1.1).
		lastEntry := int(x[4])
		if lastEntry >= addresses || segmentsLeft > lastEntry+1 {
			return BadIPHeader
		}
		last = 0
	default:
		return UnknownExtensionHeader
	}
	r.dst, r.routed = netip.AddrFrom16([16]byte(x[8+16*last:])), true
	return nil
}
