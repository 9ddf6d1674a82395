//go:build linux

package mptcp

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/paths"
)

// many is the number of connections that lose a path and get it back.
const many = 2000

// connectMany makes many connections, and returns their ends at the CPE.
func (s *pair) connectMany(t *testing.T) []net.Conn {
	t.Helper()
	var files unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &files))
	if files.Cur < 2*many+100 {
		t.Skipf("only %d files may be open", files.Cur)
	}
	l, err := s.HAG.Listen("mptcp", net.JoinHostPort(netlab.HAGWan6.String(), "0"))
	check(t, err)
	t.Cleanup(func() { l.Close() })
	conns := make([]net.Conn, many)
	for i := range conns {
		client, err := s.CPE.Dial(t.Context(), "mptcp", "", l.Addr().String())
		check(t, err)
		server, err := l.Accept()
		check(t, err)
		t.Cleanup(func() { client.Close(); server.Close() })
		exchange(t, client, server)
		conns[i] = client
	}
	return conns
}

func TestThousandsOfConnectionsSurviveAFailingPathWithoutAStorm(t *testing.T) {
	s := newPair(t)
	needsDestroy(t, s.CPE)
	conns := s.connectMany(t)
	for _, c := range conns {
		s.m.Track(tokenOf(t, c), paths.SubflowPolicy{}, nil)
	}
	s.all(t, "at first", many)
	// The line dies: all subflows on it end at once, and it is not wanted.
	s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Closed})
	check(t, s.CPE.Do(func() error { return killFrom(s.other) }))
	s.all(t, "while the path is lost", 0)
	s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Normal})
	s.all(t, "when it is back", many)
	// It goes in an orderly way, and comes back as a backup.
	s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Closed})
	s.all(t, "when it is not wanted", 0)
	s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Backup})
	s.all(t, "as a backup", many)
	s.m.SetDesired([]paths.DesiredState{paths.Normal, paths.Normal})
	eventually(t, "not all peers are told", func() bool { return len(s.heard.of(SubPriority)) == many })
	got := s.m.CountersByPath()[1]
	if got.Opened != 3*many || got.Failed > many {
		t.Errorf("counters %+v: more was tried than was needed", got)
	}
	for _, c := range conns[:10] {
		expect(t, "a connection lacks a subflow", c, s.first, s.other)
	}
}

// all waits until so many subflows are open on the second path.
func (s *pair) all(t *testing.T, when string, n int) {
	t.Helper()
	s.count(t, 1, when, func(c paths.SubflowCounters) bool { return c.Open == n })
}
