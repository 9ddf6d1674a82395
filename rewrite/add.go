package rewrite

import "encoding/binary"

// Add puts an MP_CAPABLE option into a SYN and appends the new packet to dst. The
// bytes of the option are the caller's: kind and length included, at most 40. They
// go over Nop padding or behind the last option, see edit.go; options that are
// there keep their order and place, and the payload follows the header as before.
// [Segment.Strip] of the new packet gives the old one, byte for byte.
//
// The error is a [Reason], and then dst is returned as it was: [NotSYN],
// [BadChecksum], [SourceRouted], [Authenticated], [BadOption] (also for an option
// argument that is no MP_CAPABLE), [AlreadyMPTCP], [NoOptionSpace], [TooLong].
// Whether the path carries a packet that has grown is not looked at: up to 40
// bytes, for the version 1 SYN 4.
//
// The caller owns dst; nothing of it is kept. Add does not allocate when dst has
// room for the packet and 40 bytes more. dst may be packet[:0] of the packet that
// was parsed, which is then edited in place, and the Segment with its views no
// longer describes it. It must not overlap that packet otherwise.
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

// checksumNegativeZero reports a checksum of 0xffff in the TCP or the IPv4 header.
// It is as right as zero (RFC 1624, section 3), but no sum gives it, so that an
// update and its inverse end at zero. What Strip could not give back is left alone.
func (s *Segment) checksumNegativeZero() bool {
	return binary.BigEndian.Uint16(s.packet[s.tcp+tcpChecksum:]) == 0xffff ||
		s.packet[0]>>4 == 4 && binary.BigEndian.Uint16(s.packet[ipv4Checksum:]) == 0xffff
}

// findRoom returns where in the list an option of n bytes goes: over the Nop that
// stand there, or else as an insertion.
func findRoom(list []byte, n int) (at int, over bool, err error) {
	run, nops, end := -1, 0, 0 // nops stand directly before end
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

// wordPadding is what n bytes lack to a multiple of four.
func wordPadding(n int) int { return -n & 3 }

func fillNop(b []byte) {
	for i := range b {
		b[i] = optionNop
	}
}
