package rewrite

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// ChecksumOK reports whether the TCP checksum is correct, over the whole segment
// and the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1). The
// pseudo-header holds Dst, the final destination. ChecksumOK does not verify the
// checksum of the IPv4 header.
//
// The result is false for a partial checksum, as a host leaves it to its network
// interface (Linux CHECKSUM_PARTIAL), and for the zero Segment.
func (s *Segment) ChecksumOK() bool {
	if len(s.packet) == 0 {
		return false
	}
	tcp := s.packet[s.tcp:]
	acc := s.addAddresses(protocolTCP + uint64(len(tcp)))
	return fold(addBytes(acc, tcp)) == 0xffff
}

// addAddresses adds Src and Dst to a sum. The IP header has both side by side,
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

// headerChecksumOK reports whether the checksum of the IPv4 header is correct
// (RFC 791, section 3.1). IPv6 has no header checksum: true.
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

// addBytes adds b to a one's complement sum. Eight bytes at a time, folded later,
// give the same sum as two at a time: "the sum of 16-bit integers can be computed in
// any order", also in parallel (RFC 1071, section 2 (A) and (C)). An odd last byte
// is padded with zero on the right, so b must start at an even offset of the
// checksummed data.
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

// fold reduces a one's complement sum to 16 bits. The result is zero only for an
// acc of zero: words with a sum of zero that are not all zero give 0xffff.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// updateChecksum returns a checksum after a change of some words, with the sum was
// before and the sum now after the change: HC' = ~(~HC + ~m + m') (RFC 1624, section
// 3, equation 3, with a sum of words for m). A correct checksum stays correct and a
// wrong checksum stays wrong.
//
// One's complement has two zeros. Neither a full sum nor equation 3 yields the
// checksum 0xffff, provided that now is not zero: in this package now always
// includes a word with a length. The older equation HC - ~m - m' (RFC 1141) yields
// 0xffff where a full sum yields zero (RFC 1624, section 4).
func updateChecksum(checksum uint16, was, now uint64) uint16 {
	return ^fold(uint64(^checksum) + uint64(^fold(was)) + uint64(fold(now)))
}
