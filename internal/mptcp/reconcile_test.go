//go:build linux

package mptcp

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/paths"
)

func TestPeerIsToldWhichSubflowsAreBackups(t *testing.T) {
	s := newPair(t)
	client, server, token := s.connect(t)
	s.m.Track(token, paths.SubflowPolicy{}, nil)
	expect(t, "the second subflow does not come", client, s.first, s.other)
	for i, want := range [][]paths.DesiredState{{paths.Normal, paths.Backup}, {paths.Normal, paths.Normal}, {paths.Backup, paths.Normal}} {
		s.m.SetDesired(want)
		eventually(t, "the peer hears nothing", func() bool { return len(s.heard.of(SubPriority)) > i })
		got := s.heard.of(SubPriority)[i]
		path := 0
		if got.Local == s.joins[1] {
			path = 1
		}
		if got.Backup != (want[path] == paths.Backup) {
			t.Errorf("%v: the peer hears of path %d that backup is %v", want, path, got.Backup)
		}
		exchange(t, client, server)
	}
	if got := s.m.Counters(); got.Open != 2 || got.Opened != 1 || got.Lost+got.Closed != 0 {
		t.Errorf("counters %+v", got)
	}
}

func TestBackupIsOpenedAsABackup(t *testing.T) {
	s := newPair(t)
	client, _, token := s.connect(t)
	s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Backup})
	s.m.Track(token, paths.SubflowPolicy{}, nil)
	expect(t, "the second subflow does not come", client, s.first, s.other)
	eventually(t, "the peer knows nothing of it", func() bool { return len(s.heard.of(SubEstablished)) == 1 })
	if got := s.heard.of(SubEstablished)[0]; !got.Backup {
		t.Errorf("the peer does not take it for a backup: %+v", got)
	}
	if got := s.heard.of(SubPriority); len(got) != 0 {
		t.Errorf("and it is told again: %+v", got)
	}
}

func TestSubflowsFollowTheDesiredStates(t *testing.T) {
	s := newPair(t)
	client, server, token := s.connect(t)
	s.m.Track(token, paths.SubflowPolicy{}, nil)
	for _, step := range []struct {
		name string
		want []paths.DesiredState
		from []netip.Addr
	}{
		{"at first", []paths.DesiredState{paths.Normal, paths.Normal}, []netip.Addr{s.first, s.other}},
		{"without the second path", []paths.DesiredState{paths.Normal, paths.Closed}, []netip.Addr{s.first}},
		{"with it again", []paths.DesiredState{paths.Normal, paths.Normal}, []netip.Addr{s.first, s.other}},
		{"without the first path", []paths.DesiredState{paths.Closed, paths.Normal}, []netip.Addr{s.other}},
		{"with it again", []paths.DesiredState{paths.Normal, paths.Normal}, []netip.Addr{s.first, s.other}},
		{"from one to the other", []paths.DesiredState{paths.Closed, paths.Backup}, []netip.Addr{s.other}},
		{"and back", []paths.DesiredState{paths.Normal, paths.Closed}, []netip.Addr{s.first}},
		{"without any", []paths.DesiredState{paths.Closed, paths.Closed}, []netip.Addr{s.first}},
		{"and with both", []paths.DesiredState{paths.Normal, paths.Backup}, []netip.Addr{s.first, s.other}},
	} {
		s.m.SetDesired(step.want)
		expect(t, step.name, client, step.from...)
		eventually(t, step.name+": the server has others", func() bool { return len(localAddrs(t, server)) == len(step.from) })
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

func TestSubflowThatThePeerClosesIsOpenedAgain(t *testing.T) {
	s := newPair(t)
	needsDestroy(t, s.HAG)
	client, server, token := s.connect(t)
	s.m.Track(token, paths.SubflowPolicy{}, nil)
	expect(t, "the second subflow does not come", client, s.first, s.other)
	end := func(path int, at netip.AddrPort) {
		t.Helper()
		before := s.m.CountersByPath()[path]
		check(t, s.HAG.Do(func() error { return killAt(at) }))
		s.count(t, path, "the end is not noticed", func(c paths.SubflowCounters) bool { return c.Lost == before.Lost+1 })
		s.count(t, path, "nothing is opened", func(c paths.SubflowCounters) bool { return c.Opened == before.Opened+1 })
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
	if err := h.Do(host.CanEndSockets); err != nil {
		t.Skip("kernel without CONFIG_INET_DIAG_DESTROY: ", err)
	}
}

// kill ends the established TCP connections that match.
func kill(match func(*host.Socket) bool) error {
	const established = 1 << 1
	_, err := host.EndSockets(established, func(all []host.Socket) []host.Socket {
		return slices.DeleteFunc(all, func(s host.Socket) bool { return !match(&s) })
	})
	return err
}

// killAt ends the established TCP connections to a local address and port.
func killAt(local netip.AddrPort) error {
	return kill(func(s *host.Socket) bool { return s.Local == local })
}

// killFrom ends the established TCP connections from a local address.
func killFrom(local netip.Addr) error {
	return kill(func(s *host.Socket) bool { return s.Local.Addr() == local })
}

func TestPathIsUsedFromItsNewAddress(t *testing.T) {
	for name, leave := range map[string]func(*pair) error{
		"after the path was closed": func(s *pair) error {
			s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Closed})
			eventually(t, "the old subflow stays", func() bool { return s.m.CountersByPath()[1].Closed == 1 })
			s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Normal})
			return nil
		},
		// Then the kernel still binds the path's address ID to the old address.
		"after the subflow was ended": func(s *pair) error {
			return s.CPE.Do(func() error { return killFrom(s.other) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newPair(t)
			needsDestroy(t, s.CPE)
			client, server, token := s.connect(t)
			s.m.Track(token, paths.SubflowPolicy{}, nil)
			expect(t, "the second subflow does not come", client, s.first, s.other)
			renumbered := s.other.Next()
			check(t, s.CPE.Netlink(renumber("lte", s.other, renumbered)))
			s.machine.read(t, s.CPE)
			check(t, leave(s))
			expect(t, "no subflow comes from the new address", client, s.first, renumbered)
			exchange(t, client, server)
		})
	}
}

func TestConnectionUsesThePathsOfItsPolicyOnly(t *testing.T) {
	s := newPair(t)
	client, server, token := s.connect(t)
	s.m.Track(token, paths.SubflowPolicy{Paths: 1 << 1}, nil)
	expect(t, "it does not keep to the second path", client, s.other)
	s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Closed})
	exchange(t, client, server) // nothing that it may use is wanted: it keeps what it has
	expect(t, "it does not keep what it has", client, s.other)
}

func TestFurtherSubflowsWaitForEnoughBytes(t *testing.T) {
	s := newPair(t)
	client, server, token := s.connect(t)
	var bytes carried
	s.m.Track(token, paths.SubflowPolicy{After: 1000}, &bytes)
	bytes.Store(999)
	s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Backup})
	exchange(t, client, server)
	eventually(t, "the connection is not established", func() bool { return s.m.Counters().Open == 1 })
	time.Sleep(100 * time.Millisecond) // two looks at its bytes
	if got := s.m.Counters(); got != (paths.SubflowCounters{Open: 1}) {
		t.Errorf("after 999 bytes: counters %+v", got)
	}
	bytes.Store(1000)
	expect(t, "no subflow comes", client, s.first, s.other)
}

func TestLargeTransferGetsFurtherSubflowsAtOnceAndOthersAfterAMoment(t *testing.T) {
	s := newPair(t)
	client, server, small := s.connect(t)
	s.m.Track(small, paths.SubflowPolicy{}, nil)
	largeClient, largeServer, large := s.connect(t)
	s.m.Track(large, paths.SubflowPolicy{}, nil)
	s.m.SetLarge(large)
	s.count(t, 1, "not both get one in the end", func(c paths.SubflowCounters) bool { return c.Opened == 2 })
	exchange(t, client, server)
	exchange(t, largeClient, largeServer)
}

func TestConnectionWithoutSubflowGetsAnotherAtOnce(t *testing.T) {
	s := newPair(t)
	needsDestroy(t, s.CPE)
	client, server, token := s.connect(t)
	s.m.Track(token, paths.SubflowPolicy{After: 1 << 40}, &carried{})
	local := client.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	s.m.SetDesired([]paths.DesiredState{paths.Closed, paths.Normal})
	check(t, s.CPE.Do(func() error { return killAt(local) }))
	expect(t, "it is left without any", client, s.other)
	exchange(t, client, server)
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
