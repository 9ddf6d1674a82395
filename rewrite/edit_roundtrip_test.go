package rewrite

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// checkAdd adds an option to a packet, checks the result against the doc comment of
// Add, and reports whether Add accepted the packet.
func checkAdd(t *testing.T, packet, option []byte) bool {
	t.Helper()
	before := bytes.Clone(packet)
	s := parsed(t, packet)
	got, err := s.Add([]byte("dst"), option)
	if !bytes.Equal(before, packet) {
		t.Fatal("Add changes the packet")
	}
	if err != nil {
		checkReason(t, err)
		if string(got) != "dst" {
			t.Fatalf("error %v, and dst is %x", err, got)
		}
		return false
	}
	got = got[len("dst"):]
	wantGoodChecksums(t, got)
	after := parsed(t, got)
	if !bytes.Equal(after.Payload, s.Payload) || after.Src != s.Src || after.Dst != s.Dst || after.Flags != s.Flags {
		t.Fatalf("packet %x: got %x", packet, got)
	}
	if !bytes.Contains(after.Options, option) || !bytes.Equal(survivors(t, before, option), survivors(t, got, nil)) {
		t.Fatalf("options %x: got %x", s.Options, after.Options)
	}
	back, err := after.Strip(nil)
	if err != nil || !bytes.Equal(back, s.packet) {
		t.Fatalf("Strip after Add:\n got %x, %v\nwant %x", back, err, s.packet)
	}
	checkInPlace(t, s.packet, got, func(s *Segment, dst []byte) ([]byte, error) { return s.Add(dst, option) })
	checkInPlace(t, got, back, strip)
	return true
}

// checkInPlace edits a packet in its own buffer and compares the result.
func checkInPlace(t *testing.T, packet, want []byte, edit func(*Segment, []byte) ([]byte, error)) {
	t.Helper()
	buffer := append(make([]byte, 0, len(packet)+maximumOptions), packet...)
	if got, err := edit(parsed(t, buffer), buffer[:0]); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("in place: got %x, %v, want %x", got, err, want)
	}
}

// survivors returns one MP_CAPABLE (the given option, or else the one of the packet, if
// any), then all other options of the packet in their order.
func survivors(t *testing.T, packet, option []byte) []byte {
	t.Helper()
	list := parsed(t, packet).Options
	var others []byte
	for len(list) > 0 && list[0] != optionEnd {
		n, err := elementSize(list)
		if err != nil {
			t.Fatal(err)
		}
		switch o := list[:n]; {
		case isCapable(o) && option == nil:
			option = o
		case n > 1:
			others = cat(others, o)
		}
		list = list[n:]
	}
	return cat(option, others, list)
}

// checkStrip strips a packet and checks the result against the doc comment of Strip.
func checkStrip(t *testing.T, packet []byte) {
	t.Helper()
	before := bytes.Clone(packet)
	s := parsed(t, packet)
	got, err := s.Strip([]byte("dst"))
	if !bytes.Equal(before, packet) {
		t.Fatal("Strip changes the packet")
	}
	if err != nil {
		checkReason(t, err)
		if string(got) != "dst" {
			t.Fatalf("error %v, and dst is %x", err, got)
		}
		return
	}
	got = got[len("dst"):]
	after := parsed(t, got)
	if !after.ChecksumOK() || !after.headerChecksumOK() {
		t.Fatalf("packet %x: got a wrong checksum: %x", packet, got)
	}
	if !bytes.Equal(got, s.packet) && bytes.Equal(withChecksums(packet), s.packet) {
		wantGoodChecksums(t, got)
	}
	if !bytes.Equal(after.Payload, s.Payload) || s.IsSYNACK() && len(got) != len(s.packet) {
		t.Fatalf("packet %x: got %x", packet, got)
	}
	if capables(after.Options) > 0 || capables(s.Options) == 0 && !bytes.Equal(got, s.packet) {
		t.Fatalf("options %x: got %x", s.Options, after.Options)
	}
	if again, err := after.Strip(nil); err != nil || !bytes.Equal(again, got) {
		t.Fatalf("second Strip: got %x, %v, want %x", again, err, got)
	}
	checkInPlace(t, s.packet, got, strip)
}

// capables counts the MP_CAPABLE in a list, without the code under test.
func capables(list []byte) (n int) {
	for len(list) > 0 && list[0] != optionEnd {
		if list[0] == optionNop {
			list = list[1:]
			continue
		}
		size := int(list[1])
		if list[0] == optionMPTCP && size > 2 && list[2]>>4 == 0 {
			n++
		}
		list = list[size:]
	}
	return n
}

func TestStripRestoresSYNsOfHostsAfterAdd(t *testing.T) {
	for _, list := range [][]byte{linux, linuxNoTS, linuxCookie, windows, windowsTS, macOS, freeBSD, openBSD, lwIP, stripped, nil} {
		for _, option := range [][]byte{capable, capableV1SYN, capableV0SYN} {
			for _, c := range carriers {
				for _, data := range payloads {
					fits := len(list)+len(option) <= maximumOptions
					if checkAdd(t, c.build(SYN, list, data), option) != fits {
						t.Errorf("%s: option %x into %x: accepted %v, want %v", c.name, option, list, !fits, fits)
					}
				}
			}
		}
	}
}

func TestStripRestoresRandomPacketsAfterAdd(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	accepted := 0
	for range 20_000 {
		size := 4 + rng.IntN(3)*rng.IntN(9)
		if rng.IntN(2) == 0 {
			size = []int{4, 12, 20, 22, 24}[rng.IntN(5)] // RFC 8684, section 3.1
		}
		option := randomBytes(rng, size)
		option[0], option[1], option[2] = optionMPTCP, byte(len(option)), option[2]&0x0f
		list, data := randomLayout(rng), randomBytes(rng, rng.IntN(3)*rng.IntN(40))
		packet := tcp6(SYN, list, data, randomChain(rng)...)
		if rng.IntN(2) == 0 {
			ip := bytes.Repeat(nop, 4*rng.IntN(11))
			packet = ipv4Bytes(protocolTCP, ip, tcpBytes(client4, server4, SYN, list, data))
		}
		if checkAdd(t, packet, option) {
			accepted++
			added, _ := parsed(t, packet).Add(nil, option)
			compareWithGopacket(t, added)
		}
		checkStrip(t, packet)
	}
	if accepted < 5000 {
		t.Errorf("Add accepted %d packets, want 5000 at least", accepted)
	}
}

// randomLayout returns a list of short options and runs of Nop, sometimes with an
// MP_CAPABLE or a signature, and sometimes with End and random bytes behind it.
func randomLayout(rng *rand.Rand) []byte {
	size := 4 * rng.IntN(11)
	var list []byte
	for len(list) < size {
		element := nops(1 + rng.IntN(7))
		switch rng.IntN(24) {
		case 0:
			element = cat(ends(1), randomBytes(rng, 40))
		case 1:
			element = capable
		case 2:
			element = []byte{byte(rng.Uint32()), 4, byte(rng.Uint32()), 1}
		default:
			if rng.IntN(2) == 0 {
				element = filler(2 + rng.IntN(14))
			}
		}
		if len(list)+len(element) > size {
			element = nops(1)
			if rng.IntN(4) == 0 {
				element = cat(ends(1), randomBytes(rng, 40))[:size-len(list)]
			}
		}
		list = cat(list, element)
	}
	return list
}

// All lists of up to 12 bytes with elements of one, two, three and four bytes, alone and
// as the last 12 bytes of the option space.
func TestStripRestoresEveryShortListAfterAdd(t *testing.T) {
	var walk func(list []byte, size int, visit func([]byte))
	walk = func(list []byte, size int, visit func([]byte)) {
		if len(list) == size {
			visit(list)
			return
		}
		visit(cat(list, ends(size-len(list))))
		for _, element := range [][]byte{nop, sackOK, scale, mss} {
			if len(list)+len(element) <= size {
				walk(cat(list, element), size, visit)
			}
		}
	}
	for _, prefix := range [][]byte{nil, filler(28)} {
		for size := 0; size <= 12; size += 4 {
			refused := 0
			walk(prefix, len(prefix)+size, func(list []byte) {
				if !checkAdd(t, tcp6(SYN, list, nil), capable) {
					refused++
				}
			})
			if full := len(prefix)+size == maximumOptions; full != (refused > 0) {
				t.Errorf("lists of %d bytes: %d refused", len(prefix)+size, refused)
			}
		}
	}
}
