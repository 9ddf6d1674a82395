package rewrite

import (
	"encoding/binary"
	"slices"
)

// The surgery on a packet. Add and Strip decide what the option list becomes, in
// a scratch array; withOptions alone writes packets, and alone changes lengths:
//
//	editable ──→ Add:   findRoom, write over Nop or insert ─┐
//	checksums,   Strip: cutCapable, Nop or cut ─────────────┴─→ withOptions
//	signatures          [maximumOptions]byte                    data offset, IP length,
//	                                                            checksums, payload
//
// Strip undoes Add: for every packet p that Add accepts, Strip(Add(p)) is p, byte
// for byte. A list is its elements (options and Nop), then perhaps an End and the
// bytes behind it, which no host reads and which an edit keeps as they are. Of the
// elements, the last tells what Add did:
//
//   - Add writes over the first run of Nop that is long enough, but so that another
//     element follows. The packet keeps its length. Strip, where another element
//     follows MP_CAPABLE, puts Nop back.
//   - If there is no such run, Add inserts the option behind the last element, with
//     Nop before it up to a multiple of four bytes. All before it stays where it
//     was, all behind it moves by whole words. Strip, where MP_CAPABLE is the last
//     element, cuts out the same bytes.
//
// A packet with an MPTCP option is refused by Add, so the one that Strip finds is
// Add's. The first rule leaves out a run that is just long enough and ends the
// elements, because both
//
//	MSS, SACK permitted, …                      and
//	MSS, SACK permitted, …, Nop, Nop, Nop, Nop
//
// would become MSS, SACK permitted, …, MP_CAPABLE, and no Strip could tell which of
// them it was. The first keeps that list, because it is what hosts send, and the
// second grows. The same holds for End and what follows it: it is not room.
//
// What is lost is little and cannot be had: take k options of 36 bytes together.
// Add has to place the option into these 36 bytes, and into the k+1 lists of 40
// bytes that have a run of four Nop in one of k+1 places: k+2 lists. There are only
// k+1 results, an MP_CAPABLE in each place of the 40 bytes. No inverse exists for
// all k+2, whatever the rule (unless it changes the order of options); this one
// refuses one of them, with NoOptionSpace.
//
// The option that a kernel wrote into a SYN stands last as well (Linux
// tcp_options_write, mptcp_write_options), so Strip cuts it out and leaves what that
// kernel sends without MPTCP, and what it sends again when it falls back. A SYN+ACK
// is never Add's: the answer is written by the host that owns the key. There Strip
// always puts Nop, nothing moves, and the packet keeps its length.

// TCP options that sign the segment: not to be edited.
const (
	optionMD5 = 19 // RFC 2385
	optionAO  = 29 // RFC 5925
)

const (
	tcpChecksum  = 16
	ipv4Checksum = 10

	// maximumOptions is what the largest data offset leaves (RFC 9293, section 3.1).
	maximumOptions = 40
	// maximumLength is what the length fields of IPv4 and IPv6 can say.
	maximumLength = 0xffff
)

// editable reports whether the packet may be changed. A broken packet is left as
// it is: an update of its checksum would not mend it, and must not.
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

// Authenticated reports whether a signature covers the segment: an AH before the
// TCP header (RFC 4302), TCP-MD5 (RFC 2385) or TCP-AO (RFC 5925). Only its sender
// can make another like it.
func (s *Segment) Authenticated() bool {
	for w, o := WalkOptions(s.Options), (Option{}); w.Next(&o); {
		if kind := o.Raw[0]; kind == optionMD5 || kind == optionAO {
			return true
		}
	}
	return s.behindAH()
}

// behindAH reports whether an AH precedes the TCP header. Parse has walked the
// same headers and refuses one in IPv4.
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

// optionBytes is the option list in the packet.
func (s *Segment) optionBytes() []byte {
	tcp := tcpHeader(s.packet[s.tcp:])
	return tcp[tcpMinimumSize:tcp.headerLength()]
}

// elementSize is the length of the Nop or the option at the start of a list that
// is neither empty nor at its End.
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

// withOptions appends to dst the packet with another option list, of whole words.
// Lengths change here and nowhere else. What moves, moves by whole words, so that
// its part of the checksum stays (RFC 1071, section 2 (A)).
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
	// From the back to the front, and the sum before: out may be s.packet itself.
	copy(out[header+len(list):], s.packet[header+len(old):])
	copy(out[header:], list)
	copy(out, s.packet[:header])

	tcp := out[s.tcp:]
	tcp[tcpDataOffset] = byte(header-s.tcp+len(list))/4<<4 | tcp[tcpDataOffset]&0x0f
	updateField(tcp[tcpChecksum:], was, s.lengthSum(out, list))
	setLength(out, size)
	return dst, nil
}

// fits reports whether the IP header can say that a packet has size bytes.
func (s *Segment) fits(size int) bool {
	if s.packet[0]>>4 == 6 {
		size -= ipv6Size
	}
	return size <= maximumLength
}

// lengthSum sums the words under the TCP checksum that an edit changes: the length
// in the pseudo-header, the word of the data offset, and the option list.
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

// updateField updates the checksum in a field, unless its words stayed the same:
// then a checksum of 0xffff stays, too.
func updateField(field []byte, was, now uint64) {
	if was == now {
		return
	}
	binary.BigEndian.PutUint16(field, updateChecksum(binary.BigEndian.Uint16(field), was, now))
}
