package pcaps

import "time"

// Interface describes where frames were captured. Name and Description are empty
// where the file does not tell, as in all pcap files.
type Interface struct {
	Name, Description string
	LinkType          LinkType
}

// Direction tells whether an interface has received a frame or sent it.
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

// Frame is one packet of a capture file. What it points to is valid until the
// next one is read.
type Frame struct {
	Number    int       // in the file, from 1
	Time      time.Time // where the file tells none, that of the frame before, or the Unix epoch
	Interface int       // for [Reader.Interface]
	Direction Direction // by epb_flags of pcapng, else by the packet type of Linux cooked captures
	Data      []byte    // as captured, with its link-layer header
	Length    int       // of the whole frame on the wire, bytes: at least that of Data
	Comments  []string  // of pcapng

	ip, end int    // where the IP packet is in Data; both are 0 if there is none
	missing int    // bytes of the IP packet behind Data
	own     []byte // memory of Replace
}

// decode reads the link-layer header of Data: the direction, where no other has
// told it, and where the IP packet is. The length in the IP header is believed as
// far as the frame reaches: behind it is the padding of short Ethernet frames.
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

// Packet returns the IP packet in the frame, from its header on and without what
// the link layer has put behind it. It is nil if the frame has none, and shorter
// than its header says by [Frame.Missing].
func (f *Frame) Packet() []byte {
	if f.end == 0 {
		return nil
	}
	return f.Data[f.ip:f.end:f.end]
}

// Missing returns how many bytes of the IP packet were on the wire but not kept
// by the capture (its snap length).
func (f *Frame) Missing() int { return f.missing }

// Replace puts another packet, of the same IP version, in the place of the one
// that the frame must have. It gets no padding: network cards pad, behind the
// place where a host captures what it sends. As many bytes as before are
// [Frame.Missing]. The packet is copied, to memory that the frame shares with
// copies of it.
func (f *Frame) Replace(packet []byte) {
	f.own = append(append(f.own[:0], f.Data[:f.ip]...), packet...)
	f.Data, f.end = f.own, len(f.own)
	f.Length = f.end + f.missing
}
