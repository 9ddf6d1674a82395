package pcaps

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// Interface is a network interface with captured frames. Name and Description are
// empty if the file does not have them, as in all pcap files.
type Interface struct {
	Name, Description string
	LinkType          LinkType
}

// Direction is the direction of a frame: received or sent by its interface.
type Direction uint8

// The directions, with the values of the epb_flags option of pcapng.
const (
	Unknown Direction = iota
	Inbound
	Outbound
)

func (d Direction) String() string {
	return [...]string{"unknown", "inbound", "outbound"}[d]
}

// Frame is one packet of a capture file. Its slices are valid until the Reader reads
// the next frame.
type Frame struct {
	Number    int       // in the file, from 1
	Time      time.Time // if absent in the file: the time of the frame before, or the Unix epoch
	Interface int       // index for [Reader.Interface]
	Direction Direction // from epb_flags of pcapng, or else from the packet type of Linux cooked captures
	Data      []byte    // captured bytes, from the link-layer header on
	Length    int       // of the whole frame on the wire, in bytes: len(Data) at least
	Comments  []string  // pcapng only

	ip, end int              // start and end of the innermost IP packet in Data; both are 0 without one
	places  [maxLayers]place // headers from the outermost one on; the packet follows the first depth
	depth   int
	unread  kind   // with an empty name if everything is read
	missing int    // bytes of the IP packet behind Data
	fcs     int    // length of the frame check sequence in bytes; 0 if unknown
	walk    walk   // of decode
	own     []byte // memory of Replace
}

// decode reads the headers of Data: the direction, if still unknown, and the place of the
// innermost IP packet. The packet ends at the length in its header, within the layers
// around it; the padding of short Ethernet frames follows.
func (f *Frame) decode(t LinkType) {
	f.ip, f.end, f.missing, f.depth, f.unread = 0, 0, 0, 0, kind{}
	l := links[t]
	if l == nil {
		f.unread = kind{name: t.String()}
		return
	}
	if f.Direction == Unknown {
		f.Direction = l.direction(f.Data)
	}
	f.headers(l.first)
}

// Packet returns the innermost IP packet in the frame, from its header on and without padding
// of the link layer. It is nil if the frame has no IP packet. It is shorter than the length
// in its header by [Frame.Missing] bytes.
func (f *Frame) Packet() []byte {
	if f.end == 0 {
		return nil
	}
	return f.Data[f.ip:f.end:f.end]
}

// Missing returns the number of bytes of the IP packet beyond the snap length of the
// capture: bytes on the wire that are not in Data.
func (f *Frame) Missing() int { return f.missing }

// Replace replaces the IP packet of the frame by another one of the same IP version. The
// frame must have a packet. Replace corrects lengths and checksums of the headers around the
// packet, except for checksums of UDP and GRE over missing bytes. A frame check sequence
// is computed again. Otherwise Replace adds no padding, because a host captures its own
// packets before the network card pads them. [Frame.Missing] does not change. Replace
// copies the packet, to memory that copies of the Frame share.
func (f *Frame) Replace(packet []byte) {
	checked := f.hasFCS()
	f.own = append(append(f.own[:0], f.Data[:f.ip]...), packet...)
	f.Data, f.end = f.own, len(f.own)
	f.Length = f.end + f.missing
	for i := f.depth - 1; i >= 0; i-- {
		if resize := protocols[f.places[i].protocol].resize; resize != nil {
			resize(f, i)
		}
	}
	if checked && f.missing == 0 {
		f.appendFCS()
	}
}

// fcsSize is the length of the frame check sequence of Ethernet in bytes.
const fcsSize = 4

// hasFCS reports whether the frame ends with a frame check sequence: the file says so, or the
// last bytes are the right ones.
func (f *Frame) hasFCS() bool {
	body := len(f.Data) - fcsSize
	if f.depth == 0 || f.places[0].protocol != ethernet || body < f.end || f.Length > len(f.Data) {
		return false
	}
	return f.fcs == fcsSize || binary.LittleEndian.Uint32(f.Data[body:]) == crc32.ChecksumIEEE(f.Data[:body])
}

// appendFCS pads the frame to its shortest length, and appends the frame check sequence.
func (f *Frame) appendFCS() {
	const shortest = 60 // without the sequence (IEEE 802.3, section 4.4.2)
	if pad := shortest - len(f.own); pad > 0 {
		f.own = append(f.own, make([]byte, pad)...)
	}
	f.own = binary.LittleEndian.AppendUint32(f.own, crc32.ChecksumIEEE(f.own))
	f.Data, f.Length = f.own, len(f.own)
}

// turn exchanges source and destination in the headers around the packet.
func (f *Frame) turn() {
	for _, p := range f.places[:f.depth] {
		if turn := protocols[p.protocol].turn; turn != nil {
			turn(f.Data[p.at:])
		}
	}
}
