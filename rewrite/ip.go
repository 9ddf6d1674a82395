package rewrite

import (
	"encoding/binary"
	"net/netip"
)

// ipv4 is a view of an IPv4 header (RFC 791, section 3.1). Its methods read without
// checks, after the validation by parseIPv4.
type ipv4 []byte

const (
	ipv4MinimumSize = 20

	ipv4TotalLength   = 2
	ipv4FlagsFragment = 6
	ipv4Protocol      = 9
	ipv4Source        = 12
	ipv4Destination   = 16

	// ipv4FragmentMask covers More Fragments and the fragment offset.
	ipv4FragmentMask = 0x3fff
)

func (h ipv4) headerLength() int { return int(h[0]&0x0f) * 4 } // bytes
func (h ipv4) totalLength() int  { return int(binary.BigEndian.Uint16(h[ipv4TotalLength:])) }
func (h ipv4) protocol() uint8   { return h[ipv4Protocol] }
func (h ipv4) fragment() bool {
	return binary.BigEndian.Uint16(h[ipv4FlagsFragment:])&ipv4FragmentMask != 0
}
func (h ipv4) source() netip.Addr      { return netip.AddrFrom4([4]byte(h[ipv4Source:])) }
func (h ipv4) destination() netip.Addr { return netip.AddrFrom4([4]byte(h[ipv4Destination:])) }
func (h ipv4) options() []byte         { return h[ipv4MinimumSize:h.headerLength()] }

// IPv4 options (RFC 791, section 3.1) known to followSourceRoute.
const (
	ipv4OptionEnd  = 0
	ipv4OptionNop  = 1
	ipv4OptionLSRR = 131 // loose source route
	ipv4OptionSSRR = 137 // strict source route
)

// ipResult describes the TCP segment in a packet, from its IP headers.
type ipResult struct {
	// src and dst are the addresses in TCP's pseudo-header: dst is the final
	// destination.
	src, dst netip.Addr
	// routed is set if a source route has hops left: the destination field of the IP
	// header then holds another address than dst.
	routed bool
	// tcp is the offset of the TCP header, and end the offset of the end of the IP
	// payload, both in bytes from the start of the packet.
	tcp, end int
}

// parseIP walks the IP headers of packet up to the TCP header.
func parseIP(packet []byte) (ipResult, error) {
	if len(packet) == 0 {
		return ipResult{}, Truncated
	}
	switch packet[0] >> 4 {
	case 4:
		return parseIPv4(packet)
	case 6:
		return parseIPv6(packet)
	}
	return ipResult{}, BadIPHeader
}

func parseIPv4(packet []byte) (ipResult, error) {
	if len(packet) < ipv4MinimumSize {
		return ipResult{}, Truncated
	}
	h := ipv4(packet)
	header, total := h.headerLength(), h.totalLength()
	if header < ipv4MinimumSize || total < header {
		return ipResult{}, BadIPHeader
	}
	if total > len(packet) {
		return ipResult{}, Truncated
	}
	r := ipResult{src: h.source(), dst: h.destination(), tcp: header, end: total}
	if err := r.followSourceRoute(h.options()); err != nil {
		return ipResult{}, err
	}
	if h.fragment() {
		return ipResult{}, Fragment
	}
	if h.protocol() != protocolTCP {
		return ipResult{}, NotTCP
	}
	return r, nil
}

// followSourceRoute sets the final destination from an IPv4 source route with hops
// left. TCP's pseudo-header holds the final destination (RFC 1122, section 4.2.3.8),
// which is the last entry of the route until the last hop.
func (r *ipResult) followSourceRoute(options []byte) error {
	seen := false
	for len(options) > 0 && options[0] != ipv4OptionEnd {
		if options[0] == ipv4OptionNop {
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return BadIPHeader
		}
		option := options[:options[1]]
		options = options[options[1]:]
		if option[0] != ipv4OptionLSRR && option[0] != ipv4OptionSSRR {
			continue
		}
		// Kind, length, pointer, addresses; the pointer counts from one. Two routes
		// in one datagram are forbidden (RFC 1122, section 3.2.1.8).
		if seen || len(option) < 3 || (len(option)-3)%4 != 0 || option[2] < 4 || option[2]%4 != 0 {
			return BadIPHeader
		}
		seen = true
		// A pointer within the option implies at least one address.
		if int(option[2]) <= len(option) {
			r.dst, r.routed = netip.AddrFrom4([4]byte(option[len(option)-4:])), true
		}
	}
	return nil
}
