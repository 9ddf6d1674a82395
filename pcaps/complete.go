package pcaps

import (
	"encoding/binary"
	"math"

	"github.com/synbond/synbond/rewrite"
)

// Completion of a captured packet to the packet on the wire: a capture lacks the bytes
// beyond its snap length, and a checksum or length that the network card fills in.

// completer completes packets to their length on the wire.
type completer struct {
	// room holds the last packet, and is zero behind it.
	room [1<<16 + ipv6Size]byte
	used int // bytes of the last packet
}

// large (bytes): a longer packet is one that the host's network card will cut into
// segments (TSO); its IP header may have no length.
const large = 1500

// whole returns the IP packet of a frame in its full length, with that length in the IP
// header. Missing bytes are zero. The packet is valid until the next call, and may be part
// of the frame.
func (c *completer) complete(f *Frame) []byte {
	packet := f.Packet()
	length := len(packet) + f.Missing()
	unsized := length > large && len(packet) >= ipv6Size && ipLength(packet) == 0
	if f.Missing() == 0 && !unsized || length > len(c.room) {
		return packet
	}
	clear(c.room[:c.used])
	c.used = copy(c.room[:], packet)
	if unsized && packet[0]>>4 == 4 {
		binary.BigEndian.PutUint16(c.room[2:], uint16(min(length, math.MaxUint16)))
	} else if unsized {
		binary.BigEndian.PutUint16(c.room[4:], uint16(min(length-ipv6Size, math.MaxUint16)))
	}
	return c.room[:length]
}

// withChecksum returns a packet with a whole TCP header such that the checksum is the one
// on the wire. There are two cases; otherwise it returns the packet unchanged:
//   - In a capture on the sender, the field may hold the sum over the pseudo-header only,
//     for the network card to complete (Linux CHECKSUM_PARTIAL).
//   - In a truncated payload, withChecksum chooses the last bytes to match the checksum.
func withChecksum(seg *rewrite.Segment, packet []byte, missing int) []byte {
	tcp := headerAt(seg, len(packet))
	pseudo := pseudoHeader(seg.Src.Addr(), seg.Dst.Addr(), protocolTCP, len(packet)-tcp)
	field := binary.BigEndian.Uint16(packet[tcp+16:])
	partial := field == ^rewrite.Checksum(pseudo)
	if !partial && missing == 0 {
		return packet
	}
	out := append(make([]byte, 0, len(packet)), packet...)
	if partial {
		clear(out[tcp+16 : tcp+18])
		binary.BigEndian.PutUint16(out[tcp+16:], rewrite.Checksum(pseudo, out[tcp:]))
		return out
	}
	fill(out[tcp:], missing, rewrite.Checksum(pseudo, out[tcp:]))
	return out
}

// fill adds lacks to the sum of a segment, by its last bytes: at most two, and at most
// missing. One byte may not be enough.
func fill(segment []byte, missing int, lacks uint16) {
	last := len(segment) - 1
	high, low := byte(lacks>>8), byte(lacks)
	if last%2 == 1 && missing >= 2 {
		segment[last-1], segment[last] = high, low
		return
	}
	if last%2 == 1 {
		segment[last] = low // the high byte of the word is a captured one
		return
	}
	segment[last] = high
	if missing >= 2 {
		segment[last-1] = low // in the word before: RFC 1071, section 2 (A)
	}
}

// headerAt returns the offset of the TCP header in a packet, given the length of the packet
// in its IP header.
func headerAt(seg *rewrite.Segment, length int) int {
	return length - len(seg.Payload) - len(seg.Options) - tcpSize
}
