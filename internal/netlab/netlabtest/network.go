//go:build linux

package netlabtest

import (
	"testing"

	"github.com/synbond/synbond/internal/netlab"
)

// NewHost makes a host that is closed when the test ends. It skips the test where
// hosts cannot be made: see [Require].
func NewHost(t testing.TB, name string) *netlab.Host {
	t.Helper()
	Require(t)
	h, err := netlab.NewHost(name)
	Check(t, err)
	closeAtEnd(t, h)
	return h
}

// Build makes a network that is closed when the test ends. It skips the test where
// networks cannot be made: see [Require].
func Build(t testing.TB, topology netlab.Topology) *netlab.Network {
	t.Helper()
	Require(t)
	n, err := netlab.Build(topology)
	Check(t, err)
	closeAtEnd(t, n)
	return n
}

// TwoLines makes a network of two lines without rate and delay, dsl and lte, that is
// closed when the test ends. The test must leave no file descriptor and no goroutine.
func TwoLines(t testing.TB) *netlab.Network {
	t.Helper()
	Require(t)
	LeavesNothing(t)
	return Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}, {Name: "lte"}}})
}

func closeAtEnd(t testing.TB, c interface{ Close() error }) {
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}
