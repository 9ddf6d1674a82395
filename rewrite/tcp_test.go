package rewrite

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestSegmentFields(t *testing.T) {
	data := []byte("payload")
	for name, packet := range map[string][]byte{
		"IPv4":                         tcp4(PSH|ACK, usual, data),
		"IPv6":                         tcp6(PSH|ACK, usual, data),
		"IPv4 behind Ethernet padding": cat(tcp4(PSH|ACK, usual, data), []byte{1, 2, 3, 4, 5, 6}),
		"IPv6 behind Ethernet padding": cat(tcp6(PSH|ACK, usual, data), []byte{1, 2, 3, 4, 5, 6}),
	} {
		t.Run(name, func(t *testing.T) {
			var s Segment
			if err := s.Parse(packet); err != nil {
				t.Fatal(err)
			}
			if s.Seq != testSeq || s.Ack != testAck || s.Window != testWindow || s.Flags != PSH|ACK {
				t.Errorf("seq %#x, ack %#x, window %#x, flags %v", s.Seq, s.Ack, s.Window, s.Flags)
			}
			if want := cat(usual); !bytes.Equal(s.Options, want) {
				t.Errorf("options: got %x, want %x", s.Options, want)
			}
			if !bytes.Equal(s.Payload, data) {
				t.Errorf("payload: got %q, want %q", s.Payload, data)
			}
			if cap(s.Options) != len(s.Options) || cap(s.Payload) != len(s.Payload) {
				t.Error("an append to a view would write into the packet")
			}
		})
	}
}

func TestParseRefusesBadTCPHeaders(t *testing.T) {
	ack := tcpBytes(client4, server4, ACK, nil, []byte("data"))
	for _, tt := range []struct {
		name string
		tcp  []byte
		want Reason
	}{
		{"no TCP header at all", nil, BadTCPHeader},
		{"nineteen bytes", ack[:19], BadTCPHeader},
		{"data offset of four words", edit(ack, 12, 0x40), BadTCPHeader},
		{"data offset of zero", edit(ack, 12, 0x00), BadTCPHeader},
		{"data offset beyond the segment", edit(ack, 12, 0x70), BadTCPHeader},
	} {
		t.Run(tt.name+", IPv4", func(t *testing.T) { wantReason(t, ipv4Bytes(protocolTCP, nil, tt.tcp), tt.want) })
		t.Run(tt.name+", IPv6", func(t *testing.T) {
			wantReason(t, ipv6Bytes([]header6{destination}, protocolTCP, tt.tcp), tt.want)
		})
	}
}

func TestIsSYNAndIsSYNACKReadFourFlags(t *testing.T) {
	for bits := range 256 {
		f := Flags(bits)
		s := Segment{Flags: f}
		syn, ack, fin, rst := f&SYN != 0, f&ACK != 0, f&FIN != 0, f&RST != 0
		if got, want := s.IsSYN(), syn && !ack && !fin && !rst; got != want {
			t.Errorf("%v: IsSYN: got %v, want %v", f, got, want)
		}
		if got, want := s.IsSYNACK(), syn && ack && !fin && !rst; got != want {
			t.Errorf("%v: IsSYNACK: got %v, want %v", f, got, want)
		}
	}
}

func TestFlagsString(t *testing.T) {
	for flags, want := range map[Flags]string{
		0:               "",
		SYN:             "SYN",
		SYN | ACK:       "SYN|ACK",
		SYN | ECE | CWR: "SYN|ECE|CWR",
		0xff:            "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR",
	} {
		if got := flags.String(); got != want {
			t.Errorf("%#x: got %q, want %q", uint8(flags), got, want)
		}
	}
}

func TestNextOption(t *testing.T) {
	for _, tt := range []struct {
		name string
		list []byte
		want [][]byte
		err  error
	}{
		{"an empty list has no options", nil, nil, nil},
		{"Nop is not an option", cat(nop, nop, nop), nil, nil},
		{"the usual options come in order", usual, [][]byte{mss, sackOK, timestamp, scale}, nil},
		{"End hides what follows", cat(mss, []byte{0}, sackOK), [][]byte{mss}, nil},
		{"bad bytes behind End are padding", cat(mss, []byte{0, 2, 1, 255}), [][]byte{mss}, nil},
		{"an option without data ends the list", sackOK, [][]byte{sackOK}, nil},
		{"a kind without a length", cat(mss, []byte{3}), [][]byte{mss}, BadOption},
		{"a length of zero", cat(mss, []byte{3, 0}), [][]byte{mss}, BadOption},
		{"a length of one", cat(mss, []byte{3, 1, 7}), [][]byte{mss}, BadOption},
		{"a length one beyond the list", cat(mss, []byte{3, 4, 7}), [][]byte{mss}, BadOption},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got [][]byte
			var err error
			for list := tt.list; ; {
				var o option
				if o, list, err = nextOption(list); o == nil {
					break
				}
				got = append(got, o)
			}
			if err != tt.err {
				t.Errorf("error: got %v, want %v", err, tt.err)
			}
			if len(got) != len(tt.want) || !bytes.Equal(cat(got...), cat(tt.want...)) {
				t.Errorf("got %x, want %x", got, tt.want)
			}
		})
	}
}

func TestChecksumOverEveryLength(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 300 {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		for _, packet := range [][]byte{tcp4(ACK, usual, data), tcp6(ACK, usual, data)} {
			var s Segment
			if err := s.Parse(packet); err != nil {
				t.Fatal(err)
			}
			if !s.ChecksumOK() {
				t.Errorf("%d bytes of data: refuses a correct checksum", n)
			}
			s.packet[s.tcp+rng.IntN(len(packet)-s.tcp)] ^= 1 << rng.IntN(8)
			if s.ChecksumOK() {
				t.Errorf("%d bytes of data: accepts one changed bit", n)
			}
		}
	}
}

func TestChecksumOfAllZerosAndAllOnes(t *testing.T) {
	for _, fill := range []byte{0x00, 0xff} {
		for n := range 64 {
			var s Segment
			if err := s.Parse(tcp6(ACK, nil, bytes.Repeat([]byte{fill}, n))); err != nil {
				t.Fatal(err)
			}
			if !s.ChecksumOK() {
				t.Errorf("%d times %#x: refuses a correct checksum", n, fill)
			}
		}
	}
}

func TestChecksumCoversAddressesOfPseudoHeader(t *testing.T) {
	for name, packet := range map[string][]byte{
		"a changed IPv4 source":      edit(tcp4(ACK, usual, nil), ipv4Source, 9),
		"a changed IPv4 destination": edit(tcp4(ACK, usual, nil), ipv4Destination+3, 99),
		"a changed IPv6 source":      edit(tcp6(ACK, usual, nil), ipv6Source, 9),
		"a changed IPv6 destination": edit(tcp6(ACK, usual, nil), ipv6Destination+15, 99),
		"a sum over the first hop of a route": ipv6Bytes([]header6{routing(0, 1, sourceList(1))},
			protocolTCP, tcpBytes(client6, server6, ACK, usual, nil)),
	} {
		t.Run(name, func(t *testing.T) {
			var s Segment
			if err := s.Parse(packet); err != nil {
				t.Fatal(err)
			}
			if s.ChecksumOK() {
				t.Error("accepts a wrong checksum")
			}
		})
	}
	if new(Segment).ChecksumOK() {
		t.Error("accepts the zero Segment")
	}
}
