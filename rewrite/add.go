package rewrite

import "encoding/binary"

// Add inserts an MP_CAPABLE option into a SYN and appends the new packet to dst.
// option holds the whole option, kind and length included: 4 to 40 bytes, such as
// [MPCapable.Append] makes them. Add writes the option over Nop padding, or behind
// the last option (edit.go has the rules). The other options keep their order, and
// the payload is unchanged. [Segment.Strip] of the new packet returns the old
// packet, byte for byte.
//
// The new packet is longer than the old one by up to 40 bytes (4 bytes for the
// version 1 SYN). Add does not know the path's MTU.
//
// The error is a [Reason], and Add then returns dst unchanged: [NotSYN],
// [BadChecksum], [SourceRouted], [Authenticated], [BadOption] (also for an option
// argument that is not an MP_CAPABLE), [AlreadyMPTCP], [NoOptionSpace], [TooLong].
//
// The caller owns dst; Add keeps no reference to it. Add does not allocate if dst
// has room for the packet and 40 bytes more. dst may be packet[:0] of the parsed
// packet: Add then edits that packet in place, and the Segment and its views are no
// longer valid. dst must not overlap the packet in any other way.
func (s *Segment) Add(dst, option []byte) ([]byte, error) {
	if !isCapable(option) || len(option) < capableBareSize || len(option) != int(option[1]) {
		return dst, BadOption
	}
	if len(s.packet) == 0 || !s.IsSYN() {
		return dst, NotSYN
	}
	if err := s.editable(); err != nil {
		return dst, err
	}
	if s.checksumNegativeZero() {
		return dst, BadChecksum
	}
	var scratch [maximumOptions]byte
	list := scratch[:copy(scratch[:], s.optionBytes())]
	at, over, err := findRoom(list, len(option))
	if err != nil {
		return dst, err
	}
	if !over {
		pad := wordPadding(len(option))
		if list, err = openGap(&scratch, len(list), at, pad+len(option)); err != nil {
			return dst, err
		}
		fillNop(list[at : at+pad])
		at += pad
	}
	copy(list[at:], option)
	return s.withOptions(dst, list)
}

// checksumNegativeZero reports whether the TCP or the IPv4 header has the checksum
// 0xffff. A receiver accepts 0xffff where it accepts zero (RFC 1624, section 3), but
// no sum yields 0xffff: an update and its inverse end at zero. Strip could not
// restore such a packet, so Add refuses it.
func (s *Segment) checksumNegativeZero() bool {
	return binary.BigEndian.Uint16(s.packet[s.tcp+tcpChecksum:]) == 0xffff ||
		s.packet[0]>>4 == 4 && binary.BigEndian.Uint16(s.packet[ipv4Checksum:]) == 0xffff
}

// findRoom returns the offset in the list for an option of n bytes, and whether the
// option overwrites Nop there. Otherwise the option is to be inserted.
func findRoom(list []byte, n int) (at int, over bool, err error) {
	run, nops, end := -1, 0, 0 // nops: the number of Nop directly before end
	for end < len(list) && list[end] != optionEnd {
		size, err := elementSize(list[end:])
		if err != nil {
			return 0, false, err
		}
		switch {
		case list[end] == optionNop:
			nops++
			if run < 0 && nops > n {
				run = end - n
			}
		case list[end] == optionMPTCP:
			return 0, false, AlreadyMPTCP
		default:
			if run < 0 && nops == n {
				run = end - n
			}
			nops = 0
		}
		end += size
	}
	if run >= 0 {
		return run, true, nil
	}
	return end, false, nil
}

// openGap makes room for n bytes at an offset of the list that fills the first size
// bytes of scratch, and returns the longer list.
func openGap(scratch *[maximumOptions]byte, size, at, n int) ([]byte, error) {
	if size+n > maximumOptions {
		return nil, NoOptionSpace
	}
	copy(scratch[at+n:size+n], scratch[at:size])
	return scratch[:size+n], nil
}

// wordPadding returns the number of bytes from n to the next multiple of four.
func wordPadding(n int) int { return -n & 3 }

func fillNop(b []byte) {
	for i := range b {
		b[i] = optionNop
	}
}
