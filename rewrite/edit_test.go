package rewrite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

// capable is the option that a box adds to a SYN: version 1, HMAC-SHA256.
var capable = []byte{30, 4, 0x01, 0x01}

// carriers build a packet with an option list, with and without IP options and extension
// headers. An edit has the same result in each.
var carriers = []struct {
	name  string
	build func(flags Flags, options, data []byte) []byte
}{
	{"IPv4", tcp4},
	{"IPv4 with options", func(flags Flags, options, data []byte) []byte {
		return ipv4Bytes(protocolTCP, []byte{148, 4, 0, 0, 1, 1, 1, 0}, tcpBytes(client4, server4, flags, options, data))
	}},
	{"IPv6", func(flags Flags, options, data []byte) []byte { return tcp6(flags, options, data) }},
	{"IPv6 with extension headers", func(flags Flags, options, data []byte) []byte {
		return tcp6(flags, options, data, hopByHop, destination, routing(routingSource, 0, sourceList(2)), atomic, destination)
	}},
}

// payloads of a SYN: none, one of odd length, one as long as a fast open may carry.
var payloads = [][]byte{nil, []byte("odd"), bytes.Repeat([]byte{0xff, 1, 0x80}, 480)}

// everyCarrier edits one option list in each carrier with each payload, and compares the
// result with a packet from the builders, with full checksums.
func everyCarrier(t *testing.T, flags Flags, from, to []byte, edit func(*Segment, []byte) ([]byte, error)) {
	t.Helper()
	for _, c := range carriers {
		for _, data := range payloads {
			packet, want := c.build(flags, from, data), c.build(flags, to, data)
			before := bytes.Clone(packet)
			got, err := edit(parsed(t, packet), nil)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %d bytes of data: %v\n got %x\nwant %x", c.name, len(data), err, got, want)
			}
			if !bytes.Equal(before, packet) {
				t.Errorf("%s: the edit changes the packet", c.name)
			}
		}
	}
}

// everyCarrierRefuses is like everyCarrier, for an edit that must be refused.
func everyCarrierRefuses(t *testing.T, flags Flags, list []byte, want Reason, edit func(*Segment, []byte) ([]byte, error)) {
	t.Helper()
	for _, c := range carriers {
		for _, data := range payloads {
			wantRefusal(t, c.name, c.build(flags, list, data), want, edit)
		}
	}
}

func wantRefusal(t *testing.T, name string, packet []byte, want error, edit func(*Segment, []byte) ([]byte, error)) {
	t.Helper()
	before := bytes.Clone(packet)
	got, err := edit(parsed(t, packet), []byte("before"))
	if err != want || string(got) != "before" {
		t.Errorf("%s: got %q, %v, want %v", name, got, err, want)
	}
	if !bytes.Equal(before, packet) {
		t.Errorf("%s: the edit changes the packet", name)
	}
}

func addCapable(s *Segment, dst []byte) ([]byte, error) { return s.Add(dst, capable) }
func strip(s *Segment, dst []byte) ([]byte, error)      { return s.Strip(dst) }

// edits are Add and Strip, each with an option list that it changes.
var edits = []struct {
	name string
	list []byte
	edit func(*Segment, []byte) ([]byte, error)
}{
	{"Add", usual, addCapable},
	{"Strip", cat(usual, capable), strip},
}

func TestEditsRefuseDamagedRoutedAndSignedPackets(t *testing.T) {
	for _, e := range edits {
		syn4, syn6 := tcp4(SYN, e.list, []byte("data")), tcp6(SYN, e.list, []byte("data"))
		routed4 := ipv4Bytes(protocolTCP, sourceRoute(ipv4OptionLSRR, 4, hop4), tcpBytes(client4, hop4, SYN, e.list, nil))
		routed6 := ipv6Bytes([]header6{routing(routingSegment, 1, segmentList(1))}, protocolTCP, tcpBytes(client6, hop6, SYN, e.list, nil))
		for _, tt := range []struct {
			name   string
			packet []byte
			want   Reason
		}{
			{"a wrong TCP checksum, IPv4", edit(syn4, ipv4MinimumSize+tcpChecksum, syn4[ipv4MinimumSize+tcpChecksum]^1), BadChecksum},
			{"a wrong TCP checksum, IPv6", edit(syn6, ipv6Size+tcpChecksum, syn6[ipv6Size+tcpChecksum]^1), BadChecksum},
			{"a TCP checksum of zero", edit(syn4, ipv4MinimumSize+tcpChecksum, 0, 0), BadChecksum},
			{"a changed payload", edit(syn6, len(syn6)-1, 0), BadChecksum},
			{"a wrong IPv4 header checksum", edit(syn4, ipv4Checksum, syn4[ipv4Checksum]^1), BadChecksum},
			{"an IPv4 source route", routed4, SourceRouted},
			{"an IPv6 source route", routed6, SourceRouted},
			{"AH", tcp6(SYN, e.list, nil, ah), Authenticated},
			{"AH behind other headers", tcp6(SYN, e.list, nil, hopByHop, destination, atomic, ah, destination), Authenticated},
			{"an MD5 signature", tcp4(SYN, cat([]byte{optionMD5, 18}, make([]byte, 16), e.list[:4]), nil), Authenticated},
			{"TCP-AO", tcp4(SYN, cat([]byte{optionAO, 16}, make([]byte, 14), e.list[:4]), nil), Authenticated},
			{"an MD5 signature behind an MSS of a wrong length", tcp4(SYN, cat([]byte{optionMSS, 3, 5, optionNop, optionMD5, 18}, make([]byte, 16)), nil), Authenticated},
			{"TCP-AO behind timestamps of a wrong length", tcp6(SYN, cat([]byte{optionTimestamps, 4, 0, 0, optionAO, 16}, make([]byte, 14)), nil), Authenticated},
			{"an option beyond the list", tcp6(SYN, cat(mss, []byte{30, 5, 1, 1}), nil), BadOption},
			{"an option without a length", tcp6(SYN, cat(mss, nop, nop, nop, []byte{30}), nil), BadOption},
			{"an option of length one", tcp6(SYN, cat(mss, []byte{3, 1, 4, 2}), nil), BadOption},
			{"an ACK", tcp4(ACK, e.list, nil), NotSYN},
			{"a SYN with FIN", tcp4(SYN|FIN, e.list, nil), NotSYN},
			{"a SYN with RST", tcp4(SYN|RST, e.list, nil), NotSYN},
		} {
			wantRefusal(t, e.name+": "+tt.name, tt.packet, tt.want, e.edit)
			if got := parsed(t, tt.packet).Authenticated(); got != (tt.want == Authenticated) {
				t.Errorf("%s: Authenticated: got %v", tt.name, got)
			}
		}
		wantReason(t, tcp6(SYN, e.list, nil, first), Fragment) // refused before an edit
		wantReason(t, ipv4Bytes(protocolAH, nil, tcpBytes(client4, server4, SYN, e.list, nil)), NotTCP)
		for _, s := range []*Segment{{}, {Flags: SYN}} {
			if _, err := e.edit(s, nil); err != NotSYN {
				t.Errorf("%s: a Segment without a packet: got %v", e.name, err)
			}
		}
	}
}

// ECN, PSH, URG, IPv4 options and reserved bits neither change nor prevent an edit.
func TestEditsKeepOtherFieldsAndFlags(t *testing.T) {
	for _, flags := range []Flags{SYN, SYN | ECE | CWR, SYN | PSH, SYN | URG} {
		everyCarrier(t, flags, usual, cat(usual, capable), addCapable)
		everyCarrier(t, flags, cat(usual, capable), usual, strip)
	}
	// IPv4 options up to the length of an IPv6 header, with data that look like an AH.
	looks := cat(nops(18), []byte{148, 22, protocolAH}, make([]byte, 19))
	for _, e := range edits {
		packet := ipv4Bytes(protocolTCP, looks, tcpBytes(client4, server4, SYN, e.list, nil))
		if _, err := e.edit(parsed(t, packet), nil); err != nil {
			t.Errorf("%s: %v", e.name, err)
		}
	}
	// The reserved bits beside the data offset (RFC 9293, section 3.1).
	for _, e := range edits {
		packet := withChecksums(edit(tcp6(SYN, e.list, nil), ipv6Size+tcpDataOffset, byte(5+len(e.list)/4)<<4|0x0f))
		got, err := e.edit(parsed(t, packet), nil)
		if err != nil || got[ipv6Size+tcpDataOffset]&0x0f != 0x0f {
			t.Errorf("%s: %v, %x", e.name, err, got)
		}
		wantGoodChecksums(t, got)
	}
}

func TestEditsDropBytesBehindIPPayload(t *testing.T) {
	for _, e := range edits {
		packet := tcp4(SYN, e.list, []byte("data"))
		want, _ := e.edit(parsed(t, packet), nil)
		got, err := e.edit(parsed(t, cat(packet, []byte("Ethernet"))), nil)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got %x, %v, want %x", e.name, got, err, want)
		}
	}
}

func TestEditsAppendToDst(t *testing.T) {
	for _, e := range edits {
		s := parsed(t, tcp6(SYN, e.list, []byte("data"), destination))
		want, err := e.edit(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, room := range []int{0, 10, len(want) + 40} {
			dst := append(make([]byte, 0, 6+room), "before"...)
			got, err := e.edit(s, dst)
			if err != nil || !bytes.Equal(got, cat([]byte("before"), want)) {
				t.Errorf("%s, room for %d: got %x, %v", e.name, room, got, err)
			}
		}
	}
}

func TestEditsInPlace(t *testing.T) {
	for _, e := range edits {
		for _, c := range carriers {
			for _, data := range payloads {
				packet := c.build(SYN, e.list, data)
				want, _ := e.edit(parsed(t, packet), nil)
				buffer := append(make([]byte, 0, len(packet)+40), packet...)
				got, err := e.edit(parsed(t, buffer), buffer[:0])
				if err != nil || !bytes.Equal(got, want) || &got[0] != &buffer[0] {
					t.Errorf("%s, %s: got %x, %v, want %x", e.name, c.name, got, err, want)
				}
			}
		}
	}
}

// SYNs of the largest length in the IP header, and up to four bytes less.
func TestAddRefusesToExceedIPLength(t *testing.T) {
	longest := func(c func(Flags, []byte, []byte) []byte, less int) []byte {
		rest := math.MaxUint16 - len(c(SYN, usual, nil)) - less
		if c(SYN, nil, nil)[0]>>4 == 6 {
			rest += ipv6Size
		}
		return c(SYN, usual, make([]byte, rest))
	}
	for _, c := range carriers {
		for less := range 4 {
			wantRefusal(t, c.name, longest(c.build, less), TooLong, addCapable)
		}
		got, err := parsed(t, longest(c.build, 4)).Add(nil, capable)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		wantGoodChecksums(t, got)
	}
}

// wantGoodChecksums compares the checksums with full sums by the oracle.
func wantGoodChecksums(t *testing.T, packet []byte) {
	t.Helper()
	if want := withChecksums(packet); !bytes.Equal(packet, want) {
		t.Fatalf("checksums: got %x, want %x", packet, want)
	}
}

// withChecksums returns a packet with correct checksums, from the oracle. Parse must
// accept the packet.
func withChecksums(packet []byte) []byte {
	var s Segment
	if err := s.Parse(packet); err != nil {
		panic(err)
	}
	b := bytes.Clone(s.packet)
	tcp := b[s.tcp:]
	clear(tcp[tcpChecksum:][:2])
	pseudo := cat(s.Src.Addr().AsSlice(), s.Dst.Addr().AsSlice(), be32(uint32(len(tcp))), be32(protocolTCP))
	binary.BigEndian.PutUint16(tcp[tcpChecksum:], oracle(cat(pseudo, tcp)))
	if b[0]>>4 == 4 {
		clear(b[ipv4Checksum:][:2])
		binary.BigEndian.PutUint16(b[ipv4Checksum:], oracle(b[:s.tcp]))
	}
	return b
}

func TestEditsDoNotAllocate(t *testing.T) {
	dst := make([]byte, 0, 2048)
	for _, e := range edits {
		for _, packet := range [][]byte{
			tcp4(SYN, e.list, []byte("data")),
			tcp6(SYN, e.list, nil, hopByHop, destination),
			tcp6(SYN, e.list, nil, ah),                                      // refused
			edit(tcp4(SYN, e.list, nil), ipv4MinimumSize+tcpChecksum, 0, 0), // refused
		} {
			var s Segment
			if n := testing.AllocsPerRun(100, func() {
				if s.Parse(packet) != nil {
					t.Fatal("Parse refuses the packet")
				}
				if got, err := e.edit(&s, dst); (err != nil) == (len(got) > 0) {
					t.Fatal(got, err)
				}
			}); n != 0 {
				t.Errorf("%s: %v allocations", e.name, n)
			}
		}
	}
}

func TestEditErrorsAreReasons(t *testing.T) {
	_, err := new(Segment).Strip(nil)
	var r Reason
	if !errors.As(err, &r) || r != NotSYN {
		t.Errorf("got %v", err)
	}
}
