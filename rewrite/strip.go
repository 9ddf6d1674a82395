package rewrite

// Strip takes every MP_CAPABLE option out of a SYN or a SYN+ACK and appends the new
// packet to dst. Nop options come in its place; nothing moves. Only in a SYN whose
// last option is its one MP_CAPABLE, as [Segment.Add] and kernels leave it, the
// option is cut out and the header gets shorter: see edit.go. Without an
// MP_CAPABLE the packet comes out as it went in. Its length and its version do not
// matter; other MPTCP options stay.
//
// The error is a [Reason], and then dst is returned as it was: [NotSYN],
// [BadChecksum], [SourceRouted], [Authenticated], [BadOption].
//
// The caller owns dst; nothing of it is kept. Strip does not allocate when dst has
// room for the packet. dst may be packet[:0] of the packet that was parsed, which
// is then edited in place, and the Segment with its views no longer describes it.
// It must not overlap that packet otherwise.
func (s *Segment) Strip(dst []byte) ([]byte, error) {
	if len(s.packet) == 0 || !s.IsSYN() && !s.IsSYNACK() {
		return dst, NotSYN
	}
	if err := s.editable(); err != nil {
		return dst, err
	}
	var scratch [maximumOptions]byte
	list := scratch[:copy(scratch[:], s.optionBytes())]
	gap, err := eraseCapable(list)
	if err != nil {
		return dst, err
	}
	if s.IsSYN() && gap.size > 0 {
		list = append(list[:gap.at], list[gap.at+gap.size:]...)
	}
	return s.withOptions(dst, list)
}

// gap is a part of an option list that may be cut out: the bytes that Add inserts.
type gap struct{ at, size int }

// eraseCapable writes Nop over each MP_CAPABLE. The gap is not empty if there was
// one MP_CAPABLE, the last element of the list, with the padding before it that Add
// would have put there.
func eraseCapable(list []byte) (gap, error) {
	var g gap
	at, nops, found := 0, 0, 0 // nops stand directly before at
	for at < len(list) && list[at] != optionEnd {
		n, err := elementSize(list[at:])
		if err != nil {
			return gap{}, err
		}
		element := list[at : at+n]
		switch {
		case element[0] == optionNop:
			nops++
		case isCapable(element):
			// Bytes of an option's data may look like Nop: only elements count.
			if pad := wordPadding(n); nops >= pad {
				g = gap{at - pad, pad + n}
			}
			fillNop(element)
			found++
			nops = 0
		default:
			nops = 0
		}
		at += n
	}
	if found != 1 || g.at+g.size != at {
		return gap{}, nil
	}
	return g, nil
}

// isCapable reports whether an option is an MP_CAPABLE of any version and length
// (RFC 8684, section 8: kind 30, subtype 0 in the high nibble of the third byte).
func isCapable(o []byte) bool {
	return len(o) >= 3 && o[0] == optionMPTCP && o[2]>>4 == 0
}
