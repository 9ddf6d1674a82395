package rewrite

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

// edit returns a copy of b with other bytes at an offset.
func edit(b []byte, at int, put ...byte) []byte {
	b = bytes.Clone(b)
	copy(b[at:], put)
	return b
}

func TestParseFindsTCPHeaderAndDestination(t *testing.T) {
	syn4 := tcpBytes(client4, server4, SYN, usual, nil)
	hopped4 := tcpBytes(client4, hop4, SYN, usual, nil)
	hopped6 := tcpBytes(client6, hop6, SYN, usual, nil)
	v6 := func(tcp []byte, chain ...header6) []byte { return ipv6Bytes(chain, protocolTCP, tcp) }
	for _, tt := range []struct {
		name   string
		packet []byte
		dst    netip.Addr
		routed bool
	}{
		{"IPv4 without options", tcp4(SYN, usual, nil), server4, false},
		{"IPv4 with a router alert", ipv4Bytes(protocolTCP, []byte{148, 4, 0, 0}, syn4), server4, false},
		{"IPv4 with Nop, End and padding", ipv4Bytes(protocolTCP, []byte{1, 1, 0, 255}, syn4), server4, false},
		{"IPv4 with forty bytes of options", ipv4Bytes(protocolTCP, bytes.Repeat(nop, 40), syn4), server4, false},
		{"IPv4 with the reserved fragment bit", edit(tcp4(SYN, usual, nil), 6, 0x80), server4, false},
		{"a loose source route with a hop left ends at its last address",
			ipv4Bytes(protocolTCP, sourceRoute(ipv4OptionLSRR, 4, hop4), hopped4), hop4, true},
		{"a strict source route with a hop left ends at its last address",
			ipv4Bytes(protocolTCP, sourceRoute(ipv4OptionSSRR, 4, hop4), hopped4), hop4, true},
		{"a source route at its end changes nothing",
			ipv4Bytes(protocolTCP, sourceRoute(ipv4OptionLSRR, 8, hop4), syn4), server4, false},

		{"IPv6 without extension headers", tcp6(SYN, usual, nil), server6, false},
		{"IPv6 with hop-by-hop options", tcp6(SYN, usual, nil, hopByHop), server6, false},
		{"IPv6 with hop-by-hop options that are Pad1", tcp6(SYN, usual, nil, header6{protocolHopByHop, make([]byte, 7)}), server6, false},
		{"IPv6 with destination options", tcp6(SYN, usual, nil, destination), server6, false},
		{"IPv6 destination option beyond its header is for the destination to refuse",
			tcp6(SYN, usual, nil, header6{protocolDestination, []byte{0, 5, 9, 0, 0, 0, 0}}), server6, false},
		{"IPv6 with the bytes of a home address option in the data of another", tcp6(SYN, usual, nil,
			header6{protocolDestination, cat([]byte{2, 5, 18, homeAddress, 16}, hop6.AsSlice(), []byte{1, 0})}), server6, false},
		{"IPv6 with an authentication header", tcp6(SYN, usual, nil, ah), server6, false},
		{"an atomic fragment counts as a whole packet", tcp6(SYN, usual, nil, atomic), server6, false},
		{"every header in the order of RFC 8200", v6(hopped6, hopByHop, destination,
			routing(routingSegment, 1, segmentList(1)), atomic, ah, destination), hop6, true},
		{"a source routing header ends at its last address",
			v6(hopped6, routing(routingSource, 1, sourceList(2))), hop6, true},
		{"a mobility routing header ends at the home address",
			v6(hopped6, routing(routingMobility, 1, sourceList(1))), hop6, true},
		{"a segment routing header ends at its first entry",
			v6(hopped6, routing(routingSegment, 2, segmentList(2))), hop6, true},
		{"a reduced segment list points one beyond its end",
			v6(hopped6, routing(routingSegment, 1, segmentList(0))), hop6, true},
		{"a segment routing header may carry a TLV",
			v6(hopped6, routing(routingSegment, 1, cat(segmentList(1), make([]byte, 8)))), hop6, true},
		{"a routing header with no segment left changes nothing",
			tcp6(SYN, usual, nil, routing(routingSource, 0, sourceList(2))), server6, false},
		{"an unknown routing type with no segment left is skipped",
			tcp6(SYN, usual, nil, routing(99, 0, be32(0))), server6, false},
		{"an extension header of the largest size is walked",
			tcp6(SYN, usual, nil, header6{protocolDestination, cat([]byte{255}, make([]byte, 2046))}), server6, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := client4
			if tt.dst.Is6() {
				src = client6
			}
			var s Segment
			if err := s.Parse(tt.packet); err != nil {
				t.Fatalf("Parse: %v", err)
			}
			if s.Src != netip.AddrPortFrom(src, clientPort) || s.Dst != netip.AddrPortFrom(tt.dst, serverPort) {
				t.Errorf("endpoints: got %v > %v, want %v > %v", s.Src, s.Dst, src, tt.dst)
			}
			if s.SourceRouted != tt.routed {
				t.Errorf("SourceRouted: got %v, want %v", s.SourceRouted, tt.routed)
			}
			if !bytes.HasPrefix(s.Options, usual) || len(s.Payload) != 0 {
				t.Errorf("options %x, payload %x", s.Options, s.Payload)
			}
			if !s.ChecksumOK() {
				t.Error("ChecksumOK refuses the checksum over these addresses")
			}
		})
	}
}

func TestParseRefusesBadIPHeaders(t *testing.T) {
	syn := tcpBytes(client4, server4, SYN, usual, nil)
	syn4, syn6 := tcp4(SYN, usual, nil), tcp6(SYN, usual, nil)
	options4 := func(b ...byte) []byte { return ipv4Bytes(protocolTCP, b, syn) }
	v6 := func(chain ...header6) []byte { return tcp6(SYN, usual, nil, chain...) }
	for _, tt := range []struct {
		name   string
		packet []byte
		want   Reason
	}{
		{"no bytes", nil, Truncated},
		{"IP version 5", edit(syn4, 0, 0x55), BadIPHeader},
		{"IPv4 header length of four words", edit(syn4, 0, 0x44), BadIPHeader},
		{"IPv4 total length below the header length", edit(syn4, 2, 0, 19), BadIPHeader},
		{"IPv4 total length of zero", edit(syn4, 2, 0, 0), BadIPHeader},
		{"IPv4 total length beyond the packet", edit(syn4, 2, 0xff, 0xff), Truncated},
		{"IPv4 header length beyond the total length", edit(tcp4(SYN, nil, nil), 0, 0x4f), BadIPHeader},
		{"IPv4 option without a length", options4(1, 1, 1, 148), BadIPHeader},
		{"IPv4 option of length one", options4(148, 1, 0, 0), BadIPHeader},
		{"IPv4 option beyond the header", options4(148, 5, 0, 0), BadIPHeader},
		{"IPv4 source route without a pointer", options4(131, 2, 0, 0), BadIPHeader},
		{"IPv4 source route with a pointer of three", options4(sourceRoute(131, 3, hop4)...), BadIPHeader},
		{"IPv4 source route that points inside an address", options4(sourceRoute(131, 7, hop4)...), BadIPHeader},
		{"IPv4 source route with half an address", options4(131, 5, 4, 0, 0, 0, 0, 0), BadIPHeader},
		{"IPv4 source route twice", options4(cat(sourceRoute(131, 8, hop4)[:7], sourceRoute(137, 8, hop4), []byte{0})...), BadIPHeader},
		{"IPv4 first fragment", edit(syn4, 6, 0x20, 0), Fragment},
		{"IPv4 middle fragment", edit(syn4, 6, 0x20, 1), Fragment},
		{"IPv4 last fragment", edit(syn4, 6, 0, 1), Fragment},
		{"IPv4 fragment with the largest offset", edit(syn4, 6, 0x1f, 0xff), Fragment},
		{"IPv4 fragment of another protocol", edit(ipv4Bytes(17, nil, syn), 6, 0x20, 0), Fragment},
		{"IPv4 with UDP", ipv4Bytes(17, nil, syn), NotTCP},
		{"IPv4 with ESP", ipv4Bytes(50, nil, syn), NotTCP},
		{"IPv4 with AH", ipv4Bytes(51, nil, syn), NotTCP},

		{"IPv6 payload length beyond the packet", edit(syn6, 4, 0xff, 0xff), Truncated},
		{"IPv6 payload length of zero is a jumbogram", edit(syn6, 4, 0, 0), BadIPHeader},
		{"IPv6 jumbogram with its option", edit(v6(jumbo), 4, 0, 0), BadIPHeader},
		{"IPv6 jumbo option beside a payload length", v6(jumbo), BadIPHeader},
		{"IPv6 hop-by-hop option beyond its header", v6(header6{protocolHopByHop, []byte{0, 1, 5, 0, 0, 0, 0}}), BadIPHeader},
		{"IPv6 hop-by-hop option without a length", v6(header6{protocolHopByHop, []byte{0, 1, 3, 0, 0, 0, 5}}), BadIPHeader},
		{"IPv6 hop-by-hop header that is not first", v6(destination, hopByHop), BadIPHeader},
		{"IPv6 extension header beyond the packet", v6(header6{protocolDestination, []byte{255, 1, 4, 0, 0, 0, 0}}), BadIPHeader},
		{"IPv6 extension header of four bytes", ipv6Bytes(nil, protocolDestination, []byte{6, 0, 0, 0}), BadIPHeader},
		{"IPv6 extension header announced but absent", ipv6Bytes([]header6{destination}, protocolAH, nil), BadIPHeader},
		{"IPv6 authentication header below its fixed part", v6(header6{protocolAH, make([]byte, 7)}), BadIPHeader},
		{"IPv6 authentication header beyond the packet", v6(header6{protocolAH, []byte{255, 0, 0, 0, 0, 0, 0}}), BadIPHeader},
		{"IPv6 source route with more hops left than it has", v6(routing(0, 3, sourceList(2))), BadIPHeader},
		{"IPv6 source route with half an address", v6(routing(0, 1, make([]byte, 12))), BadIPHeader},
		{"IPv6 mobility route with two addresses", v6(routing(2, 1, sourceList(2))), BadIPHeader},
		{"IPv6 segment list beyond its header", v6(routing(4, 1, edit(segmentList(1), 0, 2))), BadIPHeader},
		{"IPv6 segment list without an entry", v6(routing(4, 1, be32(0))), BadIPHeader},
		{"IPv6 segments left two beyond the list", v6(routing(4, 3, segmentList(1))), BadIPHeader},
		{"IPv6 unknown routing type with a segment left", v6(routing(99, 1, sourceList(1))), UnknownExtensionHeader},
		{"IPv6 first fragment", v6(first), Fragment},
		{"IPv6 last fragment", v6(last), Fragment},
		{"IPv6 fragment behind an atomic one", v6(atomic, last), Fragment},
		{"IPv6 mobility header", v6(mobility), UnknownExtensionHeader},
		{"IPv6 shim6 header", v6(shim6), UnknownExtensionHeader},
		{"IPv6 host identity header", ipv6Bytes(nil, protocolHIP, syn), UnknownExtensionHeader},
		{"IPv6 unassigned header", ipv6Bytes(nil, 200, syn), UnknownExtensionHeader},
		{"IPv6 experimental header", ipv6Bytes(nil, 253, syn), UnknownExtensionHeader},
		{"IPv6 home address option", v6(homeAddr), UnknownExtensionHeader},
		{"IPv6 home address option behind padding", v6(header6{protocolDestination,
			cat([]byte{3, 0, 1, 4, 0, 0, 0, 0}, []byte{homeAddress, 16}, hop6.AsSlice(), make([]byte, 5))}), UnknownExtensionHeader},
		{"IPv6 with ESP", ipv6Bytes(nil, 50, syn), NotTCP},
		{"IPv6 with UDP", ipv6Bytes([]header6{hopByHop}, 17, syn), NotTCP},
		{"IPv6 with ICMPv6", ipv6Bytes(nil, 58, syn), NotTCP},
		{"IPv6 with no next header", ipv6Bytes([]header6{destination}, protocolNoNext, nil), NotTCP},
		{"IPv6 that is a header only", ipv6Bytes(nil, protocolNoNext, nil), NotTCP},
	} {
		t.Run(tt.name, func(t *testing.T) { wantReason(t, tt.packet, tt.want) })
	}
}

// wantReason parses a packet that must be refused, into a Segment with another packet. No
// value of the other packet may remain.
func wantReason(t *testing.T, packet []byte, want Reason) {
	t.Helper()
	var s Segment
	if err := s.Parse(tcp6(ACK, usual, []byte("before"))); err != nil {
		t.Fatal(err)
	}
	if err := s.Parse(packet); err != want {
		t.Errorf("got %v, want %v", err, want)
	}
	if !isZero(&s) {
		t.Errorf("after a refused packet: %+v", s)
	}
}

func isZero(s *Segment) bool {
	return s.Src == netip.AddrPort{} && s.Dst == netip.AddrPort{} && !s.SourceRouted &&
		s.Seq == 0 && s.Ack == 0 && s.Flags == 0 && s.Window == 0 &&
		s.Options == nil && s.Payload == nil && s.packet == nil && s.tcp == 0
}

// Every proper prefix of a good packet is shorter than the length in its IP header.
func TestParseRefusesEveryPrefix(t *testing.T) {
	var s Segment
	for _, packet := range seeds() {
		if s.Parse(packet) != nil {
			continue
		}
		for n := range packet {
			if err := s.Parse(packet[:n:n]); err != Truncated {
				t.Fatalf("%d of %d bytes: got %v, want %v\n%x", n, len(packet), err, Truncated, packet)
			}
		}
	}
}

// With the length in the IP header reduced as well, the reason is a header without room,
// and no read is out of range.
func TestParseRefusesEveryShortIPLength(t *testing.T) {
	var s Segment
	for _, packet := range seeds() {
		if s.Parse(packet) != nil || len(s.Payload) > 0 {
			continue
		}
		fixed, at, less := ipv4MinimumSize, ipv4TotalLength, 0
		if packet[0]>>4 == 6 {
			fixed, at, less = ipv6Size, ipv6PayloadLength, ipv6Size
		}
		for n := fixed; n < len(packet); n++ {
			short := bytes.Clone(packet[:n:n])
			binary.BigEndian.PutUint16(short[at:], uint16(n-less))
			if err := s.Parse(short); err != BadIPHeader && err != BadTCPHeader {
				t.Fatalf("%d of %d bytes: got %v\n%x", n, len(packet), err, packet)
			}
		}
	}
}
