//go:build linux

package mptcp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/paths"
)

// machine is a host's machine that is not watched, with routes that were looked up in
// the host's namespace: the manager's goroutines are in another one.
type machine struct {
	atomic.Pointer[host.Machine]
	egress map[netip.Addr]int
}

func (m *machine) Link(name string) paths.Link { return m.Load().Link(name) }
func (m *machine) Owners(a netip.Addr) []int   { return m.Load().Owners(a) }
func (m *machine) Exists(index int) bool       { return m.Load().Exists(index) }
func (m *machine) Egress(dst netip.Addr) int   { return m.egress[dst] }

// Source returns the first address: routes cannot be looked up here.
func (m *machine) Source(dst netip.Addr, index int) paths.Source {
	for _, name := range []string{"dsl", "lte"} {
		if at := m.Link(name); at.Index == index {
			return paths.Source{Addr: at.Addr(dst.Is4())}
		}
	}
	return paths.Source{}
}

// read reads the interfaces of a host again.
func (m *machine) read(t *testing.T, h *netlab.Host) {
	t.Helper()
	check(t, h.Do(func() error {
		now, err := host.OpenMachine()
		if err != nil {
			return err
		}
		t.Cleanup(func() { check(t, now.Close()) })
		m.Store(now)
		return nil
	}))
}

// newMachine opens the machine of h, with routes to these destinations.
func newMachine(t *testing.T, h *netlab.Host, dst ...netip.Addr) *machine {
	t.Helper()
	m := &machine{egress: make(map[netip.Addr]int)}
	m.read(t, h)
	check(t, h.Do(func() error {
		for _, d := range dst {
			m.egress[d] = m.Load().Egress(d)
		}
		return nil
	}))
	return m
}

func newManager(t *testing.T, h *netlab.Host, s *paths.Set) *Manager {
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

// cpePaths are the two lines of the lab, the second as a backup.
func cpePaths(join ...netip.AddrPort) []paths.Path {
	return []paths.Path{{Name: "dsl", Interface: "dsl", Join: join}, {Name: "mobile", Interface: "lte", Mode: paths.AsBackup}}
}

// pair is a CPE with a manager, and a HAG that takes joins by each of two lines.
type pair struct {
	*netlab.Network
	machine *machine // of the CPE
	m       *Manager
	joins   []netip.AddrPort // by path
	heard   *heard
	first   netip.Addr // from which the CPE dials, on the first path
	other   netip.Addr // of the second path
}

// heard are the events of the HAG's kernel.
type heard struct {
	mu     sync.Mutex
	events []Event
}

// of returns the events of a kind.
func (h *heard) of(kind EventType) (all []Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ev := range h.events {
		if ev.Type == kind {
			all = append(all, ev)
		}
	}
	return all
}

func newPair(t *testing.T) *pair {
	t.Helper()
	n := build(t)
	s := &pair{Network: n, first: n.Lines[0].CPE6, other: n.Lines[1].CPE6, heard: &heard{}}
	hag := pm(t, n.HAG)
	check(t, hag.SetLimits(paths.SubflowLimits{Subflows: paths.MaxPaths}))
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
	all := []paths.Path{{Name: "dsl", Interface: "dsl"}, {Name: "mobile", Interface: "lte"}}
	for i := range all {
		join := at(n.Lines[i].HAG6, 7100)
		check(t, hag.AddEndpoint(join))
		all[i].Join = []netip.AddrPort{join}
		s.joins = append(s.joins, join)
	}
	s.machine = newMachine(t, n.CPE, netlab.HAGWan6)
	s.m = newManager(t, n.CPE, paths.NewSet(s.machine, all))
	s.listen(t)
	return s
}

// listen collects the events of the HAG's kernel.
func (s *pair) listen(t *testing.T) {
	t.Helper()
	var events *Events
	check(t, s.HAG.Do(func() (err error) { events, err = Listen(); return err }))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- events.Run(ctx, func(ev Event) {
			s.heard.mu.Lock()
			defer s.heard.mu.Unlock()
			s.heard.events = append(s.heard.events, ev)
		})
	}()
	t.Cleanup(func() {
		cancel()
		check(t, <-done)
		check(t, events.Close())
	})
}

// connect makes a connection from the CPE to the HAG and returns its ends and the
// CPE's token.
func (s *pair) connect(t *testing.T) (client, server net.Conn, token uint32) {
	t.Helper()
	client, server = connected(t, s.Network, "mptcp", netlab.HAGWan6.String())
	exchange(t, client, server) // the fourth segment makes it established
	return client, server, tokenOf(t, client)
}

// localAddrs returns the local addresses of a connection's subflows, in order.
func localAddrs(t *testing.T, c net.Conn) (local []string) {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) { local, err = subflowAddrs(int(fd)) }))
	check(t, err)
	slices.Sort(local)
	return local
}

// expect waits until a connection has subflows from these addresses.
func expect(t *testing.T, what string, c net.Conn, from ...netip.Addr) {
	t.Helper()
	want := make([]string, len(from))
	for i, a := range from {
		want[i] = a.String()
	}
	slices.Sort(want)
	eventually(t, what, func() bool { return slices.Equal(localAddrs(t, c), want) })
	if got := localAddrs(t, c); !slices.Equal(got, want) {
		t.Fatalf("%s: subflows from %v, want %v", what, got, want)
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

// count waits until the counters of a path are as ok wants them.
func (s *pair) count(t *testing.T, path int, what string, ok func(paths.SubflowCounters) bool) {
	t.Helper()
	eventually(t, what, func() bool { return ok(s.m.CountersByPath()[path]) })
	if t.Failed() {
		t.Fatalf("counters %+v", s.m.CountersByPath())
	}
}

func TestManagerOpensASubflowOnEachFurtherPath(t *testing.T) {
	for _, c := range []struct {
		name, server string
		is4          bool
	}{
		{"IPv6", netlab.HAGWan6.String(), false},
		{"IPv4", netlab.HAGWan4.String(), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := build(t)
			first, second, join := n.Lines[0].CPE6, n.Lines[1].CPE6, at(n.Lines[1].HAG6, 7100)
			if c.is4 {
				first, second, join = n.Lines[0].CPE4, n.Lines[1].CPE4, at(n.Lines[1].HAG4, 7100)
			}
			hag := pm(t, n.HAG)
			check(t, hag.SetLimits(paths.SubflowLimits{Subflows: 8}))
			check(t, hag.AddEndpoint(join))
			check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
			check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
			m := newManager(t, n.CPE, paths.NewSet(newMachine(t, n.CPE, netip.MustParseAddr(c.server)), cpePaths(join)))

			client, server := connected(t, n, "mptcp", c.server)
			exchange(t, client, server) // the fourth segment makes it established
			token := tokenOf(t, client)
			expect(t, "there is a further subflow before Track", client, first)
			m.Track(token, paths.SubflowPolicy{}, nil)
			expect(t, "the second subflow does not come", client, first, second)
			eventually(t, "the server lacks the second subflow", func() bool { return len(localAddrs(t, server)) == 2 })
			exchange(t, client, server)
			eventually(t, "the manager does not count the second subflow once", func() bool {
				got := m.Counters()
				return got.Open == 2 && got.Opened == 1 // the first attempts may be too early
			})
			client.Close()
			server.Close()
			eventually(t, "the closed connection is not forgotten", func() bool { return m.Counters().Open == 0 })
		})
	}
}

func TestJoinsGoToTheServerItselfIfItTakesThem(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, pm(t, n.HAG).SetLimits(paths.SubflowLimits{Subflows: paths.MaxPaths}))
	unused := at(n.Lines[1].HAG6, 7100)
	m := newManager(t, n.CPE, paths.NewSet(newMachine(t, n.CPE, netlab.HAGWan6), cpePaths(unused)))
	client, server := connected(t, n, "mptcp", netlab.HAGWan6.String())
	exchange(t, client, server)
	m.Track(tokenOf(t, client), paths.SubflowPolicy{}, nil)
	expect(t, "the subflow is not there", client, n.Lines[0].CPE6, n.Lines[1].CPE6)
	exchange(t, client, server)
	eventually(t, "the subflow is not counted", func() bool { return m.Counters().Opened == 1 })
}

func TestPathWithoutUsableAddressIsRetried(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
	m := newManager(t, n.CPE, paths.NewSet(newMachine(t, n.CPE, netlab.HAGWan6), cpePaths())) // nobody names a join address
	client, server := connected(t, n, "mptcp", netlab.HAGWan6.String())
	exchange(t, client, server)
	m.Track(tokenOf(t, client), paths.SubflowPolicy{}, nil)
	eventually(t, "it is not tried again", func() bool { return m.Counters().Failed >= 3 })
	exchange(t, client, server) // the first subflow does not mind
}

func TestRefusedJoinsAreRetried(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
	// Nobody listens at the join address: each attempt is refused.
	join := at(n.Lines[1].HAG6, 7100)
	m := newManager(t, n.CPE, paths.NewSet(newMachine(t, n.CPE, netlab.HAGWan6), cpePaths(join)))
	client, server := connected(t, n, "mptcp", netlab.HAGWan6.String())
	exchange(t, client, server)
	m.Track(tokenOf(t, client), paths.SubflowPolicy{}, nil)
	eventually(t, "it is not tried again", func() bool { return m.Counters().Failed >= 4 })
	if got := m.Counters(); got.Opened != 0 || got.Lost != 0 || got.Open != 1 {
		t.Errorf("counters %+v", got)
	}
	exchange(t, client, server)
}

func TestEventsOfOtherTypesAreFilteredOut(t *testing.T) {
	s := newPair(t)
	client, server, _ := s.connect(t) // the HAG's kernel reports its creation, too
	client.Close()
	server.Close()
	eventually(t, "the end of the connection is not reported", func() bool { return len(s.heard.of(ConnClosed)) > 0 })
	s.heard.mu.Lock()
	defer s.heard.mu.Unlock()
	for _, ev := range s.heard.events {
		if !slices.Contains(reported, ev.Type) {
			t.Errorf("%+v is reported", ev)
		}
	}
}

// carried is the number of bytes that a connection claims to have carried.
type carried struct{ atomic.Uint64 }

func (c *carried) BytesUp() uint64     { return c.Load() }
func (c *carried) BytesDown() uint64   { return 0 }
func (c *carried) Unacknowledged() int { return 0 }
func (c *carried) Ending() bool        { return false }
