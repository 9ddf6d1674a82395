//go:build linux

package netlabtest

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
)

// Inside runs fn, which may wait, on a thread in the host's network namespace, and
// returns a channel for its error.
func Inside(t testing.TB, h *netlab.Host, fn func() error) <-chan error {
	t.Helper()
	var ns int
	Check(t, h.Do(func() (err error) {
		ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	}))
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // without unlock: the thread ends with the goroutine
		defer unix.Close(ns)
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return done
}
