package paths

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
)

func TestBackupAndBackAreToldToThePeer(t *testing.T) {
	s := setScene(t)
	client, server, token := s.connect(t)
	s.m.Track(token, Terms{}, nil)
	expect(t, "the second subflow does not come", client, s.first, s.other)
	for i, want := range [][]Use{{Normal, Backup}, {Normal, Normal}, {Backup, Normal}} {
		s.m.Want(want)
		eventually(t, "the peer hears nothing", func() bool { return len(s.heard.of(SubPriority)) > i })
		got := s.heard.of(SubPriority)[i]
		path := 0
		if got.Local == s.joins[1] {
			path = 1
		}
		if got.Backup != (want[path] == Backup) {
			t.Errorf("%v: the peer hears of path %d that backup is %v", want, path, got.Backup)
		}
		exchange(t, client, server)
	}
	if got := s.m.Counters(); got.Open != 2 || got.Opened != 1 || got.Lost+got.Closed != 0 {
		t.Errorf("counters %+v", got)
	}
}

func TestBackupIsSaidWhenTheSubflowIsOpened(t *testing.T) {
	s := setScene(t)
	client, _, token := s.connect(t)
	s.m.Want([]Use{Normal, Backup})
	s.m.Track(token, Terms{}, nil)
	expect(t, "the second subflow does not come", client, s.first, s.other)
	eventually(t, "the peer knows nothing of it", func() bool { return len(s.heard.of(SubEstablished)) == 1 })
	if got := s.heard.of(SubEstablished)[0]; !got.Backup {
		t.Errorf("the peer does not take it for a backup: %+v", got)
	}
	if got := s.heard.of(SubPriority); len(got) != 0 {
		t.Errorf("and it is told again: %+v", got)
	}
}

func TestPathsThatAreNotWantedAreClosedAndOpenedAnew(t *testing.T) {
	s := setScene(t)
	client, server, token := s.connect(t)
	s.m.Track(token, Terms{}, nil)
	for _, step := range []struct {
		name string
		want []Use
		from []netip.Addr
	}{
		{"at first", []Use{Normal, Normal}, []netip.Addr{s.first, s.other}},
		{"without the second path", []Use{Normal, Closed}, []netip.Addr{s.first}},
		{"with it again", []Use{Normal, Normal}, []netip.Addr{s.first, s.other}},
		{"without the first path", []Use{Closed, Normal}, []netip.Addr{s.other}},
		{"with it again", []Use{Normal, Normal}, []netip.Addr{s.first, s.other}},
		{"from one to the other", []Use{Closed, Backup}, []netip.Addr{s.other}},
		{"and back", []Use{Normal, Closed}, []netip.Addr{s.first}},
		{"without any", []Use{Closed, Closed}, []netip.Addr{s.first}},
		{"and with both", []Use{Normal, Backup}, []netip.Addr{s.first, s.other}},
	} {
		s.m.Want(step.want)
		expect(t, step.name, client, step.from...)
		eventually(t, step.name+": the server has others", func() bool { return len(subflows(t, server)) == len(step.from) })
		exchange(t, client, server)
	}
	eventually(t, "what was closed is taken for something else", func() bool {
		c := s.m.Counters()
		return c.Closed == 4 && c.Opened == 5 && c.Open == 2 && c.Lost == 0
	})
	if t.Failed() {
		t.Errorf("counters %+v", s.m.CountersByPath())
	}
}

func TestSubflowThatThePeerEndsIsOpenedAgain(t *testing.T) {
	s := setScene(t)
	needsDestroy(t, s.HAG)
	client, server, token := s.connect(t)
	s.m.Track(token, Terms{}, nil)
	expect(t, "the second subflow does not come", client, s.first, s.other)
	end := func(path int, at netip.AddrPort) {
		t.Helper()
		before := s.m.CountersByPath()[path]
		check(t, s.HAG.Do(func() error { return kill(at) }))
		s.count(t, path, "the end is not noticed", func(c Counters) bool { return c.Lost == before.Lost+1 })
		s.count(t, path, "nothing is opened", func(c Counters) bool { return c.Opened == before.Opened+1 })
		expect(t, "it is not opened again", client, s.first, s.other)
		exchange(t, client, server)
	}
	end(1, s.joins[1])
	end(1, s.joins[1])
	end(0, server.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort())
	end(0, s.joins[0]) // where the first path is joined now
}

// needsDestroy skips a test where the kernel cannot end sockets on request.
func needsDestroy(t *testing.T, h *netlab.Host) {
	t.Helper()
	if err := h.Do(ProbeDestroy); err != nil {
		t.Skip("kernel without CONFIG_INET_DIAG_DESTROY: ", err)
	}
}

// kill ends the established TCP connections to a local address.
func kill(at netip.AddrPort) error {
	const established = 1 << 1
	_, err := destroy(established, func(s *socket) bool { return s.local == at })
	return err
}

func TestPathIsUsedFromItsNewAddress(t *testing.T) {
	for name, leave := range map[string]func(*scene) error{
		"after the path was not wanted": func(s *scene) error {
			s.m.Want([]Use{Normal, Closed})
			eventually(t, "the old subflow stays", func() bool { return s.m.CountersByPath()[1].Closed == 1 })
			s.m.Want([]Use{Normal, Normal})
			return nil
		},
		// Then the kernel still binds the path's address ID to the old address.
		"after the subflow was ended": func(s *scene) error {
			return s.CPE.Do(func() error { return killFrom(s.other) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := setScene(t)
			needsDestroy(t, s.CPE)
			client, server, token := s.connect(t)
			s.m.Track(token, Terms{}, nil)
			expect(t, "the second subflow does not come", client, s.first, s.other)
			renumbered := s.other.Next()
			check(t, s.CPE.Netlink(renumber("lte", s.other, renumbered)))
			check(t, s.CPE.Do(s.m.set.links.read))
			check(t, leave(s))
			expect(t, "no subflow comes from the new address", client, s.first, renumbered)
			exchange(t, client, server)
		})
	}
}

func TestTermsSayWhichPathsAConnectionMayUse(t *testing.T) {
	s := setScene(t)
	client, server, token := s.connect(t)
	s.m.Track(token, Terms{Paths: 1 << 1}, nil)
	expect(t, "it does not keep to the second path", client, s.other)
	s.m.Want([]Use{Normal, Closed})
	exchange(t, client, server) // nothing that it may use is wanted: it keeps what it has
	expect(t, "it does not keep what it has", client, s.other)
}

func TestFurtherSubflowsWaitUntilEnoughBytesWereCarried(t *testing.T) {
	s := setScene(t)
	client, server, token := s.connect(t)
	var bytes carried
	s.m.Track(token, Terms{After: 1000}, &bytes)
	bytes.Store(999)
	s.m.Want([]Use{Normal, Backup})
	exchange(t, client, server)
	if got := s.m.Counters(); got != (Counters{Open: 1}) {
		t.Errorf("after 999 bytes: counters %+v", got)
	}
	bytes.Store(1000)
	expect(t, "no subflow comes", client, s.first, s.other)
}

func TestConnectionsGetFurtherSubflowsWhenTheyHaveGrownOrAreNotYoungAnyMore(t *testing.T) {
	s := setScene(t)
	client, server, small := s.connect(t)
	s.m.Track(small, Terms{}, nil)
	s.m.mu.Lock()
	if c := s.m.conns[small]; !c.small || c.wanted(1, s.m.uses) != Closed {
		t.Error("a young connection is to have a further subflow")
	}
	s.m.mu.Unlock()
	largeClient, largeServer, large := s.connect(t)
	s.m.Track(large, Terms{}, nil)
	s.m.Grown(large)
	s.m.mu.Lock()
	if c := s.m.conns[large]; c.small || c.wanted(1, s.m.uses) != Normal {
		t.Error("one that has grown is to have none")
	}
	s.m.mu.Unlock()
	s.count(t, 1, "not both get one in the end", func(c Counters) bool { return c.Opened == 2 })
	exchange(t, client, server)
	exchange(t, largeClient, largeServer)
}

func TestConnectionThatLosesItsOnlySubflowGetsAnotherHoweverSmallItIs(t *testing.T) {
	s := setScene(t)
	needsDestroy(t, s.CPE)
	client, server, token := s.connect(t)
	s.m.Track(token, Terms{After: 1 << 40}, &carried{})
	local := client.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	s.m.Want([]Use{Closed, Normal})
	check(t, s.CPE.Do(func() error { return kill(local) }))
	expect(t, "it is left without any", client, s.other)
	exchange(t, client, server)
}

func TestSubflowsThatAreGoneUnheardAreFoundWhenEventsWereLost(t *testing.T) {
	s := setScene(t)
	client, server, token := s.connect(t)
	s.m.Track(token, Terms{}, nil)
	expect(t, "the second subflow does not come", client, s.first, s.other)
	s.count(t, 1, "it is not counted", func(c Counters) bool { return c.Opened == 1 })
	s.m.mu.Lock()
	gone := &s.m.conns[token].subflows[1] // another one than there is
	gone.local = netip.AddrPortFrom(gone.local.Addr(), gone.local.Port()^1)
	s.m.mu.Unlock()
	s.m.handle(Event{Type: Lost})
	s.count(t, 1, "its end is not found", func(c Counters) bool { return c.Lost == 1 })
	s.count(t, 1, "it is not opened again", func(c Counters) bool { return c.Opened == 2 })
	exchange(t, client, server)
}

func TestBusiestConnectionsComeFirst(t *testing.T) {
	n := build(t)
	set := newSet(t, n.CPE, cpePaths(n), []netip.Addr{netlab.Server6})
	m := &Manager{set: set, wake: make(chan struct{}, 1), conns: make(map[uint32]*conn),
		uses: []Use{Normal, Closed}, counters: make([]Counters, 2)}
	traffic := make([]carried, 4)
	for i := range traffic {
		m.Track(uint32(i), Terms{}, &traffic[i])
		m.handle(Event{Type: Established, Token: uint32(i), Remote: at(netlab.Server6, 80)})
		traffic[i].Store(1000)
	}
	m.todo.urgent = nil // as if all had been looked at
	for _, c := range m.conns {
		c.queued = false
		c.newBytes()
	}
	for i, n := range []uint64{10, 40, 0, 30} {
		traffic[i].Add(n)
	}
	m.Want([]Use{Normal, Normal})
	var order []uint32
	for _, c := range m.todo.urgent {
		order = append(order, c.token)
	}
	if want := []uint32{1, 3, 0, 2}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}
