//go:build linux

package ruleset

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// State is a packet's state of connection tracking: NF_CT_STATE_BIT of uapi
// linux/netfilter/nf_conntrack_common.h.
type State uint32

// States.
const (
	Established State = 1 << 1
	New         State = 1 << 3
	Untracked   State = 1 << 6
)

// Packet is a packet in a hook.
type Packet struct {
	In, Out string // names of interfaces, "" where the hook has none
	Mark    uint32
	State   State
	Data    []byte // from the IP header on
	// Exceeds: the packet is one too many for each limit of a rate that rules have. Otherwise
	// it is not known whether such a limit is exceeded.
	Exceeds bool
}

// Segment is a packet of TCP or UDP without payload.
type Segment struct {
	Protocol uint8 // unix.IPPROTO_TCP or IPPROTO_UDP
	From, To netip.AddrPort
	Flags    uint8 // of TCP: 0x02 SYN, 0x10 ACK
}

// Flags of TCP.
const (
	SYN = 0x02
	ACK = 0x10
)

// Bytes returns the segment from its IP header on. Checksums are zero.
func (s Segment) Bytes() []byte {
	transport := make([]byte, 20) // a UDP header has 8, and here 12 bytes of payload
	binary.BigEndian.PutUint16(transport[0:], s.From.Port())
	binary.BigEndian.PutUint16(transport[2:], s.To.Port())
	if s.Protocol == unix.IPPROTO_TCP {
		transport[12], transport[13] = 5<<4, s.Flags
		binary.BigEndian.PutUint16(transport[14:], 0xffff) // window
	} else {
		binary.BigEndian.PutUint16(transport[4:], uint16(len(transport)))
	}
	var header []byte
	if s.From.Addr().Is4() {
		header = make([]byte, 20)
		header[0], header[8], header[9] = 4<<4|5, 64, s.Protocol
		binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(transport)))
		copy(header[12:], s.From.Addr().AsSlice())
		copy(header[16:], s.To.Addr().AsSlice())
	} else {
		header = make([]byte, 40)
		header[0], header[6], header[7] = 6<<4, s.Protocol, 64
		binary.BigEndian.PutUint16(header[4:], uint16(len(transport)))
		copy(header[8:], s.From.Addr().AsSlice())
		copy(header[24:], s.To.Addr().AsSlice())
	}
	return append(header, transport...)
}

// Reply returns the segment in the other direction.
func (s Segment) Reply(flags uint8) Segment {
	return Segment{s.Protocol, s.To, s.From, flags}
}

// is4 reports whether a packet is one of IPv4.
func (p Packet) is4() bool { return p.Data[0]>>4 == 4 }

// transport returns the offset of the transport header.
func (p Packet) transport() int {
	if p.is4() {
		return 20
	}
	return 40
}

// protocol returns the transport protocol.
func (p Packet) protocol() uint8 {
	if p.is4() {
		return p.Data[9]
	}
	return p.Data[6]
}

// addresses returns source and destination.
func (p Packet) addresses() (src, dst netip.Addr) {
	at, n := 12, 4
	if !p.is4() {
		at, n = 8, 16
	}
	src, _ = netip.AddrFromSlice(p.Data[at : at+n])
	dst, _ = netip.AddrFromSlice(p.Data[at+n : at+2*n])
	return src, dst
}
