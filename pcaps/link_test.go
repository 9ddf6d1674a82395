package pcaps

import (
	"bytes"
	"testing"
)

// Destination and source of an Ethernet header.
var macs = []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}

// The headers of Linux cooked captures, without the protocol: last in v1, first in v2.
var (
	cookedIn   = []byte{0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}
	cookedOut  = []byte{0, 4, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}
	cooked2In  = []byte{0, 0, 0, 0, 0, 3, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0}
	cooked2Out = []byte{0, 0, 0, 0, 0, 3, 0, 1, 4, 6, 2, 0, 0, 0, 0, 1, 0, 0}
)

// linkHeader is a link-layer header in front of a packet.
type linkHeader struct {
	name      string
	link      LinkType
	version   int // of IP
	header    []byte
	direction Direction
}

var linkHeaders = []linkHeader{
	{"Ethernet", LinkEthernet, 6, cat(macs, []byte{0x86, 0xdd}), Unknown},
	{"Ethernet, IPv4", LinkEthernet, 4, cat(macs, []byte{8, 0}), Unknown},
	{"802.1Q", LinkEthernet, 6, cat(macs, []byte{0x81, 0, 0, 7, 0x86, 0xdd}), Unknown},
	{"802.1ad with 802.1Q", LinkEthernet, 4, cat(macs, []byte{0x88, 0xa8, 0, 7, 0x81, 0, 0x20, 8, 8, 0}), Unknown},
	{"three tags", LinkEthernet, 6, cat(macs, []byte{0x91, 0, 0, 7, 0x81, 0, 0, 8, 0x81, 0, 0, 9, 0x86, 0xdd}), Unknown},
	{"cooked v1, received", LinkCooked, 6, cat(cookedIn, []byte{0x86, 0xdd}), Inbound},
	{"cooked v1, sent, with VLAN", LinkCooked, 4, cat(cookedOut, []byte{0x81, 0, 0, 7, 8, 0}), Outbound},
	{"cooked v2, received", LinkCooked2, 4, cat([]byte{8, 0}, cooked2In), Inbound},
	{"cooked v2, sent", LinkCooked2, 6, cat([]byte{0x86, 0xdd}, cooked2Out), Outbound},
	{"cooked v2, sent, with VLAN", LinkCooked2, 6, cat([]byte{0x81, 0}, cooked2Out, []byte{0, 7, 0x86, 0xdd}), Outbound},
	{"raw, IPv4", LinkRaw, 4, nil, Unknown},
	{"raw, IPv6", LinkRaw, 6, nil, Unknown},
	{"raw of BSD", LinkRawBSD, 6, nil, Unknown},
	{"raw of OpenBSD", LinkRawOpenBSD, 4, nil, Unknown},
	{"raw IPv4", LinkIPv4, 4, nil, Unknown},
	{"raw IPv6", LinkIPv6, 6, nil, Unknown},
	{"loopback of FreeBSD", LinkNull, 6, []byte{28, 0, 0, 0}, Unknown},
	{"loopback of macOS", LinkNull, 6, []byte{30, 0, 0, 0}, Unknown},
	{"loopback of NetBSD, big endian", LinkNull, 6, []byte{0, 0, 0, 24}, Unknown},
	{"loopback, IPv4", LinkNull, 4, []byte{2, 0, 0, 0}, Unknown},
	{"loopback of OpenBSD", LinkLoop, 4, []byte{0, 0, 0, 2}, Unknown},
}

// frameOf returns a frame as from a Reader. length is the length on the wire.
func frameOf(link LinkType, data []byte, length int) *Frame {
	f := &Frame{Data: data, Length: length}
	f.decode(link)
	return f
}

func TestPacketBehindEveryLinkHeader(t *testing.T) {
	for _, c := range linkHeaders {
		t.Run(c.name, func(t *testing.T) {
			packet := synPacket(t, c.version)
			whole := cat(c.header, packet)
			f := frameOf(c.link, whole, len(whole))
			if !bytes.Equal(f.Packet(), packet) || f.Missing() != 0 {
				t.Errorf("frame %x: got %x, %d bytes missing", whole, f.Packet(), f.Missing())
			}
			if f.Direction != c.direction {
				t.Errorf("%v, want %v", f.Direction, c.direction)
			}
			other := cat(c.header, synPacket(t, 10-c.version))
			if f := frameOf(c.link, other, len(other)); c.header != nil && f.Packet() != nil {
				t.Errorf("got %x in a frame of IPv%d", f.Packet(), c.version)
			}
		})
	}
}

func TestMissingCountsTruncatedBytes(t *testing.T) {
	for _, c := range linkHeaders {
		packet := synPacket(t, c.version)
		whole := cat(c.header, packet, make([]byte, 6)) // padding
		for n := range whole {
			f := frameOf(c.link, whole[:n:n], len(whole))
			want := packet[:min(max(n-len(c.header), 0), len(packet))]
			if !bytes.Equal(f.Packet(), want) {
				t.Fatalf("%s, %d bytes: got %x, want %x", c.name, n, f.Packet(), want)
			}
			const length = 6 // end of the length field in either IP version; without it padding counts as missing
			if total := len(want) + f.Missing(); len(want) >= length && total != len(packet) {
				t.Fatalf("%s, %d bytes: %d bytes and %d missing, want %d", c.name, n, len(want), f.Missing(), len(packet))
			}
		}
	}
}

func TestPacketEndsAtLengthInIPHeader(t *testing.T) {
	v4, v6 := synPacket(t, 4), synPacket(t, 6)
	ether4, ether6 := cat(macs, []byte{8, 0}), cat(macs, []byte{0x86, 0xdd})
	long := bytes.Clone(v6)
	long[4] = 1 // 256 bytes more than the packet has
	noLength4, noLength6 := bytes.Clone(v4), bytes.Clone(v6)
	noLength4[2], noLength4[3] = 0, 0
	noLength6[4], noLength6[5] = 0, 0
	for _, c := range []struct {
		name   string
		frame  []byte
		length int // on the wire
		want   []byte
		cut    int
	}{
		{"padding to 60 bytes", cat(ether4, v4, make([]byte, 6)), 60, v4, 0},
		{"a frame check sequence", cat(ether6, v6, []byte{1, 2, 3, 4}), 78, v6, 0},
		{"a truncated frame check sequence", cat(ether6, v6), 78, v6, 0},
		{"a packet longer than its frame", cat(ether6, long), 74, long, 0},
		{"IPv4 without length, segmented by the network card", cat(ether4, noLength4), 5000, noLength4, 5000 - 54},
		{"IPv6 without length", cat(ether6, noLength6), 90000, noLength6, 90000 - 74},
	} {
		f := frameOf(LinkEthernet, c.frame, c.length)
		if !bytes.Equal(f.Packet(), c.want) || f.Missing() != c.cut {
			t.Errorf("%s: got %x, %d bytes missing, want %x, %d", c.name, f.Packet(), f.Missing(), c.want, c.cut)
		}
	}
}

func TestPacketIsNilWithoutIP(t *testing.T) {
	v4 := synPacket(t, 4)
	for _, c := range []struct {
		name  string
		link  LinkType
		frame []byte
	}{
		{"ARP", LinkEthernet, cat(macs, []byte{8, 6}, v4)},
		{"an IPv5 packet", LinkRaw, cat([]byte{0x55}, v4[1:])},
		{"a family of other protocols", LinkNull, cat([]byte{7, 0, 0, 0}, v4)},
		{"802.11", 105, v4},
		{"nothing", LinkRaw, nil},
	} {
		f := frameOf(c.link, c.frame, len(c.frame)+10)
		if f.Packet() != nil || f.Missing() != 0 {
			t.Errorf("%s: got %x, %d bytes missing", c.name, f.Packet(), f.Missing())
		}
	}
}

func TestReplaceKeepsLinkHeader(t *testing.T) {
	for _, c := range linkHeaders {
		packet := synPacket(t, c.version)
		const padding, cut = 9, 5
		frame := cat(c.header, packet, make([]byte, padding))
		f := frameOf(c.link, frame, len(frame))
		other := cat(packet[:4], []byte("another packet"))
		f.Replace(other)
		if want := cat(c.header, other); !bytes.Equal(f.Data, want) || f.Length != len(want) || !bytes.Equal(f.Packet(), other) {
			t.Errorf("%s: %x, %d bytes, want %x", c.name, f.Data, f.Length, want)
		}
		f.Replace(f.Packet()[:9]) // from its own memory
		if !bytes.Equal(f.Packet(), other[:9]) {
			t.Errorf("%s: %x, want %x", c.name, f.Packet(), other[:9])
		}

		whole := cat(c.header, packet)
		f = frameOf(c.link, whole[:len(whole)-cut], len(whole))
		f.Replace(other)
		if want := len(c.header) + len(other) + cut; f.Length != want || f.Missing() != cut {
			t.Errorf("%s: %d bytes, %d missing, want %d, %d", c.name, f.Length, f.Missing(), want, cut)
		}
		if !bytes.Equal(frame[len(c.header):][:len(packet)], packet) {
			t.Errorf("%s: Replace changes the first frame", c.name)
		}
	}
}

func TestDirectionFromPacketTypeOfCookedCaptures(t *testing.T) {
	const toHost, broadcast, multicast, otherHost, outgoing, loopback = 0, 1, 2, 3, 4, 5
	for kind, want := range map[byte]string{
		toHost: "inbound", broadcast: "inbound", multicast: "inbound", otherHost: "inbound",
		outgoing: "outbound", loopback: "unknown",
	} {
		v1, v2 := bytes.Clone(cookedIn), bytes.Clone(cooked2In)
		v1[1], v2[8] = kind, kind
		arp := []byte{8, 6}
		for link, frame := range map[LinkType][]byte{LinkCooked: cat(v1, arp), LinkCooked2: cat(arp, v2)} {
			if got := frameOf(link, frame, len(frame)).Direction.String(); got != want {
				t.Errorf("%v, packet type %d: %s, want %s", link, kind, got, want)
			}
		}
	}
}

func TestLinkTypeNames(t *testing.T) {
	for link, want := range map[LinkType]string{
		LinkEthernet: "Ethernet", LinkCooked2: "Linux cooked v2", 147: "link type 147",
	} {
		if got := link.String(); got != want {
			t.Errorf("%d is %q, want %q", uint16(link), got, want)
		}
	}
}
