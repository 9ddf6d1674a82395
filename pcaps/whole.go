package pcaps

import (
	"encoding/binary"
	"math"

	"github.com/synbond/synbond/rewrite"
)

// What a capture lacks of a packet that a live box would have had: the bytes
// behind the snap length, and a checksum that its network card was to compute.

// completer makes packets as long as they were on the wire.
type completer struct {
	// room is zero but for the packet that it holds, so that the bytes which a
	// capture has cut off are zero without being cleared each time.
	room [1<<16 + ipv6Size]byte
	used int
}

// large is above what a line carries at once, in bytes: a host leaves it to its network
// card to cut such a packet into segments, and need not say how long it is (TSO).
const large = 1500

// whole returns the IP packet of a frame in its full length, and with it. What the
// capture has cut off is zero. The packet is valid until the next call, and may be the
// frame's own.
func (c *completer) whole(f *Frame) []byte {
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

// mend returns the packet of a frame with a checksum as it was on the wire, for a
// packet whose TCP header is all there: where the capture was made on the sender,
// the field may hold the sum over the pseudo-header only, and the network card was
// to complete it (Linux CHECKSUM_PARTIAL); where the payload has been cut off, its
// last bytes are chosen so that they match the checksum. All else stays as it is.
func mend(seg *rewrite.Segment, packet []byte, missing int) []byte {
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

// fill sets the last bytes of a segment, at most two and at most missing, to what
// its checksum lacks. One byte may not be enough.
func fill(segment []byte, missing int, lacks uint16) {
	last := len(segment) - 1
	high, low := byte(lacks>>8), byte(lacks)
	if last%2 == 1 && missing >= 2 {
		segment[last-1], segment[last] = high, low
		return
	}
	if last%2 == 1 {
		segment[last] = low // the captured byte beside it is the high one
		return
	}
	segment[last] = high
	if missing >= 2 {
		segment[last-1] = low // of the word before: RFC 1071, section 2 (A)
	}
}

// headerAt returns the offset of the TCP header in a packet, given its length by its
// IP header.
func headerAt(seg *rewrite.Segment, length int) int {
	return length - len(seg.Payload) - len(seg.Options) - tcpSize
}
