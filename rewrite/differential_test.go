package rewrite

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Packets with random headers and options, parsed here and by gopacket.
func TestParseAgreesWithGopacket(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		flags := Flags(rng.Uint32())
		options, data := randomOptions(rng), randomBytes(rng, rng.IntN(40))
		var packet []byte
		if rng.IntN(2) == 0 {
			ip := bytes.Repeat(nop, 4*rng.IntN(11))
			packet = ipv4Bytes(protocolTCP, ip, tcpBytes(client4, server4, flags, options, data))
		} else {
			packet = tcp6(flags, options, data, randomChain(rng)...)
		}
		compareWithGopacket(t, packet)
	}
}

func TestParseReadsPacketsBuiltByGopacket(t *testing.T) {
	tcp := &layers.TCP{SrcPort: clientPort, DstPort: serverPort, Seq: testSeq, SYN: true, Window: testWindow,
		Options: []layers.TCPOption{
			{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: mss[2:]},
			{OptionType: optionMPTCP, OptionLength: 4, OptionData: capableV1SYN[2:]},
		}}
	v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP,
		SrcIP: client4.AsSlice(), DstIP: server4.AsSlice(),
		Options: []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}}
	v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP,
		SrcIP: client6.AsSlice(), DstIP: server6.AsSlice()}
	for _, ip := range []interface {
		gopacket.NetworkLayer
		gopacket.SerializableLayer
	}{v4, v6} {
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		buffer := gopacket.NewSerializeBuffer()
		opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
		if err := gopacket.SerializeLayers(buffer, opts, ip, tcp, gopacket.Payload("fast open")); err != nil {
			t.Fatal(err)
		}
		s := parsed(t, buffer.Bytes())
		m, err := s.MPTCP()
		if err != nil || m != (MPTCP{Capable: true, Version: 1, CapableFlags: 0x81}) {
			t.Errorf("%v: got %+v, %v", ip.LayerType(), m, err)
		}
		if !s.IsSYN() || !s.ChecksumOK() || string(s.Payload) != "fast open" {
			t.Errorf("%v: got %+v", ip.LayerType(), s)
		}
		compareWithGopacket(t, buffer.Bytes())
	}
}

func compareWithGopacket(t *testing.T, packet []byte) {
	t.Helper()
	s := parsed(t, packet)
	layer := gopacket.LayerType(layers.LayerTypeIPv4)
	if packet[0]>>4 == 6 {
		layer = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(packet, layer, gopacket.NoCopy)
	tcp, ok := p.TransportLayer().(*layers.TCP)
	if !ok {
		t.Fatalf("%x: gopacket finds no TCP header: %v", packet, p.ErrorLayer())
	}
	src, dst := p.NetworkLayer().NetworkFlow().Endpoints()
	if s.Src != endpoint(t, src, tcp.SrcPort) || s.Dst != endpoint(t, dst, tcp.DstPort) {
		t.Fatalf("%x: got %v > %v, gopacket %v > %v", packet, s.Src, s.Dst, src, dst)
	}
	if s.Seq != tcp.Seq || s.Ack != tcp.Ack || s.Window != tcp.Window || uint8(s.Flags) != tcp.Contents[tcpFlags] {
		t.Fatalf("%x: got %+v, gopacket %+v", packet, s, tcp)
	}
	if s.IsSYN() != (tcp.SYN && !tcp.ACK && !tcp.FIN && !tcp.RST) {
		t.Fatalf("%x: IsSYN is %v", packet, s.IsSYN())
	}
	if !bytes.Equal(s.Payload, tcp.Payload) {
		t.Fatalf("%x: payload %x, gopacket %x", packet, s.Payload, tcp.Payload)
	}
	compareOptions(t, s.Options, tcp.Options)
}

func endpoint(t *testing.T, e gopacket.Endpoint, port layers.TCPPort) netip.AddrPort {
	t.Helper()
	a, ok := netip.AddrFromSlice(e.Raw())
	if !ok {
		t.Fatalf("not an address: %v", e)
	}
	return netip.AddrPortFrom(a, uint16(port))
}

func compareOptions(t *testing.T, list []byte, others []layers.TCPOption) {
	t.Helper()
	rest := list
	for _, other := range others {
		if other.OptionType == layers.TCPOptionKindNop || other.OptionType == layers.TCPOptionKindEndList {
			continue
		}
		o, next, err := nextOption(rest)
		if err != nil || o == nil {
			t.Fatalf("%x: got %x, %v, gopacket has %v", list, o, err, other)
		}
		if o.kind() != uint8(other.OptionType) || len(o) != int(other.OptionLength) || !bytes.Equal(o[2:], other.OptionData) {
			t.Fatalf("%x: got %x, gopacket %v", list, o, other)
		}
		rest = next
	}
	o, _, err := nextOption(rest)
	// gopacket stops at an MPTCP option whose length RFC 8684 does not have.
	if err != nil || o != nil && o.kind() != optionMPTCP {
		t.Fatalf("%x: got %x, %v, gopacket the end of the list", list, o, err)
	}
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// randomOptions returns a well-formed list of options of random kinds and Nop.
func randomOptions(rng *rand.Rand) []byte {
	var list []byte
	for {
		o := nop
		if kind := uint8(rng.UintN(256)); kind > optionNop {
			data := randomBytes(rng, rng.IntN(12))
			o = cat([]byte{kind, byte(2 + len(data))}, data)
		}
		if len(list)+len(o) > 40 || rng.IntN(8) == 0 {
			return list
		}
		list = cat(list, o)
	}
}

// randomChain returns extension headers known to gopacket, which stops at any fragment
// header and takes the destination of a source route from the IPv6 header.
func randomChain(rng *rand.Rand) []header6 {
	var chain []header6
	if rng.IntN(2) == 0 {
		chain = append(chain, hopByHop)
	}
	for range rng.IntN(4) {
		all := []header6{destination, routing(routingSource, 0, sourceList(1+rng.IntN(3)))}
		chain = append(chain, all[rng.IntN(len(all))])
	}
	return chain
}
