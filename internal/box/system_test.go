package box

import (
	"errors"
	"os"
	"testing"
)

func TestBuffersAreRaisedAndPutBack(t *testing.T) {
	for _, test := range []struct{ name, was, want string }{
		{"small ones", "4096\t131072\t6291456", "4096\t8388608\t16777216"},
		{"a small one among larger ones", "8192\t65536\t33554432", "8192\t8388608\t33554432"},
		{"large ones stay", "8192\t9437184\t33554432", "8192\t9437184\t33554432"},
	} {
		machine(t, func(control string) {
			check(t, writeSysctl(receiveBuffer, test.was))
			j := journalAt(t, control)
			check(t, atLeast(j, receiveBuffer, buffers[receiveBuffer]))
			is := func(want string) {
				t.Helper()
				got, err := readSysctl(receiveBuffer)
				check(t, err)
				if got != want {
					t.Errorf("%s: %q, want %q", test.name, got, want)
				}
			}
			is(test.want)
			_, err := os.Stat(j.path)
			if changed := test.was != test.want; errors.Is(err, os.ErrNotExist) == changed {
				t.Errorf("%s: the journal: %v", test.name, err)
			}
			check(t, j.restore())
			is(test.was)
		})
	}
}
