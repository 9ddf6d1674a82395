package rewrite

import (
	"encoding/binary"
	"slices"
)

// Edits of a packet. Add and Strip make the new option list in a scratch array.
// Only withOptions writes packets and changes lengths:
//
//	editable ──→ Add:   findRoom, write over Nop or insert ─┐
//	checksums,   Strip: cutCapable, Nop or cut ─────────────┴─→ withOptions
//	signatures          [maximumOptions]byte                    data offset, IP length,
//	                                                            checksums, payload
//
// Strip is the inverse of Add: for every packet p that Add accepts, Strip(Add(p))
// equals p, byte for byte. A list consists of elements (options and Nop), and
// perhaps an End with bytes behind it; no host reads those bytes, and an edit keeps
// them. The last element tells Strip how Add placed the option:
//
//   - Add overwrites the first run of Nop that is long enough, provided that another
//     element follows. The packet keeps its length. If another element follows
//     MP_CAPABLE, Strip writes Nop over MP_CAPABLE.
//   - If there is no such run, Add inserts the option behind the last element, with
//     Nop before the option up to a multiple of four bytes. Bytes before the option
//     do not move, bytes behind the option move by whole words. If MP_CAPABLE is the
//     last element, Strip cuts out the same bytes.
//
// Add refuses a packet with an MPTCP option, so the MP_CAPABLE that Strip finds is
// the one of Add. The first rule excludes a run of exactly the option's length at
// the end of the elements, because both
//
//	MSS, SACK permitted, …                      and
//	MSS, SACK permitted, …, Nop, Nop, Nop, Nop
//
// would become MSS, SACK permitted, …, MP_CAPABLE, and Strip could not tell one from
// the other. The first has that result, because hosts send such lists; Add
// lengthens the second. For the same reason Add does not overwrite End and the bytes
// behind it.
//
// Add therefore refuses one list for which there would be room, and so must every
// other rule. Take k options of 36 bytes together. Add has to place the option into
// these 36 bytes, and into the k+1 lists of 40 bytes with a run of four Nop in one
// of k+1 places: k+2 lists. There are only k+1 results, one for each place of
// MP_CAPABLE in the 40 bytes. No rule has an inverse for all k+2 lists, unless it
// changes the order of options; this rule refuses one list, with NoOptionSpace.
//
// A kernel, too, writes MP_CAPABLE last into its SYN (Linux tcp_options_write,
// mptcp_write_options). Strip cuts the option out and leaves the SYN that the kernel
// sends without MPTCP, and after a fallback. Add never makes a SYN+ACK: only the
// host that owns the key can answer. In a SYN+ACK Strip always writes Nop, no byte
// moves, and the packet keeps its length.

// TCP options with a signature over the segment. No edit can keep the signature
// valid.
const (
	optionMD5 = 19 // RFC 2385
	optionAO  = 29 // RFC 5925
)

const (
	tcpChecksum  = 16
	ipv4Checksum = 10

	// maximumOptions is the size of the option list with the largest data offset (RFC
	// 9293, section 3.1).
	maximumOptions = 40
	// maximumLength is the largest value of the length fields of IPv4 and IPv6.
	maximumLength = 0xffff
)

// editable returns the reason why the packet must not be changed, or nil. Among the
// reasons is a wrong checksum: an update would keep it wrong, and a new sum would
// hide the damage from the receiver.
func (s *Segment) editable() error {
	if s.SourceRouted {
		return SourceRouted
	}
	if s.behindAH() {
		return Authenticated
	}
	if !s.headerChecksumOK() || !s.ChecksumOK() {
		return BadChecksum
	}
	return nil
}

// Authenticated reports whether a signature covers the segment: an AH before the TCP
// header (RFC 4302), TCP-MD5 (RFC 2385) or TCP-AO (RFC 5925). Nobody but the sender
// can sign a changed segment.
func (s *Segment) Authenticated() bool {
	for o, rest, _ := nextOption(s.Options); o != nil; o, rest, _ = nextOption(rest) {
		if kind := o.kind(); kind == optionMD5 || kind == optionAO {
			return true
		}
	}
	return s.behindAH()
}

// behindAH reports whether an AH precedes the TCP header. Parse has validated the
// headers, and refuses an AH in IPv4.
func (s *Segment) behindAH() bool {
	if len(s.packet) == 0 || s.packet[0]>>4 != 6 {
		return false
	}
	next := s.packet[ipv6NextHeader]
	for at := ipv6Size; at < s.tcp; {
		size := 8 + int(s.packet[at+1])*8
		switch next {
		case protocolAH:
			return true
		case protocolFragment:
			size = fragmentSize
		}
		next = s.packet[at]
		at += size
	}
	return false
}

// optionBytes returns the option list in the packet.
func (s *Segment) optionBytes() []byte {
	tcp := tcpHeader(s.packet[s.tcp:])
	return tcp[tcpMinimumSize:tcp.headerLength()]
}

// elementSize returns the length in bytes of the first element of a list, a Nop or an
// option. The list must not be empty, nor begin with End.
func elementSize(list []byte) (int, error) {
	if list[0] == optionNop {
		return 1, nil
	}
	if len(list) < 2 || list[1] < 2 || int(list[1]) > len(list) {
		return 0, BadOption
	}
	if list[0] == optionMD5 || list[0] == optionAO {
		return 0, Authenticated
	}
	return int(list[1]), nil
}

// withOptions appends to dst the packet with another option list, of whole words. No
// other function changes lengths. Bytes move by whole words, so their part of the
// checksum does not change (RFC 1071, section 2 (A)).
func (s *Segment) withOptions(dst, list []byte) ([]byte, error) {
	old, header := s.optionBytes(), s.tcp+tcpMinimumSize
	size := len(s.packet) + len(list) - len(old)
	if !s.fits(size) {
		return dst, TooLong
	}
	was := s.lengthSum(s.packet, old)
	start := len(dst)
	dst = slices.Grow(dst, size)[:start+size]
	out := dst[start:]
	// out may be s.packet itself: sum before writing, and copy from back to front.
	copy(out[header+len(list):], s.packet[header+len(old):])
	copy(out[header:], list)
	copy(out, s.packet[:header])

	tcp := out[s.tcp:]
	tcp[tcpDataOffset] = byte(header-s.tcp+len(list))/4<<4 | tcp[tcpDataOffset]&0x0f
	updateField(tcp[tcpChecksum:], was, s.lengthSum(out, list))
	setLength(out, size)
	return dst, nil
}

// fits reports whether the length field of the IP header can hold the length of a
// packet of size bytes.
func (s *Segment) fits(size int) bool {
	if s.packet[0]>>4 == 6 {
		size -= ipv6Size
	}
	return size <= maximumLength
}

// lengthSum returns the sum of all words under the TCP checksum that an edit changes:
// the length in the pseudo-header, the word with the data offset, the option list.
func (s *Segment) lengthSum(packet, list []byte) uint64 {
	tcp := packet[s.tcp:]
	word := binary.BigEndian.Uint16(tcp[tcpDataOffset:])
	return addBytes(uint64(len(tcp))+uint64(word), list)
}

// setLength writes the length of a packet into its IP header (IPv4: total length,
// RFC 791, section 3.1; IPv6: payload length, RFC 8200, section 3).
func setLength(packet []byte, size int) {
	if packet[0]>>4 == 6 {
		binary.BigEndian.PutUint16(packet[ipv6PayloadLength:], uint16(size-ipv6Size))
		return
	}
	was := uint64(binary.BigEndian.Uint16(packet[ipv4TotalLength:]))
	binary.BigEndian.PutUint16(packet[ipv4TotalLength:], uint16(size))
	updateField(packet[ipv4Checksum:], was, uint64(size))
}

// updateField updates a checksum after a change of some words, with the sum was
// before and the sum now after the change. Equal sums leave the field alone, so that
// even a checksum of 0xffff is kept.
func updateField(field []byte, was, now uint64) {
	if was == now {
		return
	}
	binary.BigEndian.PutUint16(field, updateChecksum(binary.BigEndian.Uint16(field), was, now))
}
