package rewrite

import (
	"slices"
	"testing"
)

func TestChecksumOfPartsEqualsChecksumOfWhole(t *testing.T) {
	b := make([]byte, 65)
	for i := range b {
		b[i] = byte(251 * i)
	}
	for _, cuts := range [][]int{{}, {2}, {8, 20}, {0, 40, 64}} {
		var parts [][]byte
		at := 0
		for _, c := range cuts {
			parts = append(parts, b[at:c])
			at = c
		}
		if got, want := Checksum(append(parts, b[at:])...), oracle(slices.Clone(b)); got != want {
			t.Errorf("cut at %v: %#x, want %#x", cuts, got, want)
		}
	}
}
