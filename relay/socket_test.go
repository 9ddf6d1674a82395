//go:build linux

package relay_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/relay"
)

// A UDP socket stands for an MPTCP socket of a kernel that refuses TCP_MAXSEG on it.
func TestLimitsSegmentsOtherwiseOnlyWhereTheSocketRefuses(t *testing.T) {
	for name, kind := range map[string]int{"takes": unix.SOCK_STREAM, "refuses": unix.SOCK_DGRAM} {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
		check(t, err)
		defer unix.Close(fd)
		asked := 0
		relay.LimitSegments(fd, 1000, func(socket int, bytes uint16) error {
			if socket != fd || bytes != 1000 {
				t.Errorf("asked for %d bytes on socket %d", bytes, socket)
			}
			asked++
			return nil
		})
		if want := map[string]int{"takes": 0, "refuses": 1}[name]; asked != want {
			t.Errorf("a socket that %s: asked %d times, want %d", name, asked, want)
		}
		relay.LimitSegments(fd, 1000, nil) // nobody to ask
	}
}
