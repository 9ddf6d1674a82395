//go:build linux

package probe

import (
	"net/netip"
	"testing"

	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// The words that tests of several packages share.
var (
	check      = netlabtest.Check
	eventually = netlabtest.Eventually
	leftOver   = netlabtest.LeavesNothing
	build      = netlabtest.TwoLines
)

func TestMain(m *testing.M) { netlabtest.Main(m) }

func at(addr netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr, port) }
