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
	acc := addAddr(addAddr(protocolTCP+uint64(len(tcp)), s.Src.Addr()), s.Dst.Addr())
	return fold(addBytes(acc, tcp)) == 0xffff
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
	var carry uint64
	for len(b) >= 8 {
		acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(b), carry)
		b = b[8:]
	}
	var tail [8]byte
	copy(tail[:], b)
	acc, carry = bits.Add64(acc, binary.BigEndian.Uint64(tail[:]), carry)
	return acc + carry // cannot overflow: the last byte of tail is zero, which leaves room
}

// fold reduces a one's complement sum to 16 bits.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}
