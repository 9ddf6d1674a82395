package rewrite

import "encoding/binary"

// DSCP returns the differentiated services code point of the IP header, 0 to 63 (RFC
// 2474, section 3). It is 0 for the zero Segment.
func (s *Segment) DSCP() uint8 {
	switch {
	case len(s.packet) == 0:
		return 0
	case s.packet[0]>>4 == 4:
		return s.packet[ipv4TOS] >> 2
	}
	return uint8(binary.BigEndian.Uint16(s.packet)>>6) & 0x3f
}

// SetDSCP appends the packet to dst with another code point, of which it uses the low
// 6 bits. The ECN bits are unchanged. SetDSCP updates the checksum of an IPv4 header
// (RFC 1624), and a wrong checksum stays wrong; the TCP checksum does not cover the
// field. dst may be packet[:0] of the parsed packet, for an edit in place. The zero
// Segment leaves dst unchanged.
func (s *Segment) SetDSCP(dst []byte, dscp uint8) []byte {
	if len(s.packet) == 0 {
		return dst
	}
	start := len(dst)
	dst = append(dst, s.packet...)
	packet := dst[start:]
	was := binary.BigEndian.Uint16(packet)
	if packet[0]>>4 == 6 {
		binary.BigEndian.PutUint16(packet, was&^(0x3f<<6)|uint16(dscp&0x3f)<<6)
		return dst
	}
	packet[ipv4TOS] = packet[ipv4TOS]&3 | dscp<<2
	updateField(packet[ipv4Checksum:], uint64(was), uint64(binary.BigEndian.Uint16(packet)))
	return dst
}

const ipv4TOS = 1
