package paths

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"golang.org/x/sys/unix"
)

func newManager(t *testing.T, h *netlab.Host, s *Set) *Manager {
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

// scene is a CPE with a manager, and a HAG that takes joins by each of two lines.
type scene struct {
	*netlab.Network
	m     *Manager
	joins []netip.AddrPort // by path
	heard *heard
	first netip.Addr // from which the CPE dials, on the first path
	other netip.Addr // of the second path
}

// heard is what the kernel of the HAG reports.
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

func setScene(t *testing.T) *scene {
	t.Helper()
	n := build(t)
	s := &scene{Network: n, first: n.Lines[0].CPE6, other: n.Lines[1].CPE6, heard: &heard{}}
	hag := pm(t, n.HAG)
	check(t, hag.SetLimits(Limits{Subflows: MaxPaths}))
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
	all := []Path{{Name: "dsl", Interface: "dsl"}, {Name: "mobile", Interface: "lte"}}
	for i := range all {
		join := at(n.Lines[i].HAG6, 7100)
		check(t, hag.AddEndpoint(join))
		all[i].Join = []netip.AddrPort{join}
		s.joins = append(s.joins, join)
	}
	s.m = newManager(t, n.CPE, newSet(t, n.CPE, all, []netip.Addr{netlab.HAGWan6}))
	s.listen(t)
	return s
}

// listen collects the events of the HAG's kernel.
func (s *scene) listen(t *testing.T) {
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

// connect makes a connection from the CPE to the HAG and returns its ends and token.
func (s *scene) connect(t *testing.T) (client, server net.Conn, token uint32) {
	t.Helper()
	client, server = connected(t, s.Network, "mptcp", netlab.HAGWan6.String())
	exchange(t, client, server) // the fourth segment makes it established
	return client, server, established(t, s.m)
}

// established waits until the kernel has said so of a connection that is not tracked yet.
func established(t *testing.T, m *Manager) (token uint32) {
	t.Helper()
	eventually(t, "no connection is established", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		for tok, c := range m.conns {
			if c.established && !c.tracked {
				token = tok
			}
		}
		return token != 0
	})
	return token
}

// subflows returns the local addresses of a connection's subflows, in order.
func subflows(t *testing.T, c net.Conn) (local []string) {
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
	eventually(t, what, func() bool { return slices.Equal(subflows(t, c), want) })
	if got := subflows(t, c); !slices.Equal(got, want) {
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
func (s *scene) count(t *testing.T, path int, what string, ok func(Counters) bool) {
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
			check(t, hag.SetLimits(Limits{Subflows: 8}))
			check(t, hag.AddEndpoint(join))
			check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
			check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
			m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n, join), []netip.Addr{netip.MustParseAddr(c.server)}))

			client, server := connected(t, n, "mptcp", c.server)
			exchange(t, client, server) // the fourth segment makes it established
			token := established(t, m)
			expect(t, "there is more than the first subflow before Track", client, first)
			m.Track(token, Terms{}, nil)
			expect(t, "the second subflow does not come", client, first, second)
			eventually(t, "the server lacks the second subflow", func() bool { return len(subflows(t, server)) == 2 })
			exchange(t, client, server)
			if got := m.Counters(); got.Open != 2 || got.Opened != 1 { // the first attempts may be too early
				t.Errorf("counters %+v", got)
			}
			client.Close()
			server.Close()
			eventually(t, "the closed connection is not forgotten", func() bool {
				m.mu.Lock()
				defer m.mu.Unlock()
				return len(m.conns) == 0
			})
			if got := m.Counters().Open; got != 0 {
				t.Errorf("%d subflows of no connection are open", got)
			}
		})
	}
}

func TestServerThatTakesJoinsIsJoinedAtItsOwnAddress(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, pm(t, n.HAG).SetLimits(Limits{Subflows: MaxPaths}))
	unused := at(n.Lines[1].HAG6, 7100)
	m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n, unused), []netip.Addr{netlab.HAGWan6}))
	client, server := connected(t, n, "mptcp", netlab.HAGWan6.String())
	exchange(t, client, server)
	m.Track(established(t, m), Terms{}, nil)
	expect(t, "the subflow is not there", client, n.Lines[0].CPE6, n.Lines[1].CPE6)
	exchange(t, client, server)
	eventually(t, "the subflow is not counted", func() bool { return m.Counters().Opened == 1 })
}

func TestPathWithoutAUsableAddressIsTriedAgainAndAgain(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
	m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n), []netip.Addr{netlab.HAGWan6})) // nobody names a join address
	client, server := connected(t, n, "mptcp", netlab.HAGWan6.String())
	exchange(t, client, server)
	m.Track(established(t, m), Terms{}, nil)
	eventually(t, "it is not tried again", func() bool { return m.Counters().Failed >= 3 })
	exchange(t, client, server) // the first subflow does not mind
}

func TestRefusedJoinsAreTriedAgainMoreSlowlyEachTime(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Sysctl("net.mptcp.pm_type", "1"))
	check(t, n.HAG.Sysctl("net.mptcp.allow_join_initial_addr_port", "0"))
	// Nobody listens at the join address: each attempt is refused.
	join := at(n.Lines[1].HAG6, 7100)
	m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n, join), []netip.Addr{netlab.HAGWan6}))
	client, server := connected(t, n, "mptcp", netlab.HAGWan6.String())
	exchange(t, client, server)
	m.Track(established(t, m), Terms{}, nil)
	eventually(t, "it is not tried again", func() bool { return m.Counters().Failed >= 4 })
	if got := m.Counters(); got.Opened != 0 || got.Lost != 0 || got.Open != 1 {
		t.Errorf("counters %+v", got)
	}
	exchange(t, client, server)
	for tries := range uint8(31) {
		if a, b := backoff(tries), backoff(tries+1); a <= 0 || b < a || b > backoff(32) {
			t.Errorf("%v after %d failures, %v after the next one", a, tries, b)
		}
	}
}

func TestManagerBearsEventsOfConnectionsThatAreNotItsOwn(t *testing.T) {
	n := build(t)
	m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n), []netip.Addr{netlab.Server6}))
	for id := range 256 {
		for _, kind := range []EventType{SubEstablished, SubClosed, SubPriority} {
			m.handle(Event{Type: kind, Token: 1, LocalID: uint8(id), Error: uint8(unix.ECONNRESET)})
		}
	}
	m.handle(Event{Type: ConnClosed, Token: 2})
	m.Forget(3)
	m.Track(4, Terms{}, nil)
	for id := range 256 { // known, but not established
		m.handle(Event{Type: SubClosed, Token: 4, LocalID: uint8(id)})
		m.handle(Event{Type: SubEstablished, Token: 4, LocalID: uint8(id)})
	}
	m.handle(Event{Type: Established, Token: 5, Remote: at(netlab.Server6, 80)}) // nobody tracks it
	m.handle(Event{Type: Lost})
	m.Want([]Use{Closed, Closed})
	if got := m.Counters(); got != (Counters{}) {
		t.Errorf("counters %+v", got)
	}
	if len(m.conns) != 1 {
		t.Errorf("%d connections are remembered, want the one that is tracked", len(m.conns))
	}
}

func TestOtherEventsThanThoseReportedAreFilteredOut(t *testing.T) {
	s := setScene(t)
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

func TestConnectionsThatNobodyTracksAreForgotten(t *testing.T) {
	n := build(t)
	m := newManager(t, n.CPE, newSet(t, n.CPE, cpePaths(n), []netip.Addr{netlab.Server6}))
	m.handle(Event{Type: Established, Token: 1, Remote: at(netlab.Server6, 80)})
	m.handle(Event{Type: Established, Token: 2, Remote: at(netlab.Server6, 80)})
	m.Track(2, Terms{}, nil)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, want := range []int{2, 1, 1} {
		m.sweep(m.swept + sweepEvery)
		if len(m.conns) != want {
			t.Errorf("%d connections are remembered after sweep %d, want %d", len(m.conns), i+1, want)
		}
	}
	if m.conns[2] == nil {
		t.Error("the connection that is tracked is forgotten")
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

// carried is how many bytes a connection claims to have carried.
type carried struct{ atomic.Uint64 }

func (c *carried) BytesUp() uint64   { return c.Load() }
func (c *carried) BytesDown() uint64 { return 0 }
