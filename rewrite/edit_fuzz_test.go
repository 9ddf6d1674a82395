package rewrite

import (
	"bytes"
	"testing"
)

// editSeeds returns the seeds of the parser, and SYNs and SYN+ACKs with many option
// lists.
func editSeeds() [][]byte {
	s := seeds()
	for _, list := range [][]byte{linux, linuxCookie, windows, macOS, openBSD, stripped, cat(linux, nops(8)), cat(nops(4), linux, filler(16))} {
		for _, c := range carriers {
			s = append(s, c.build(SYN, list, []byte("data")), c.build(SYN|ACK, list, nil))
			if len(list) <= 28 {
				s = append(s, c.build(SYN, cat(list, capableV0SYN), nil), c.build(SYN|ACK, cat(list, capableV1SYNACK), nil))
			}
		}
	}
	return s
}

// eitherChecksum runs a check on a packet, once unchanged and once with correct
// checksums, because an edit refuses wrong ones early. It skips packets that Parse
// refuses.
func eitherChecksum(packet []byte, check func([]byte)) {
	packet = bytes.Clone(packet)
	if new(Segment).Parse(packet) != nil {
		return
	}
	check(packet[:len(packet):len(packet)])
	check(withChecksums(packet))
}

func FuzzAdd(f *testing.F) {
	for _, packet := range editSeeds() {
		f.Add(packet, capable)
		f.Add(packet, capableV0SYN)
		f.Add(packet, []byte{30, 5, 0x01, 0x81, 0xaa})
	}
	f.Fuzz(func(t *testing.T, packet, option []byte) {
		eitherChecksum(packet, func(packet []byte) { checkAdd(t, packet, option) })
	})
}

func FuzzStrip(f *testing.F) {
	for _, packet := range editSeeds() {
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		eitherChecksum(packet, func(packet []byte) { checkStrip(t, packet) })
	})
}
