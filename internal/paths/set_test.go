package paths

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inside runs fn, which may wait, on a thread that is in the host's namespace.
func inside(t *testing.T, h *netlab.Host, fn func() error) <-chan error {
	t.Helper()
	var ns int
	check(t, h.Do(func() (err error) {
		ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		return err
	}))
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		defer unix.Close(ns)
		if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- fn()
	}()
	return done
}

// cpePaths are the two lines of the lab, the second with a join address.
func cpePaths(n *netlab.Network, join ...netip.AddrPort) []Path {
	return []Path{{Name: "dsl", Interface: "dsl", Join: join}, {Name: "mobile", Interface: "lte", Mode: AsBackup}}
}

// newSet makes a set in the namespace of h, whose routes are looked up there
// and kept: the manager's own goroutines are in another one.
func newSet(t *testing.T, h *netlab.Host, all []Path, dst []netip.Addr, own ...netip.AddrPort) *Set {
	t.Helper()
	var s *Set
	check(t, h.Do(func() (err error) {
		if s, err = NewSet(all, own...); err != nil {
			return err
		}
		for _, d := range dst {
			s.routes.egress(d)
		}
		s.routes.since = time.Now().Add(time.Hour)
		return nil
	}))
	return s
}

func TestPathOfASubflowIsFoundByItsAddressesAndRoutes(t *testing.T) {
	n := build(t)
	join := at(n.Lines[1].HAG6, 7100)
	lte := n.Lines[1]
	nowhere := netip.MustParseAddr("2001:db8:ffff::1")
	cases := []struct {
		name          string
		host          *netlab.Host
		own           []netip.AddrPort // join addresses of a HAG
		local, remote netip.AddrPort
		want          string
	}{
		{"from a path's own IPv6 address", n.CPE, nil, at(lte.CPE6, 999), join, "mobile"},
		{"from a path's own IPv4 address", n.CPE, nil, at(lte.CPE4, 999), at(lte.HAG4, 7100), "mobile"},
		{"from the client's address", n.CPE, nil, at(netlab.Client6, 999), at(netlab.Server6, 443), "dsl"},
		{"from the client's IPv4 address", n.CPE, nil, at(netlab.Client4, 999), at(netlab.Server4, 443), "dsl"},
		{"a join that the HAG accepted", n.HAG, []netip.AddrPort{join}, join, at(lte.CPE6, 999), "mobile"},
		{"a first subflow at the HAG", n.HAG, []netip.AddrPort{join}, at(netlab.Server6, 443), at(netlab.Client6, 999), "dsl"},
		{"by an interface that is no path", n.CPE, nil, at(netlab.CPELan6, 1), at(netlab.Client6, 1), ""},
	}
	for _, c := range cases {
		s := newSet(t, c.host, cpePaths(n), []netip.Addr{c.remote.Addr()}, c.own...)
		got := s.Of(c.local, c.remote)
		if got == nil && c.want != "" || got != nil && got.Name != c.want {
			t.Errorf("%s: path %+v, want %q", c.name, got, c.want)
		}
	}
	// A route that does not exist is not that of a path whose interface is away.
	away := []Path{{Name: "away", Interface: "ppp9"}}
	check(t, n.Server.Do(func() error {
		s, err := NewSet(away)
		if err == nil {
			if p := s.Of(at(nowhere, 1), at(netip.MustParseAddr("198.18.0.1"), 1)); p != nil {
				t.Errorf("a path without an interface carries %+v", p)
			}
		}
		return err
	}))
}

func TestPathsShareTheJoinAddressesThatOthersName(t *testing.T) {
	n := build(t)
	six, four := netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("192.0.2.1:2")
	other := netip.MustParseAddrPort("[2001:db8::2]:3")
	s := newSet(t, n.CPE, []Path{
		{Name: "a", Interface: "dsl", Join: []netip.AddrPort{six}},
		{Name: "b", Interface: "lte", Join: []netip.AddrPort{four, other}},
		{Name: "c", Interface: "lan"},
	}, nil)
	want := [][]netip.AddrPort{{four, six}, {four, other}, {four, six}}
	for i, p := range s.Paths {
		got := slices.SortedFunc(slices.Values(p.Join), func(a, b netip.AddrPort) int { return a.Compare(b) })
		if !slices.Equal(got, want[i]) {
			t.Errorf("path %s joins at %v, want %v", p.Name, got, want[i])
		}
	}
}

func TestSetFollowsChangesOfAddresses(t *testing.T) {
	n := build(t)
	s := newSet(t, n.CPE, cpePaths(n), nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := inside(t, n.CPE, func() error { return s.Watch(ctx) })
	added := netip.MustParseAddr("2001:db8:77::1")
	// The watch may begin later than the change: it reads what it missed.
	check(t, n.CPE.AddAddress("lte", netip.PrefixFrom(added, 64)))
	eventually(t, "the new address is not known", func() bool { return s.links.owner(added) == s.links.get("lte").index })
	check(t, netlab.Connect(n.CPE, "new0", n.Client, "new0"))
	eventually(t, "the new interface is not known", func() bool { return s.links.get("new0").index != 0 })
	cancel()
	check(t, <-done)
}

func TestNextHopIsTheGatewayOrTheDestinationItself(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Do(func() error {
		for dst, want := range map[string]string{
			netlab.Client6.String(): netlab.Client6.String(), netlab.Client4.String(): netlab.Client4.String(),
			netlab.Server6.String(): "2001:db8:10:1::1", netlab.Server4.String(): "198.51.100.17",
		} {
			if got := NextHop(netip.MustParseAddr(dst)); got.String() != want {
				t.Errorf("next hop to %s is %v, want %s", dst, got, want)
			}
		}
		return nil
	}))
	check(t, n.Server.Do(func() error {
		// An unreachable route has no next hop; the server's default route covers all else.
		if got := NextHop(netip.Addr{}); got.IsValid() {
			t.Errorf("next hop to nowhere is %v", got)
		}
		return nil
	}))
}

func TestNeighbourThatDoesNotAnswerIsReported(t *testing.T) {
	n := build(t)
	silent := netip.MustParseAddr("2001:db8:1::99")
	var mu sync.Mutex
	var failed []netip.Addr
	ctx, cancel := context.WithCancel(t.Context())
	done := inside(t, n.CPE, func() error {
		return WatchNeighbours(ctx, func(a netip.Addr) {
			mu.Lock()
			failed = append(failed, a)
			mu.Unlock()
		})
	})
	check(t, n.CPE.Sysctl("net.ipv6.neigh.lan.retrans_time_ms", "20"))
	reported := func() bool {
		// The watch may begin after the first attempt: it is made again and again.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if c, err := n.CPE.Dial(ctx, "tcp", "", at(silent, 1).String()); err == nil {
			c.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(failed, silent)
	}
	eventually(t, "nothing is reported", reported)
	cancel()
	check(t, <-done)
}

// renumber takes an address from an interface and gives it another.
func renumber(ifname string, from, to netip.Addr) func(*netlink.Handle) error {
	return func(nl *netlink.Handle) error {
		link, err := nl.LinkByName(ifname)
		if err != nil {
			return err
		}
		at := func(a netip.Addr) *netlink.Addr {
			return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(64, 128)}, Flags: unix.IFA_F_NODAD}
		}
		return errors.Join(nl.AddrAdd(link, at(to)), nl.AddrDel(link, at(from)))
	}
}
