package rewrite

import (
	"bytes"
	"testing"
)

func TestStripFromSYNACKKeepsLength(t *testing.T) {
	for _, tt := range []struct {
		name string
		from []byte
		to   []byte
	}{
		{"Linux: a key behind the last option", cat(usual, capableV1SYNACK), cat(usual, nops(12))},
		{"Linux, version 0", cat(usual, capableV0SYNACK), cat(usual, nops(12))},
		{"an answer that echoes the option without a key", cat(usual, capable), cat(usual, nops(4))},
		{"a key between options", cat(mss, capableV1SYNACK, timestamp, nops(2)), cat(mss, nops(12), timestamp, nops(2))},
		{"a key before End", cat(usual, capableV1SYNACK, ends(4)), cat(usual, nops(12), ends(4))},
		{"forty bytes of options", cat(usual, nops(8), capableV1SYNACK), cat(usual, nops(20))},
		{"nothing but the key", capableV1SYNACK, nops(12)},
	} {
		t.Run(tt.name, func(t *testing.T) { everyCarrier(t, SYN|ACK, tt.from, tt.to, strip) })
	}
}

func TestStripFromSYN(t *testing.T) {
	odd := []byte{30, 5, 0x01, 0x81, 0xaa}
	three := []byte{30, 3, 0x01}
	for _, tt := range []struct {
		name string
		from []byte
		to   []byte
	}{
		{"Linux: the result is its SYN without MPTCP", cat(usual, capable), usual},
		{"Linux, version 0: likewise", cat(usual, capableV0SYN), usual},
		{"macOS: options follow", cat(mss, nop, scale, capable, nops(2), timestamp), cat(mss, nop, scale, nops(6), timestamp)},
		{"Nop follows", cat(usual, capable, nops(4)), cat(usual, nops(8))},
		{"the last before End is cut out", cat(usual, capable, ends(4)), cat(usual, ends(4))},
		{"bytes behind End are no options", cat(usual, capable, ends(1), capable[:3]), cat(usual, ends(1), capable[:3])},
		{"an option behind End stays", cat(usual, ends(4), capable), cat(usual, ends(4), capable)},
		{"nothing but the option", capable, nil},
		{"two of them", cat(capable, usual, capable), cat(nops(4), usual, nops(4))},
		{"two of them at the end", cat(usual, capable, capable), cat(usual, nops(8))},
		{"an option of odd length with its padding", cat(usual, nops(3), odd), usual},
		{"an option of odd length with more padding", cat(usual, nops(7), odd), cat(usual, nops(4))},
		{"an option of odd length without padding", cat(sackOK, nop, odd), cat(sackOK, nops(6))},
		{"an option of odd length behind data that look like padding", cat(filler(11), odd), cat(filler(11), nops(5))},
		{"an option of odd length, padded behind", cat(usual, odd, nops(3)), cat(usual, nops(8))},
		{"an option of odd length, padded by End", cat(usual, odd, ends(3)), cat(usual, nops(5), ends(3))},
		{"one of three bytes", cat(usual, three, nop), cat(usual, nops(4))},
		{"one of three bytes, padded before", cat(usual, nop, three), usual},
		{"one of version 15 and any length", cat(usual, []byte{30, 8, 0x0f, 1, 2, 3, 4, 5}, mss), cat(usual, nops(8), mss)},
		{"MP_JOIN stays", cat(usual, joinSYN), cat(usual, joinSYN)},
		{"MP_JOIN stays beside it", cat(joinSYN, capable, mss), cat(joinSYN, nops(4), mss)},
		{"a kind of 30 without a subtype stays", cat(usual, []byte{30, 2}, nops(2)), cat(usual, []byte{30, 2}, nops(2))},
		{"without MP_CAPABLE nothing changes", usual, usual},
		{"without options nothing changes", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) { everyCarrier(t, SYN, tt.from, tt.to, strip) })
	}
}

// Without an edit even the checksum 0xffff stays, which an update never yields.
func TestStripWithoutMPCapableKeepsEveryByte(t *testing.T) {
	for word := range 1 << 16 {
		packet := tcp4(SYN, usual, be16(uint16(word)))
		at := ipv4MinimumSize + tcpChecksum
		if !bytes.Equal(packet[at:at+2], be16(0)) {
			continue
		}
		packet = edit(packet, at, 0xff, 0xff)
		if got, err := parsed(t, packet).Strip(nil); err != nil || !bytes.Equal(got, packet) {
			t.Errorf("got %x, %v, want %x", got, err, packet)
		}
	}
}

// Strip accepts every checksum that a receiver accepts. Add does not, because Strip has
// to restore the packet.
func TestStripAcceptsChecksumFFFF(t *testing.T) {
	for word := range 1 << 16 {
		packet := tcp6(SYN|ACK, cat(usual, capableV1SYNACK), be16(uint16(word)))
		at := ipv6Size + tcpChecksum
		if !bytes.Equal(packet[at:at+2], be16(0)) {
			continue
		}
		got, err := parsed(t, edit(packet, at, 0xff, 0xff)).Strip(nil)
		if err != nil {
			t.Fatal(err)
		}
		wantGoodChecksums(t, got)
	}
}

func BenchmarkStripSYN(b *testing.B) {
	benchmarkEdit(b, cat(usual, capable), strip)
}

func BenchmarkStripSYNACK(b *testing.B) {
	dst := make([]byte, 0, 2048)
	var s Segment
	if err := s.Parse(tcp6(SYN|ACK, cat(usual, capableV1SYNACK), nil)); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Strip(dst); err != nil {
			b.Fatal(err)
		}
	}
}
