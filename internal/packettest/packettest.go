// Package packettest builds packets for tests: segments between two hosts, over IPv6
// and IPv4, with right checksums.
package packettest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Two hosts, by IPv6 and by IPv4.
var (
	Client6 = netip.MustParseAddrPort("[2001:db8:1::2]:49152")
	Server6 = netip.MustParseAddrPort("[2001:db8:2::2]:443")
	Client4 = netip.MustParseAddrPort("192.0.2.1:49152")
	Server4 = netip.MustParseAddrPort("198.51.100.2:443")
)

// TCP options of a SYN: kind and data. gopacket adds the length.
var (
	MSS        = layers.TCPOption{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}}
	MD5        = layers.TCPOption{OptionType: 19, OptionLength: 18, OptionData: make([]byte, 16)}
	Capable    = layers.TCPOption{OptionType: 30, OptionLength: 4, OptionData: []byte{0x01, 0x01}} // MP_CAPABLE v1
	Join       = layers.TCPOption{OptionType: 30, OptionLength: 12, OptionData: slices.Concat([]byte{0x10, 9}, make([]byte, 8))}
	BadCapable = layers.TCPOption{OptionType: 30, OptionLength: 7, OptionData: []byte{0x01, 0x01, 0, 0, 0}}
)

// Segment builds a packet, with flags set by set.
func Segment(t testing.TB, src, dst netip.AddrPort, set func(*layers.TCP), options ...layers.TCPOption) []byte {
	t.Helper()
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()),
		Seq: 1, Window: 64000, Options: options,
	}
	set(tcp)
	var ip gopacket.SerializableLayer
	if src.Addr().Is4() {
		v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		check(t, tcp.SetNetworkLayerForChecksum(v4))
		ip = v4
	} else {
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		check(t, tcp.SetNetworkLayerForChecksum(v6))
		ip = v6
	}
	buf := gopacket.NewSerializeBuffer()
	check(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp))
	return buf.Bytes()
}

// SYN builds a SYN from Client6 to Server6.
func SYN(t testing.TB, options ...layers.TCPOption) []byte {
	t.Helper()
	return Segment(t, Client6, Server6, func(tcp *layers.TCP) { tcp.SYN = true }, options...)
}

// extended puts an IPv6 extension header, without its first byte, before the TCP header.
func extended(packet []byte, kind byte, rest ...byte) []byte {
	const payloadLength, nextHeader, size = 4, 6, 40
	b := slices.Clone(packet[:size])
	b = append(append(append(b, b[nextHeader]), rest...), packet[size:]...)
	b[nextHeader] = kind
	b[payloadLength+1] += byte(1 + len(rest))
	return b
}

// SourceRouted is a SYN with a type 2 routing header (RFC 6275): one hop is left.
func SourceRouted(packet []byte) []byte {
	hop := netip.MustParseAddr("2001:db8:3::3").As16()
	return extended(packet, 43, slices.Concat([]byte{2, 2, 1, 0, 0, 0, 0}, hop[:])...)
}

// Damaged is a packet whose TCP checksum is wrong.
func Damaged(packet []byte) []byte {
	b := slices.Clone(packet)
	b[len(b)-1] ^= 1
	return b
}

// HopLimit is a SYN with that hop limit; with 1 the next router may not forward it.
func HopLimit(packet []byte, hops byte) []byte {
	b := slices.Clone(packet)
	b[7] = hops
	return b
}

// Fragment is a SYN that more fragments follow.
func Fragment(packet []byte) []byte { return extended(packet, 44, 0, 0, 1, 0, 0, 0, 7) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
