package pcaps

import (
	"encoding/binary"
	"math/bits"
)

// Headers of the link layer, and those that follow an EtherType.

// etherTypes (IEEE 802 numbers) are those of headers and packets that are read.
var etherTypes = map[uint16]protocol{
	0x0800: ipv4,
	0x86dd: ipv6,
	0x8100: vlan, // 802.1Q
	0x88a8: vlan, // 802.1ad
	0x9100: vlan, // the outer tag before 802.1ad
	0x9200: vlan,
	0x9300: vlan,
	0x88e7: serviceTag,
	0x892f: sequenceTag, // HSR (IEC 62439-3)
	0xf1c1: sequenceTag, // 802.1CB
	0x8864: pppoe,
	0x8847: mpls,
	0x8848: mpls,
	0x894f: nsh,
	0x8870: llc,      // jumbo frames
	0x6558: ethernet, // transparent Ethernet bridging
	0x880b: ppp,
}

// otherTypes are EtherTypes of hidden packets, by name.
var otherTypes = map[uint16]string{0x88be: "ERSPAN", 0x22eb: "ERSPAN", 0x88e5: "MACsec", 0x8909: "Cisco metadata"}

// plainTypes are EtherTypes of frames without IP packets inside.
var plainTypes = map[uint16]bool{
	0x0806: true, 0x8035: true, // ARP, RARP
	0x0842: true, 0x2000: true, 0x22f0: true, 0x22ea: true, // wake on LAN, CDP, AVTP, SRP
	0x6002: true, 0x6003: true, 0x6004: true, 0x6007: true, // DEC
	0x809b: true, 0x80f3: true, 0x8137: true, 0x8138: true, // AppleTalk, IPX
	0x8808: true, 0x8809: true, 0x8863: true, 0x8899: true, // pause, LACP, PPPoE discovery, loop detection
	0x8892: true, 0x88a4: true, 0x88b8: true, 0x88ba: true, 0x88cd: true, // industrial networks
	0x888e: true, 0x88c7: true, 0x88cc: true, 0x88e1: true, 0x88f7: true, // EAPOL, LLDP, HomePlug, PTP
	0x88f5: true, 0x88f6: true, 0x8902: true, 0x890d: true, 0x893a: true, // MVRP, CFM, TDLS, 1905.1
	0x8906: true, 0x8914: true, 0x88fb: true, 0x9000: true, // FCoE, PRP, loopback
}

// etherType returns the protocol for an EtherType, or for the length of an 802.3 frame.
func (w *walk) etherType(value uint16) protocol {
	const smallest = 0x600
	p, known := etherTypes[value]
	switch {
	case known:
		return p
	case value < smallest, plainTypes[value]:
		return none
	}
	if name := otherTypes[value]; name != "" {
		return w.unread(kind{name: name})
	}
	return w.unread(kind{name: "EtherType", number: value})
}

// frameType returns the protocol for the EtherType, or the length of an 802.3 frame, at the
// end of a header of a size.
func (w *walk) frameType(b []byte, size int) protocol {
	value := binary.BigEndian.Uint16(b[size-2:])
	const longest = 1500
	if value <= longest {
		if value > 0 {
			w.until(w.at + size + int(value))
		}
		return llcLength
	}
	return w.etherType(value)
}

func readEthernet(w *walk, b []byte) (int, protocol) {
	const size = 14
	if len(b) < size {
		return -1, none
	}
	return size, w.frameType(b, size)
}

func turnEthernet(header []byte) {
	var destination [6]byte
	copy(destination[:], header)
	copy(header, header[6:12])
	copy(header[6:], destination[:])
}

func readVLAN(w *walk, b []byte) (int, protocol) {
	const size = 4
	if len(b) < size {
		return -1, none
	}
	return size, w.frameType(b, size)
}

// readServiceTag reads the I-TAG of 802.1ah, in front of a whole Ethernet frame.
func readServiceTag(_ *walk, b []byte) (int, protocol) { return 4, ethernet }

// readSequenceTag reads a size or reserved bits, a sequence number, and an EtherType.
func readSequenceTag(w *walk, b []byte) (int, protocol) {
	const size = 6
	if len(b) < size {
		return -1, none
	}
	return size, w.etherType(binary.BigEndian.Uint16(b[4:]))
}

// readLLC reads the header of IEEE 802.2, perhaps with SNAP (RFC 1042).
func readLLC(w *walk, b []byte) (int, protocol) {
	const size, snap = 3, 8
	if len(b) < size {
		return -1, none
	}
	switch string(b[:size]) {
	case "\x06\x06\x03":
		return size, ipAny
	case "\xaa\xaa\x03":
		if len(b) < snap {
			return -1, none
		}
		if oui := string(b[3:6]); oui == "\x00\x00\x00" || oui == "\x00\x00\xf8" {
			return snap, w.etherType(binary.BigEndian.Uint16(b[6:]))
		}
	}
	return size, none
}

func resizeLLC(f *Frame, i int) {
	at := f.places[i].at
	putLength(f.Data[at-2:], f.wireEnd()-at)
}

// readLoopback reads the protocol family in front of a packet, in the byte order of the
// capturing host. Families are small numbers: a large one is in the other byte order.
func readLoopback(_ *walk, b []byte) (int, protocol) {
	const size = 4
	if len(b) < size {
		return -1, none
	}
	family := binary.BigEndian.Uint32(b)
	if family > 0xffff {
		family = bits.ReverseBytes32(family)
	}
	switch family {
	case 2: // AF_INET everywhere
		return size, ipv4
	case 10, 24, 28, 30: // AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin
		return size, ipv6
	}
	return size, none
}

func readCooked(w *walk, b []byte) (int, protocol) {
	const size = 16
	if len(b) < size {
		return -1, none
	}
	return size, w.cookedType(binary.BigEndian.Uint16(b[14:]))
}

func readCooked2(w *walk, b []byte) (int, protocol) {
	const size = 20
	if len(b) < size {
		return -1, none
	}
	return size, w.cookedType(binary.BigEndian.Uint16(b))
}

// cookedType returns the protocol for the field of a Linux cooked header: an EtherType, or a
// small number of linux/if_ether.h; of PPP devices also a PPP protocol.
func (w *walk) cookedType(value uint16) protocol {
	switch value {
	case 0x0004: // ETH_P_802_2
		return llc
	case 0x0021:
		return ipv4
	case 0x0057:
		return ipv6
	}
	return w.etherType(value)
}

// readFirewire reads destination and source of eight bytes each, and an EtherType.
func readFirewire(w *walk, b []byte) (int, protocol) {
	const size = 18
	if len(b) < size {
		return -1, none
	}
	return size, w.etherType(binary.BigEndian.Uint16(b[16:]))
}

// NFLOG: family, version, resource, and then values with length and type in the byte order of
// the capturing host, each padded to four bytes.
const (
	nflogHeader  = 4
	nflogPayload = 9 // NFULA_PAYLOAD of linux/netfilter/nfnetlink_log.h
)

func readNFLOG(w *walk, b []byte) (int, protocol) {
	for _, order := range byteOrders {
		for at := nflogHeader; at+4 <= len(b); {
			length, kind := int(order.Uint16(b[at:])), order.Uint16(b[at+2:])
			if length < 4 || w.at+at+length > w.f.Length {
				break
			}
			if kind == nflogPayload {
				w.until(w.at + at + length)
				return at + 4, ipAny
			}
			at += (length + 3) &^ 3
		}
	}
	return -1, none
}

// resizeNFLOG writes the length of the payload, the last value.
func resizeNFLOG(f *Frame, i int) {
	field := f.Data[f.ip-4:]
	if i+1 < f.depth {
		field = f.Data[f.places[i+1].at-4:]
	}
	length := f.wireEnd() - (len(f.Data) - len(field))
	for _, order := range byteOrders {
		if order.Uint16(field[2:]) == nflogPayload {
			order.PutUint16(field, uint16(length))
			return
		}
	}
}

// wireEnd returns the end of the packet on the wire, as an offset in the frame.
func (f *Frame) wireEnd() int { return f.end + f.missing }

// putLength writes a length of 16 bits. A length of 0 stays: it is unknown.
func putLength(field []byte, length int) {
	if binary.BigEndian.Uint16(field) != 0 {
		binary.BigEndian.PutUint16(field, uint16(length))
	}
}
