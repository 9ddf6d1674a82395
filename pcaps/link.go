package pcaps

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// LinkType is the format of the link-layer header in the frames of an interface: a
// LINKTYPE_ value of the registry at tcpdump.org.
type LinkType uint16

// The link types known to this package.
const (
	LinkNull       LinkType = 0   // BSD loopback: the protocol family in the byte order of its host
	LinkEthernet   LinkType = 1   // Ethernet II, with any number of VLAN tags
	LinkRawBSD     LinkType = 12  // the value of DLT_RAW on most systems, which some programs write to files
	LinkRawOpenBSD LinkType = 14  // the value of DLT_RAW on OpenBSD
	LinkRaw        LinkType = 101 // an IP packet and nothing else
	LinkLoop       LinkType = 108 // OpenBSD loopback: the protocol family in network byte order
	LinkCooked     LinkType = 113 // Linux cooked v1: the "any" device
	LinkIPv4       LinkType = 228
	LinkIPv6       LinkType = 229
	LinkCooked2    LinkType = 276 // Linux cooked v2
)

// link is the layout of a link-layer header.
type link struct {
	name   string
	header int // length without VLAN tags, in bytes
	// etherType returns the protocol from a whole header. It is nil for raw IP, where the
	// packet itself has the IP version.
	etherType func(header []byte) uint16
	// packetType is the offset of the byte with the PACKET_ value of linux/if_packet.h, or
	// 0 without one.
	packetType int
}

var links = map[LinkType]*link{
	LinkNull:       {name: "BSD loopback", header: 4, etherType: etherTypeOfFamily},
	LinkEthernet:   {name: "Ethernet", header: 14, etherType: etherTypeAt(12)},
	LinkRawBSD:     {name: "raw IP (BSD)"},
	LinkRawOpenBSD: {name: "raw IP (OpenBSD)"},
	LinkRaw:        {name: "raw IP"},
	LinkLoop:       {name: "OpenBSD loopback", header: 4, etherType: etherTypeOfFamily},
	LinkCooked:     {name: "Linux cooked v1", header: 16, etherType: etherTypeAt(14), packetType: 1},
	LinkIPv4:       {name: "raw IPv4"},
	LinkIPv6:       {name: "raw IPv6"},
	LinkCooked2:    {name: "Linux cooked v2", header: 20, etherType: etherTypeAt(0), packetType: 10},
}

func (t LinkType) String() string {
	if l, known := links[t]; known {
		return l.name
	}
	return fmt.Sprintf("link type %d", uint16(t))
}

// EtherTypes (IEEE 802 numbers).
const (
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	etherVLAN  = 0x8100 // 802.1Q
	etherQinQ  = 0x88a8 // 802.1ad
	etherQinQ1 = 0x9100 // the outer tag before 802.1ad
)

func etherTypeAt(offset int) func([]byte) uint16 {
	return func(header []byte) uint16 { return binary.BigEndian.Uint16(header[offset:]) }
}

// etherTypeOfFamily reads the four bytes of a protocol family, in the byte order of the
// capturing host. Families are small numbers: a large one is in the other byte order.
func etherTypeOfFamily(header []byte) uint16 {
	family := binary.BigEndian.Uint32(header)
	if family > 0xffff {
		family = bits.ReverseBytes32(family)
	}
	switch family {
	case 2: // AF_INET everywhere
		return etherIPv4
	case 10, 24, 28, 30: // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin
		return etherIPv6
	}
	return 0
}

// network returns the offset of the IP header in a frame. ok is false for another
// protocol, and for a frame truncated before the IP header.
func (l *link) network(frame []byte) (at int, ok bool) {
	if len(frame) <= l.header {
		return 0, false
	}
	at = l.header
	if l.etherType == nil {
		version := frame[at] >> 4
		return at, version == 4 || version == 6
	}
	etherType := l.etherType(frame)
	for etherType == etherVLAN || etherType == etherQinQ || etherType == etherQinQ1 {
		if len(frame) < at+4 {
			return 0, false
		}
		etherType = binary.BigEndian.Uint16(frame[at+2:]) // behind the tag's control information
		at += 4
	}
	if at == len(frame) {
		return 0, false
	}
	switch frame[at] >> 4 {
	case 4:
		return at, etherType == etherIPv4
	case 6:
		return at, etherType == etherIPv6
	}
	return 0, false
}

// direction returns the direction from the packet type of Linux cooked captures.
func (l *link) direction(frame []byte) Direction {
	const outgoing = 4 // PACKET_OUTGOING
	if l.packetType == 0 || len(frame) < l.header {
		return Unknown
	}
	switch kind := frame[l.packetType]; {
	case kind < outgoing: // to this host, broadcast, multicast, to another host
		return Inbound
	case kind == outgoing:
		return Outbound
	}
	return Unknown
}

// ipLength returns the length of a packet in bytes, from its IP header. It returns 0 for
// a truncated header, and for a length field of 0: a host leaves the field of a large
// segment for its network card to fill in.
func ipLength(packet []byte) int {
	switch {
	case packet[0]>>4 == 4 && len(packet) >= 4:
		return int(binary.BigEndian.Uint16(packet[2:]))
	case packet[0]>>4 == 6 && len(packet) >= 6:
		if payload := int(binary.BigEndian.Uint16(packet[4:])); payload != 0 {
			return 40 + payload
		}
	}
	return 0
}
