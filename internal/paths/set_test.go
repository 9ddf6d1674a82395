package paths

import (
	"net/netip"
	"slices"
	"testing"
)

// twoPaths is a CPE with the paths dsl and lte, an interface lan, and routes to a
// server and a client.
func twoPaths() *fakeMachine {
	return &fakeMachine{
		links: map[string]Link{
			"dsl": link(2, "2001:db8:10::2", "192.0.2.2"),
			"lte": link(3, "2001:db8:20::2", "198.51.100.2"),
			"lan": link(4, "2001:db8:1::1"),
		},
		egress: map[netip.Addr]int{
			netip.MustParseAddr("2001:db8:ff::1"): 2, // the server
			netip.MustParseAddr("2001:db8:1::2"):  4, // the client
			netip.MustParseAddr("2001:db8:20::9"): 3,
		},
	}
}

func TestPathOfASubflowFollowsFromItsAddressesAndRoutes(t *testing.T) {
	all := []Path{{Name: "dsl", Interface: "dsl"}, {Name: "mobile", Interface: "lte"}, {Name: "away", Interface: "ppp9"}}
	for _, c := range []struct {
		name, own, local, remote, want string
	}{
		{"from a path's own IPv6 address", "", "[2001:db8:20::2]:9", "[2001:db8:ff::1]:443", "mobile"},
		{"from a path's own IPv4 address", "", "198.51.100.2:9", "203.0.113.1:443", "mobile"},
		{"from a client's address", "", "[2001:db8:1::2]:9", "[2001:db8:ff::1]:443", "dsl"},
		{"from a HAG's join address", "[2001:db8:10::2]:7100", "[2001:db8:10::2]:7100", "[2001:db8:20::9]:9", "mobile"},
		{"by an interface without a path", "", "[2001:db8:1::1]:9", "[2001:db8:1::2]:9", ""},
		{"without a route", "", "[2001:db8:1::2]:9", "[2001:db8:ee::1]:443", ""},
	} {
		var own []netip.AddrPort
		if c.own != "" {
			own = append(own, netip.MustParseAddrPort(c.own))
		}
		got := NewSet(twoPaths(), all, own...).Of(netip.MustParseAddrPort(c.local), netip.MustParseAddrPort(c.remote), 0)
		if got == nil && c.want != "" || got != nil && got.Name != c.want {
			t.Errorf("%s: path %+v, want %q", c.name, got, c.want)
		}
	}
}

func TestPathOfASubflowFromASharedAddressIsThatToWhichItIsBound(t *testing.T) {
	m := twoPaths()
	m.links["dsl"], m.links["lte"] = link(2, "192.168.8.100"), link(3, "192.168.8.100")
	local, far := netip.MustParseAddrPort("192.168.8.100:9"), netip.MustParseAddrPort("203.0.113.1:443")
	s := NewSet(m, []Path{{Name: "dsl", Interface: "dsl"}, {Name: "mobile", Interface: "lte"}})
	if !s.Shared(local.Addr()) || s.Shared(far.Addr()) {
		t.Error("shared addresses are not told from others")
	}
	for bound, want := range map[int]string{2: "dsl", 3: "mobile"} {
		if p := s.Of(local, far, bound); p == nil || p.Name != want {
			t.Errorf("bound to interface %d: %+v, want %s", bound, p, want)
		}
		m.egress[far.Addr()] = bound // of one that is not bound the route tells
		if p := s.Of(local, far, 0); p == nil || p.Name != want {
			t.Errorf("by interface %d: %+v, want %s", bound, p, want)
		}
	}
}

func TestPathsShareTheJoinAddressesOfOthers(t *testing.T) {
	six, four := netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("192.0.2.1:2")
	other := netip.MustParseAddrPort("[2001:db8::2]:3")
	s := NewSet(twoPaths(), []Path{
		{Name: "a", Interface: "dsl", Join: []netip.AddrPort{six}},
		{Name: "b", Interface: "lte", Join: []netip.AddrPort{four, other}},
		{Name: "c", Interface: "lan"},
	})
	want := [][]netip.AddrPort{{four, six}, {four, other}, {four, six}}
	for i, p := range s.Paths {
		got := slices.SortedFunc(slices.Values(p.Join), func(a, b netip.AddrPort) int { return a.Compare(b) })
		if !slices.Equal(got, want[i]) {
			t.Errorf("path %s joins at %v, want %v", p.Name, got, want[i])
		}
	}
}

func TestLinkIsLostWithItsInterfaceOrAddress(t *testing.T) {
	before := link(3, "2001:db8:20::2", "198.51.100.2", "2001:db8:20::9")
	used := []netip.Addr{netip.MustParseAddr("2001:db8:20::2"), netip.MustParseAddr("198.51.100.2")}
	again := before
	again.Removals = map[netip.Addr]int{used[0]: 1}
	for _, c := range []struct {
		name string
		now  Link
		lost bool
	}{
		{"an address was away for a moment", again, true},
		{"an unused address has gone", link(3, "2001:db8:20::2", "198.51.100.2"), false},
		{"unchanged", before, false},
		{"one more address", link(3, "2001:db8:20::3", "2001:db8:20::2", "198.51.100.2"), false},
		{"no IPv4 address", link(3, "2001:db8:20::2"), true},
		{"another address", link(3, "2001:db8:20::3", "198.51.100.2"), true},
		{"made again", link(4, "2001:db8:20::2", "198.51.100.2"), true},
		{"gone", Link{}, true},
	} {
		if got := c.now.Lost(before, used); got != c.lost {
			t.Errorf("%s: lost is %v, want %v", c.name, got, c.lost)
		}
	}
	if link(3, "2001:db8:20::2").Lost(Link{}, nil) {
		t.Error("a new interface counts as lost")
	}
}
