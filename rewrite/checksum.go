package rewrite

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// ChecksumOK reports whether the TCP checksum is right, over the whole segment
// and the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1). The
// pseudo-header holds Dst, the final destination. The checksum of an IPv4 header
// is not looked at. A packet that its own host has yet to send may hold a partial
// checksum, which the interface completes (Linux CHECKSUM_PARTIAL): it is not OK.
//
// The zero Segment has no checksum that could be right.
func (s *Segment) ChecksumOK() bool {
	if len(s.packet) == 0 {
		return false
	}
	tcp := s.packet[s.tcp:]
	acc := s.addAddresses(protocolTCP + uint64(len(tcp)))
	return fold(addBytes(acc, tcp)) == 0xffff
}

// addAddresses adds Src and Dst. They are those of the IP header, side by side,
// unless a source route holds Dst.
func (s *Segment) addAddresses(acc uint64) uint64 {
	switch {
	case s.SourceRouted:
		return addAddr(addAddr(acc, s.Src.Addr()), s.Dst.Addr())
	case s.packet[0]>>4 == 4:
		return addBytes(acc, s.packet[ipv4Source:ipv4Destination+4])
	}
	return addBytes(acc, s.packet[ipv6Source:ipv6Size])
}

// headerChecksumOK reports whether the checksum of the IPv4 header is right
// (RFC 791, section 3.1). IPv6 has none.
func (s *Segment) headerChecksumOK() bool {
	return s.packet[0]>>4 != 4 || fold(addBytes(0, s.packet[:s.tcp])) == 0xffff
}

func addAddr(acc uint64, a netip.Addr) uint64 {
	if a.Is4() {
		b := a.As4()
		return addBytes(acc, b[:])
	}
	b := a.As16()
	return addBytes(acc, b[:])
}

// addBytes adds b to a one's complement sum. Eight bytes at a time give the same
// sum as two, folded later: "the sum of 16-bit integers can be computed in any
// order", also in parallel (RFC 1071, section 2 (A) and (C)). An odd last byte
// is padded with zero on the right, so b must start at an even offset of what
// is summed.
func addBytes(acc uint64, b []byte) uint64 {
	var carry, tail uint64
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	if len(b) >= 4 {
		tail = uint64(binary.BigEndian.Uint32(b))
		b = b[4:]
	}
	if len(b) >= 2 {
		tail += uint64(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) == 1 {
		tail += uint64(b[0]) << 8
	}
	acc, carry = bits.Add64(acc, tail, carry)
	return acc + carry // cannot overflow: a carry leaves acc no larger than tail, which has 33 bits
}

// fold reduces a one's complement sum to 16 bits. It is zero only when acc is:
// the sum of words that are not all zero comes out as 0xffff, not as zero.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// updateChecksum replaces a checksum whose words summed up to was, and now sum up
// to now: HC' = ~(~HC + ~m + m') (RFC 1624, section 3, equation 3, with a sum of
// words for m). A right checksum stays right and a wrong one stays wrong.
//
// One's complement has two zeros. Equation 3 never gives the checksum 0xffff, the
// one that a full sum never gives either, as long as now is not zero: here it
// always counts the words that hold a length. The older equation HC - ~m - m'
// (RFC 1141) gives 0xffff where a full sum gives zero (RFC 1624, section 4).
func updateChecksum(checksum uint16, was, now uint64) uint16 {
	return ^fold(uint64(^checksum) + uint64(^fold(was)) + uint64(fold(now)))
}
