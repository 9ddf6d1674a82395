package paths

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/lab"
)

// inside runs fn, which may wait, on a thread that is in the host's namespace.
func inside(t *testing.T, h *lab.Host, fn func() error) <-chan error {
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
func cpePaths(n *lab.Network, join ...netip.AddrPort) []Path {
	return []Path{{Name: "dsl", Interface: "dsl", Join: join}, {Name: "mobile", Interface: "lte", Backup: true}}
}

// newSet makes a set in the namespace of h, whose routes are looked up there
// and kept: the manager's own goroutines are in another one.
func newSet(t *testing.T, h *lab.Host, all []Path, dst []netip.Addr, own ...netip.AddrPort) *Set {
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
		host          *lab.Host
		own           []netip.AddrPort // join addresses of a HAG
		local, remote netip.AddrPort
		want          string
	}{
		{"from a path's own IPv6 address", n.CPE, nil, at(lte.CPE6, 999), join, "mobile"},
		{"from a path's own IPv4 address", n.CPE, nil, at(lte.CPE4, 999), at(lte.HAG4, 7100), "mobile"},
		{"from the client's address", n.CPE, nil, at(lab.Client6, 999), at(lab.Server6, 443), "dsl"},
		{"from the client's IPv4 address", n.CPE, nil, at(lab.Client4, 999), at(lab.Server4, 443), "dsl"},
		{"a join that the HAG accepted", n.HAG, []netip.AddrPort{join}, join, at(lte.CPE6, 999), "mobile"},
		{"a first subflow at the HAG", n.HAG, []netip.AddrPort{join}, at(lab.Server6, 443), at(lab.Client6, 999), "dsl"},
		{"by an interface that is no path", n.CPE, nil, at(lab.CPELan6, 1), at(lab.Client6, 1), ""},
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
	check(t, lab.Connect(n.CPE, "new0", n.Client, "new0"))
	eventually(t, "the new interface is not known", func() bool { return s.links.get("new0").index != 0 })
	cancel()
	check(t, <-done)
}

func TestNextHopIsTheGatewayOrTheDestinationItself(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Do(func() error {
		for dst, want := range map[string]string{
			lab.Client6.String(): lab.Client6.String(), lab.Client4.String(): lab.Client4.String(),
			lab.Server6.String(): "2001:db8:10:1::1", lab.Server4.String(): "198.51.100.17",
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

// tokens reads events until one connection is established.
func established(t *testing.T, m *Manager) (token uint32) {
	t.Helper()
	eventually(t, "no connection is established", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for tok, c := range m.conns {
			if c.established {
				token = tok
			}
		}
		return token != 0
	})
	return token
}

func newManager(t *testing.T, h *lab.Host, s *Set) *Manager {
	t.Helper()
	var m *Manager
	check(t, h.Do(func() (err error) {
		m, err = NewManager(s, slog.New(slog.DiscardHandler))
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
		check(t, m.Close())
	})
	return m
}

// subflows counts the TCP connections between the CPE and the HAG that belong
// to MPTCP connections, by the address at the CPE.
func subflows(t *testing.T, c net.Conn) (local []string) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) { local, err = subflowAddrs(int(fd)) }))
	check(t, err)
	slices.Sort(local)
	return local
}

func TestManagerOpensASubflowOnEachFurtherPath(t *testing.T) {
	for _, c := range []struct {
		name, server string
		is4          bool
	}{
		{"IPv6", lab.HAGWan6.String(), false},
		{"IPv4", lab.HAGWan4.String(), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := build(t)
			first, second, join := n.Lines[0].CPE6, n.Lines[1].CPE6, at(n.Lines[1].HAG6, 7100)
			if c.is4 {
				first, second, join = n.Lines[0].CPE4, n.Lines[1].CPE4, at(n.Lines[1].HAG4, 7100)
			}
			hag := pm(t, n.HAG)
			check(t, hag.SetLimits(Limits{Subflows: 8}))
			check(t, hag.AddEndpoint(join))
			check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
			check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
			m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n, join), []netip.Addr{netip.MustParseAddr(c.server)}))

			client, server := connected(t, n, "mptcp", c.server)
			exchange(t, client, server) // the fourth segment makes it established
			token := established(t, m)
			if got := subflows(t, client); !slices.Equal(got, []string{first.String()}) {
				t.Errorf("before Track: subflows from %v", got)
			}
			m.Track(token)
			want := []string{first.String(), second.String()}
			slices.Sort(want)
			eventually(t, "the second subflow does not come", func() bool { return slices.Equal(subflows(t, client), want) })
			eventually(t, "the server lacks the second subflow", func() bool { return len(subflows(t, server)) == 2 })
			exchange(t, client, server)
			if got := m.Counters(); got.Opened < 1 || got.Failed != 0 || got.Skipped != 0 {
				t.Errorf("counters %+v", got)
			}
			client.Close()
			server.Close()
			eventually(t, "the closed connection is not forgotten", func() bool {
				m.mu.Lock()
				defer m.mu.Unlock()
				return len(m.conns) == 0
			})
		})
	}
}

// exchange sends a byte each way.
func exchange(t *testing.T, a, b net.Conn) {
	t.Helper()
	for _, hop := range [][2]net.Conn{{a, b}, {b, a}} {
		_, err := hop[0].Write([]byte("x"))
		check(t, err)
		_, err = hop[1].Read(make([]byte, 1))
		check(t, err)
	}
}

func TestServerThatTakesJoinsIsJoinedAtItsOwnAddress(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	unused := at(n.Lines[1].HAG6, 7100)
	m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n, unused), nil))
	client, server := connected(t, n, "mptcp", lab.HAGWan6.String())
	exchange(t, client, server)
	_, before := n.Lines[1].Bytes()
	m.Track(established(t, m))
	eventually(t, "the subflow is not there", func() bool {
		_, after := n.Lines[1].Bytes()
		return m.Counters().Opened == 1 && after > before
	})
	exchange(t, client, server)
	if got := m.Counters(); got.Opened != 1 || got.Failed != 0 {
		t.Errorf("counters %+v", got)
	}
}

func TestManagerWithoutAUsableAddressCountsIt(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
	m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n), nil)) // nobody names a join address
	client, server := connected(t, n, "mptcp", lab.HAGWan6.String())
	exchange(t, client, server)
	m.Track(established(t, m))
	eventually(t, "the failure is not counted", func() bool { return m.Counters().Failed == 1 })
}

func TestManagerBearsEventsOfConnectionsThatAreNotItsOwn(t *testing.T) {
	n := build(t)
	m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n), nil))
	for id := range 256 {
		m.handle(Event{Type: SubClosed, Token: 1, LocalID: uint8(id), Error: uint8(unix.ECONNRESET)})
	}
	join := join{4, netip.AddrPortFrom(lab.Server6, 80), false}
	m.attempt(join, 1) // a connection that ended before its turn
	m.again(4, 1)
	m.handle(Event{Type: ConnClosed, Token: 2})
	m.Forget(3)
	if got := m.Counters(); got != (Counters{}) {
		t.Errorf("counters %+v", got)
	}
}

func TestAddressIDsOfAPathLeadBackToIt(t *testing.T) {
	seen := make(map[uint8]bool)
	for i := range MaxPaths {
		for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
			id := localID(i, netip.MustParseAddr(a))
			if id == 0 || seen[id] || pathOf(id) != i {
				t.Errorf("path %d has ID %d for %s, which is path %d", i, id, a, pathOf(id))
			}
			seen[id] = true
		}
	}
	for _, id := range []uint8{0, 2*MaxPaths + 1, 255} {
		if pathOf(id) != -1 {
			t.Errorf("ID %d is path %d", id, pathOf(id))
		}
	}
}

func TestJoinAddressWithoutARouteIsNamed(t *testing.T) {
	n := build(t)
	lost := netip.MustParseAddrPort("192.0.2.1:7100")
	alone, err := lab.NewHost("alone")
	check(t, err)
	t.Cleanup(func() { check(t, alone.Close()) })
	for _, c := range []struct {
		host *lab.Host
		join netip.AddrPort
		want string // "" if it is reachable
	}{
		{n.CPE, at(n.Lines[1].HAG6, 7100), ""},
		{n.CPE, at(n.Lines[0].HAG4, 7100), ""},
		{alone, lost, "join address 192.0.2.1:7100: there is no route to it: give this machine IPv4"},
		{alone, at(n.Lines[0].HAG6, 7100), "give this machine IPv6"},
	} {
		check(t, c.host.Do(func() error {
			s, err := NewSet(cpePaths(n, c.join))
			if err != nil {
				return err
			}
			err = s.Reachable()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v from %s: %v, want %q", c.join, c.host.Name, err, c.want)
			}
			return nil
		}))
	}
}

func TestSubflowThatWasResetIsTriedAgainAFewTimes(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
	// Nobody listens at the join address: each attempt is refused.
	join := at(n.Lines[1].HAG6, 7100)
	m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n, join), []netip.Addr{lab.HAGWan6}))
	client, server := connected(t, n, "mptcp", lab.HAGWan6.String())
	exchange(t, client, server)
	m.Track(established(t, m))
	eventually(t, "the attempts do not end", func() bool { return m.Counters().Failed == 1 })
	if got := m.Counters(); got.Opened != attempts {
		t.Errorf("counters %+v, want %d attempts", got, attempts)
	}
	exchange(t, client, server) // the first subflow does not mind
}
