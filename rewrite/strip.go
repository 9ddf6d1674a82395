package rewrite

// Strip removes every MP_CAPABLE option from a SYN or a SYN+ACK, whatever the option's
// length and version, and appends the new packet to dst. Other MPTCP options are
// unchanged. Strip overwrites MP_CAPABLE with Nop, and no other byte moves, with one
// exception: in a SYN with a single MP_CAPABLE as the last option, as [Segment.Add]
// and kernels write it, Strip cuts the option out, and the header gets shorter (see
// edit.go). A packet without MP_CAPABLE is appended unchanged.
//
// The error is a [Reason], and Strip then returns dst unchanged: [NotSYN],
// [BadChecksum], [SourceRouted], [Authenticated], [BadOption].
//
// The caller owns dst; Strip keeps no reference to it. Strip does not allocate if dst
// has room for the packet. dst may be packet[:0] of the parsed packet: Strip then
// edits that packet in place, and the Segment and its views are no longer valid. dst
// must not overlap the packet in any other way.
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

// gap is the part of an option list that Strip cuts out: an insertion by Add.
type gap struct{ at, size int }

// eraseCapable overwrites each MP_CAPABLE with Nop. The gap is not empty if the list
// has a single MP_CAPABLE, as its last element, behind the padding that Add inserts.
func eraseCapable(list []byte) (gap, error) {
	var g gap
	at, nops, found := 0, 0, 0 // nops: the number of Nop directly before at
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
			// Count elements, not bytes: data of an option may look like Nop.
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
