package rewrite

import (
	"math/rand/v2"
	"testing"
)

func TestUpdateChecksumEqualsFullSum(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	// One's complement is ambiguous for words of all zeros and all ones.
	word := func() []byte {
		return [][]byte{{0, 0}, {0xff, 0xff}, be16(uint16(rng.Uint32()))}[rng.IntN(3)]
	}
	for range 100_000 {
		rest, was, now := cat(word(), word()), cat(word(), word()), cat(word(), word())
		rest[0] |= 1 // a header has at least one word other than zero
		got := updateChecksum(oracle(cat(rest, was)), addBytes(0, was), addBytes(0, now))
		if want := oracle(cat(rest, now)); got != want {
			t.Fatalf("%x: from %x to %x: got %#x, want %#x", rest, was, now, got, want)
		}
	}
}

func TestUpdateChecksumOfExampleInRFC1624(t *testing.T) {
	// Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285; RFC 1141 gives 0xFFFF.
	if got := updateChecksum(0xdd2f, 0x5555, 0x3285); got != 0 {
		t.Errorf("got %#x, want 0", got)
	}
}

func TestUpdateChecksumNeverYieldsFFFF(t *testing.T) {
	for checksum := range 1 << 16 {
		for _, was := range []uint64{0, 1, 0x8000, 0xffff, 0x1ffff} {
			for _, now := range []uint64{1, 0x7fff, uint64(uint16(^checksum)) | 1, 0xffff, 0x1ffff} {
				if got := updateChecksum(uint16(checksum), was, now); got == 0xffff {
					t.Fatalf("%#x, from %#x to %#x: got %#x", checksum, was, now, got)
				}
			}
		}
	}
}

// The error of a wrong checksum is the same before and after an update.
func TestUpdateChecksumKeepsWrongChecksumWrong(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 10_000 {
		was, now := randomBytes(rng, 8), randomBytes(rng, 8)
		good := oracle(was)
		bad := good ^ 1<<rng.IntN(16)
		if fold(uint64(good)) == fold(uint64(bad)) {
			continue
		}
		if got := updateChecksum(bad, addBytes(0, was), addBytes(0, now)); got == oracle(now) {
			t.Fatalf("%x: %#x became the right checksum of %x", was, bad, now)
		}
	}
}
