package paths

import (
	"net/netip"
	"slices"
	"testing"
)

// check ends a test at an error.
func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fakeMachine is a [Machine] that tests change.
type fakeMachine struct {
	links  map[string]Link
	egress map[netip.Addr]int
}

func (m *fakeMachine) Link(name string) Link     { return m.links[name] }
func (m *fakeMachine) Egress(dst netip.Addr) int { return m.egress[dst] }

func (m *fakeMachine) Owner(a netip.Addr) int {
	for _, l := range m.links {
		if slices.Contains(l.Addrs, a) {
			return l.Index
		}
	}
	return 0
}

func (m *fakeMachine) Exists(index int) bool {
	for _, l := range m.links {
		if l.Index == index {
			return true
		}
	}
	return false
}

// link returns an interface that works, with these addresses.
func link(index int, addrs ...string) Link {
	l := Link{Index: index, Enabled: true, Carrier: true}
	for _, s := range addrs {
		a := netip.MustParseAddr(s)
		l.Addrs = append(l.Addrs, a)
		first := &l.Addr6
		if a.Is4() {
			first = &l.Addr4
		}
		if !first.IsValid() {
			*first = a
		}
	}
	return l
}
