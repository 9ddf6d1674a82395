package rewrite

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
)

// nops returns n bytes of Nop, and ends n bytes of End.
func nops(n int) []byte { return bytes.Repeat(nop, n) }
func ends(n int) []byte { return make([]byte, n) }

// filler returns an unknown option of n bytes, with data that look like Nop.
func filler(n int) []byte {
	return cat([]byte{254, byte(n)}, nops(n-2))
}

// Option lists in the SYNs of hosts.
var (
	linux       = usual
	linuxNoTS   = cat(mss, nops(2), sackOK, nop, scale)
	linuxCookie = cat(usual, []byte{34, 10}, be64(keyA), nops(2))
	windows     = cat(mss, nop, scale, nops(2), sackOK)
	windowsTS   = cat(mss, nop, scale, sackOK, timestamp)
	macOS       = cat(mss, nop, scale, nops(2), timestamp, sackOK, ends(2))
	freeBSD     = cat(mss, nop, scale, sackOK, timestamp)
	openBSD     = cat(mss, nops(2), sackOK, nop, scale, nops(2), timestamp)
	lwIP        = mss
	stripped    = cat(usual, nops(4)) // MP_CAPABLE overwritten by a box
)

func TestAddPlacesOptionInListsOfHosts(t *testing.T) {
	long := capableV0SYN // twelve bytes, with a key
	five := []byte{30, 5, 0x01, 0x81, 0xaa}
	for _, tt := range []struct {
		name   string
		option []byte
		from   []byte
		to     []byte
	}{
		{"without options the header grows by a word", capable, nil, capable},
		{"Linux: behind the last option, the place in a SYN of Linux", capable, linux, cat(linux, capable)},
		{"Linux without timestamps", capable, linuxNoTS, cat(linuxNoTS, capable)},
		{"Linux with a fast open cookie: behind its padding", capable, linuxCookie, cat(linuxCookie, capable)},
		{"Windows: padding of two is too short", capable, windows, cat(windows, capable)},
		{"Windows with timestamps", capable, windowsTS, cat(windowsTS, capable)},
		{"macOS: before End, which moves with its padding", capable, macOS, cat(macOS[:22], capable, ends(2))},
		{"FreeBSD", capable, freeBSD, cat(freeBSD, capable)},
		{"OpenBSD", capable, openBSD, cat(openBSD, capable)},
		{"lwIP", capable, lwIP, cat(mss, capable)},
		{"a key of version 0", long, linux, cat(linux, long)},
		{"four Nop between options are overwritten", capable, cat(mss, nops(4), timestamp, nops(2)), cat(mss, capable, timestamp, nops(2))},
		{"four Nop at the front are overwritten", capable, cat(nops(4), linux), cat(capable, linux)},
		{"the first of two runs is overwritten", capable, cat(nops(4), mss, nops(4), mss), cat(capable, mss, nops(4), mss)},
		{"of five Nop at the end, four are overwritten", capable, cat(mss, sackOK, nop, nops(5)), cat(mss, sackOK, capable, nops(2))},
		{"four Nop at the end stay: Strip could not tell this list from the one without them", capable, stripped, cat(stripped, capable)},
		{"of eight Nop at the end, the first four are overwritten", capable, cat(linux, nops(8)), cat(linux, capable, nops(4))},
		{"a list of Nop", capable, nops(8), cat(capable, nops(4))},
		{"a list of four Nop", capable, nops(4), cat(nops(4), capable)},
		{"four Nop before End stay", capable, cat(mss, nops(4), ends(4)), cat(mss, nops(4), capable, ends(4))},
		{"of five Nop before End, four are overwritten", capable, cat(mss, nops(5), ends(3)), cat(mss, capable, nop, ends(3))},
		{"data of an option that look like Nop stay", capable, cat(filler(12), mss), cat(filler(12), mss, capable)},
		{"bytes behind End stay", capable, cat(mss, []byte{0, 2, 1, 255}), cat(mss, capable, []byte{0, 2, 1, 255})},
		{"an MP_CAPABLE behind End is padding", capable, cat(mss, ends(4), capable), cat(mss, capable, ends(4), capable)},
		{"options that end at an odd offset", capable, cat(scale, ends(1)), cat(scale, capable, ends(1))},
		{"an option of odd length is padded before it", five, linux, cat(linux, nops(3), five)},
		{"an option of odd length over Nop is not padded", five, cat(nops(5), scale), cat(five, scale)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			add := func(s *Segment, dst []byte) ([]byte, error) { return s.Add(dst, tt.option) }
			everyCarrier(t, SYN, tt.from, tt.to, add)
			everyCarrier(t, SYN, tt.to, tt.from, strip)
		})
	}
}

func TestAddFillsOptionSpaceToTheLastByte(t *testing.T) {
	full := cat(linux, filler(16)) // 36 bytes of options
	for _, tt := range []struct {
		name string
		from []byte
		to   []byte // nil if Add refuses
	}{
		{"36 bytes of options", full, cat(full, capable)},
		{"36 bytes, Nop behind them", cat(full, nops(4)), nil},
		{"36 bytes, End behind them", cat(full, ends(4)), nil},
		{"36 bytes, Nop before them", cat(nops(4), full), cat(capable, full)},
		{"36 bytes, Nop between them", cat(linux, nops(4), filler(16)), cat(linux, capable, filler(16))},
		{"36 bytes, two Nop twice", cat(nops(2), linux, nops(2), filler(16)), nil},
		{"35 bytes and five Nop", cat(linux, filler(15), nops(5)), cat(linux, filler(15), capable, nop)},
		{"37 bytes", cat(linux, filler(17), nops(3)), nil},
		{"37 bytes and End", cat(linux, filler(17), ends(3)), nil},
		{"38 bytes", cat(linux, filler(18), nops(2)), nil},
		{"39 bytes", cat(linux, filler(19), nop), nil},
		{"40 bytes", cat(linux, filler(20)), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.to == nil {
				everyCarrierRefuses(t, SYN, tt.from, NoOptionSpace, addCapable)
				return
			}
			everyCarrier(t, SYN, tt.from, tt.to, addCapable)
			everyCarrier(t, SYN, tt.to, tt.from, strip)
		})
	}
}

func TestAddRefusesOtherSegmentsAndOptions(t *testing.T) {
	for _, tt := range []struct {
		name   string
		flags  Flags
		option []byte
		list   []byte
		want   Reason
	}{
		{"a SYN+ACK: only its host owns the key", SYN | ACK, capableV1SYNACK, usual, NotSYN},
		{"a SYN with MP_CAPABLE", SYN, capable, cat(usual, capable), AlreadyMPTCP},
		{"a SYN with MP_CAPABLE of version 0", SYN, capable, capableV0SYN, AlreadyMPTCP},
		{"a SYN with MP_JOIN", SYN, capable, cat(usual, joinSYN), AlreadyMPTCP},
		{"no option", SYN, nil, usual, BadOption},
		{"an option of another kind", SYN, mss, usual, BadOption},
		{"an option of another subtype", SYN, joinSYN, usual, BadOption},
		{"an option of three bytes", SYN, []byte{30, 3, 0x01}, usual, BadOption},
		{"an option longer than its length byte", SYN, cat(capable, nop), usual, BadOption},
		{"an option shorter than its length byte", SYN, []byte{30, 5, 0x01, 0x01}, usual, BadOption},
		{"an option of 44 bytes", SYN, cat([]byte{30, 44, 1}, make([]byte, 41)), nil, NoOptionSpace},
		{"an option of 256 bytes", SYN, cat([]byte{30, 0, 1}, make([]byte, 253)), nil, BadOption},
	} {
		t.Run(tt.name, func(t *testing.T) {
			add := func(s *Segment, dst []byte) ([]byte, error) { return s.Add(dst, tt.option) }
			everyCarrierRefuses(t, tt.flags, tt.list, tt.want, add)
		})
	}
}

// A receiver accepts the checksum 0xffff where it accepts zero, but Strip would restore
// zero.
func TestAddRefusesTCPChecksumFFFF(t *testing.T) {
	for _, build := range []func(data []byte) []byte{
		func(data []byte) []byte { return tcp4(SYN, usual, data) },
		func(data []byte) []byte { return tcp6(SYN, usual, data) },
	} {
		for word := range 1 << 16 { // two bytes of data that make the checksum zero
			packet := build(be16(uint16(word)))
			at := parsed(t, packet).tcp + tcpChecksum
			if !bytes.Equal(packet[at:at+2], be16(0)) {
				continue
			}
			got, err := parsed(t, packet).Add(nil, capable)
			if err != nil {
				t.Errorf("refuses a checksum of zero: %v", err)
			}
			wantGoodChecksums(t, got)
			back, err := parsed(t, got).Strip(nil)
			if err != nil || !bytes.Equal(back, packet) {
				t.Errorf("got %x, %v, want %x", back, err, packet)
			}
			negative := edit(packet, at, 0xff, 0xff)
			if !parsed(t, negative).ChecksumOK() {
				t.Error("ChecksumOK refuses 0xffff")
			}
			wantRefusal(t, "0xffff", negative, BadChecksum, addCapable)
		}
	}
}

func TestAddRefusesIPv4HeaderChecksumFFFF(t *testing.T) {
	packet := tcp4(SYN, usual, nil)
	for word := 0; !bytes.Equal(packet[ipv4Checksum:][:2], be16(0)); word++ {
		packet = withChecksums(edit(packet, 4, be16(uint16(word))...)) // the identification
	}
	got, err := parsed(t, packet).Add(nil, capable)
	if err != nil {
		t.Fatalf("refuses a header checksum of zero: %v", err)
	}
	wantGoodChecksums(t, got)
	wantRefusal(t, "0xffff", edit(packet, ipv4Checksum, 0xff, 0xff), BadChecksum, addCapable)
}

// The comment at the top of edit.go shows that Add must refuse one of k+2 lists. The
// results for the others differ.
func TestAddRefusesOneListForWhichThereWouldBeRoom(t *testing.T) {
	for _, options := range [][][]byte{
		{filler(36)}, {filler(4), filler(32)}, {mss, filler(12), filler(20)},
		{mss, sackOK, timestamp, scale, filler(17)},
	} {
		lists := [][]byte{cat(options...)}
		for at := range len(options) + 1 {
			lists = append(lists, cat(slices.Concat(options[:at]...), nops(4), cat(options[at:]...)))
		}
		refused, results := 0, map[string]bool{}
		for _, list := range lists {
			got, err := parsed(t, tcp4(SYN, list, nil)).Add(nil, capable)
			switch err {
			case nil:
				results[fmt.Sprintf("%x", got)] = true
			case NoOptionSpace:
				refused++
			default:
				t.Fatal(err)
			}
		}
		if refused != 1 || len(results) != len(options)+1 {
			t.Errorf("%d options: %d refused, %d results", len(options), refused, len(results))
		}
	}
}

func BenchmarkAddSYN(b *testing.B) {
	benchmarkEdit(b, usual, addCapable)
}

func benchmarkEdit(b *testing.B, list []byte, edit func(*Segment, []byte) ([]byte, error)) {
	dst := make([]byte, 0, 2048)
	for _, c := range carriers {
		b.Run(c.name, func(b *testing.B) {
			var s Segment
			if err := s.Parse(c.build(SYN, list, nil)); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := edit(&s, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
