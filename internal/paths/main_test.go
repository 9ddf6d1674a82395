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
	links   map[string]Link
	egress  map[netip.Addr]int
	sources map[netip.Addr]Source // by destination
}

func (m *fakeMachine) Link(name string) Link     { return m.links[name] }
func (m *fakeMachine) Egress(dst netip.Addr) int { return m.egress[dst] }

func (m *fakeMachine) Owners(a netip.Addr) (all []int) {
	for _, l := range m.links {
		if slices.Contains(l.Addrs, a) {
			all = append(all, l.Index)
		}
	}
	slices.Sort(all)
	return all
}

// Source returns the first usable address, unless the test has set another.
func (m *fakeMachine) Source(dst netip.Addr, index int) Source {
	if s, set := m.sources[dst]; set {
		return s
	}
	for _, l := range m.links {
		if l.Index == index {
			return Source{Addr: l.Addr(dst.Is4())}
		}
	}
	return Source{}
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
		l.Addrs, l.Usable = append(l.Addrs, a), append(l.Usable, a)
	}
	return l
}
