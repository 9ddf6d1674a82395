//go:build linux

// Package netlabtest has helpers for tests that make hosts and networks with
// package netlab. Only tests import it.
package netlabtest

import (
	"os"
	"runtime"
	"testing"
	"time"
)

// Check ends a test unless err is nil.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Eventually fails a test unless ok returns true within half a minute: a busy
// machine takes its time.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Error(what)
}

// LeavesNothing fails a test that ends with more file descriptors or goroutines
// than it has now. It must be called before the test opens anything.
func LeavesNothing(t testing.TB) {
	t.Helper()
	fds, goroutines := openFiles(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		Eventually(t, "file descriptors are left open", func() bool { runtime.GC(); return openFiles(t) <= fds })
		Eventually(t, "goroutines are left", func() bool { return runtime.NumGoroutine() <= goroutines })
	})
}

func openFiles(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	Check(t, err)
	return len(entries)
}
