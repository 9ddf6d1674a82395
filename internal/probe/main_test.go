//go:build linux

package probe

import (
	"net/netip"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// The words that tests of several packages share.
var (
	check      = netlabtest.Check
	eventually = netlabtest.Eventually
	leftOver   = netlabtest.LeavesNothing
)

func TestMain(m *testing.M) { netlabtest.Main(m) }

// build makes a network of two lines that ends with the test, which must leave
// no file descriptor and no goroutine.
func build(t *testing.T) *netlab.Network {
	t.Helper()
	netlabtest.Require(t)
	leftOver(t)
	n, err := netlab.Build(netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}, {Name: "lte"}}})
	check(t, err)
	t.Cleanup(func() { check(t, n.Close()) })
	return n
}

func at(addr netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr, port) }
