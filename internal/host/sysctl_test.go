//go:build linux

package host

import (
	"errors"
	"os"
	"testing"
)

func TestBuffersAreRaisedAndRestored(t *testing.T) {
	least := [3]int{0, 8 << 20, 16 << 20}
	for _, test := range []struct{ name, was, want string }{
		{"small ones", "4096\t131072\t6291456", "4096\t8388608\t16777216"},
		{"a small one among larger ones", "8192\t65536\t33554432", "8192\t8388608\t33554432"},
		{"large ones stay", "8192\t9437184\t33554432", "8192\t9437184\t33554432"},
	} {
		inNamespace(t, func(control string) {
			check(t, writeSysctl(ReceiveBuffer, test.was))
			j, _ := journalAt(t, control)
			check(t, j.RaiseSizes(ReceiveBuffer, least))
			is := func(want string) {
				t.Helper()
				got, err := ReadSysctl(ReceiveBuffer)
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
			check(t, j.Restore())
			is(test.was)
		})
	}
}
