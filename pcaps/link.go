package pcaps

import (
	"encoding/binary"
	"fmt"
)

// LinkType is the format of the link-layer header in the frames of an interface: a
// LINKTYPE_ value of the registry at tcpdump.org.
type LinkType uint16

// The link types known to this package.
const (
	LinkNull       LinkType = 0 // BSD loopback: the protocol family in the byte order of its host
	LinkEthernet   LinkType = 1
	LinkPPP        LinkType = 9
	LinkRawBSD     LinkType = 12  // the value of DLT_RAW on most systems, which some programs write to files
	LinkRawOpenBSD LinkType = 14  // the value of DLT_RAW on OpenBSD
	LinkPPPSerial  LinkType = 50  // in HDLC framing, or Cisco HDLC
	LinkPPPoE      LinkType = 51  // from the header of PPPoE on
	LinkRaw        LinkType = 101 // an IP packet and nothing else
	LinkCiscoHDLC  LinkType = 104
	LinkLoop       LinkType = 108 // OpenBSD loopback: the protocol family in network byte order
	LinkCooked     LinkType = 113 // Linux cooked v1: the "any" device
	LinkFirewire   LinkType = 138 // IP over IEEE 1394
	LinkPPPDaemon  LinkType = 166 // with the direction in place of the address
	LinkPPPDir     LinkType = 204 // with the direction in front
	LinkMPLS       LinkType = 219
	LinkIPv4       LinkType = 228
	LinkIPv6       LinkType = 229
	LinkNFLOG      LinkType = 239
	LinkCooked2    LinkType = 276 // Linux cooked v2
)

// link is a link type.
type link struct {
	name  string
	first protocol // the outermost header
	// packetType is the offset of the byte with the PACKET_ value of linux/if_packet.h, or
	// 0 without one.
	packetType int
}

var links = map[LinkType]*link{
	LinkNull:       {"BSD loopback", loopback, 0},
	LinkEthernet:   {"Ethernet", ethernet, 0},
	LinkPPP:        {"PPP", ppp, 0},
	LinkRawBSD:     {"raw IP (BSD)", ipAny, 0},
	LinkRawOpenBSD: {"raw IP (OpenBSD)", ipAny, 0},
	LinkPPPSerial:  {"PPP in HDLC framing", ppp, 0},
	LinkPPPoE:      {"PPPoE", pppoe, 0},
	LinkRaw:        {"raw IP", ipAny, 0},
	LinkCiscoHDLC:  {"Cisco HDLC", ciscoHDLC, 0},
	LinkLoop:       {"OpenBSD loopback", loopback, 0},
	LinkCooked:     {"Linux cooked v1", cooked1, 1},
	LinkFirewire:   {"IP over IEEE 1394", firewire, 0},
	LinkPPPDaemon:  {"PPP of pppd", pppDaemon, 0},
	LinkPPPDir:     {"PPP with direction", pppDirection, 0},
	LinkMPLS:       {"MPLS", mpls, 0},
	LinkIPv4:       {"raw IPv4", ipAny, 0},
	LinkIPv6:       {"raw IPv6", ipAny, 0},
	LinkNFLOG:      {"NFLOG", nflog, 0},
	LinkCooked2:    {"Linux cooked v2", cooked2, 10},
}

func (t LinkType) String() string {
	if l, known := links[t]; known {
		return l.name
	}
	return fmt.Sprintf("link type %d", uint16(t))
}

// direction returns the direction from the packet type of Linux cooked captures.
func (l *link) direction(frame []byte) Direction {
	const outgoing = 4  // PACKET_OUTGOING
	const shortest = 16 // of a Linux cooked header
	if l.packetType == 0 || len(frame) < shortest {
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
