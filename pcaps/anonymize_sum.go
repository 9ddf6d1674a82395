package pcaps

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/synbond/synbond/rewrite"
)

// sums sets a checksum such that it is as right as it was.
type sums struct {
	field   int    // offset of the checksum
	pseudo  []byte // header in front of the new bytes, and of the old ones
	old     []byte
	unused  bool // a checksum of 0 is none
	missing bool // bytes at the end are not there: the old one counts as right
}

// set writes the checksum of the new bytes.
func (s *sums) set(out, in []byte) {
	if len(out) < s.field+2 {
		return
	}
	field := out[s.field : s.field+2]
	stored := binary.BigEndian.Uint16(in[s.field:])
	clear(field)
	right := rewrite.Checksum(s.pseudo, out)
	if right == 0 && s.unused {
		right = 0xffff
	}
	partial := ^rewrite.Checksum(s.old) // left for the network card
	switch {
	case stored == 0 && s.unused:
		return
	case s.missing, rewrite.Checksum(s.old, in) == 0:
		binary.BigEndian.PutUint16(field, right)
	case s.pseudo != nil && stored == partial:
		binary.BigEndian.PutUint16(field, ^rewrite.Checksum(s.pseudo))
	case stored == 0:
	default:
		binary.BigEndian.PutUint16(field, right+1)
	}
}

// transportSum sets the checksum of a transport header, from that header on, with a length on
// the wire. Packets are given from their IP headers on.
func (m *mapper) transportSum(out, in, header, was []byte, field int, protocol uint8, length int) {
	s := sums{field: field, missing: len(was) < length, unused: protocol == protocolUDP}
	header, was = header[:min(len(header), max(length, 0))], was[:min(len(was), max(length, 0))]
	if protocol != protocolICMP {
		src, dst := addresses(out)
		s.pseudo = pseudoHeader(src, dst, protocol, length)
		src, dst = addresses(in)
		s.old = pseudoHeader(src, dst, protocol, length)
	}
	s.set(header, was)
}

// putFCS writes the frame check sequence at the end of a frame.
func putFCS(b []byte) {
	body := len(b) - fcsSize
	binary.LittleEndian.PutUint32(b[body:], crc32.ChecksumIEEE(b[:body]))
}
