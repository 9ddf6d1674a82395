package pcaps

import "time"

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

	ip, end int    // start and end of the IP packet in Data; both are 0 without one
	missing int    // bytes of the IP packet behind Data
	fcs     int    // length of the frame check sequence in bytes; -1 if unknown
	own     []byte // memory of Replace
}

// decode reads the link-layer header of Data: the direction, if still unknown, and the
// place of the IP packet. The packet ends at the length in the IP header, within the
// frame; the padding of short Ethernet frames follows.
func (f *Frame) decode(t LinkType) {
	f.ip, f.end, f.missing = 0, 0, 0
	l := links[t]
	if l == nil {
		return
	}
	if f.Direction == Unknown {
		f.Direction = l.direction(f.Data)
	}
	at, ok := l.network(f.Data)
	if !ok {
		return
	}
	length := f.Length - at
	if claimed := ipLength(f.Data[at:]); claimed != 0 {
		length = min(length, claimed)
	}
	f.ip, f.end = at, min(at+length, len(f.Data))
	f.missing = at + length - f.end
}

// Packet returns the IP packet in the frame, from its header on and without padding of
// the link layer. It is nil if the frame has no IP packet. It is shorter than the length
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
// frame must have a packet. Replace adds no padding, because a host captures its own
// packets before the network card pads them. [Frame.Missing] does not change. Replace
// copies the packet, to memory that copies of the Frame share.
func (f *Frame) Replace(packet []byte) {
	f.own = append(append(f.own[:0], f.Data[:f.ip]...), packet...)
	f.Data, f.end = f.own, len(f.own)
	f.Length = f.end + f.missing
}
