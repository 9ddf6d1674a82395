package paths

import (
	"net"
	"net/netip"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"golang.org/x/sys/unix"
)

// many is how many connections lose a path and get it back.
const many = 2000

// connectMany makes many connections, and returns their ends at the CPE.
func (s *scene) connectMany(t *testing.T) []net.Conn {
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

func TestThousandsOfConnectionsLoseAPathAndGetItBackWithoutAStorm(t *testing.T) {
	s := setScene(t)
	needsDestroy(t, s.CPE)
	conns := s.connectMany(t)
	eventually(t, "not all are established", func() bool {
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		n := 0
		for _, c := range s.m.conns {
			if c.established {
				n++
			}
		}
		return n == many
	})
	s.m.mu.Lock()
	tokens := make([]uint32, 0, many)
	for token := range s.m.conns {
		tokens = append(tokens, token)
	}
	s.m.mu.Unlock()
	for _, token := range tokens {
		s.m.Track(token, Terms{}, nil)
	}
	s.all(t, "at first", many)
	// The line dies: all subflows on it end at once, and it is not wanted.
	s.m.Want([]Use{Normal, Closed})
	check(t, s.CPE.Do(func() error { return killFrom(s.other) }))
	s.all(t, "while the path is lost", 0)
	s.m.Want([]Use{Normal, Normal})
	s.all(t, "when it is back", many)
	// It goes in an orderly way, and comes back as a backup.
	s.m.Want([]Use{Normal, Closed})
	s.all(t, "when it is not wanted", 0)
	s.m.Want([]Use{Normal, Backup})
	s.all(t, "as a backup", many)
	s.m.Want([]Use{Normal, Normal})
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
func (s *scene) all(t *testing.T, when string, n int) {
	t.Helper()
	s.count(t, 1, when, func(c Counters) bool { return c.Open == n })
}

// killFrom ends the TCP connections from an address, whatever its port.
func killFrom(from netip.Addr) error {
	_, err := destroy(^uint32(0), func(s *socket) bool { return s.local.Addr() == from })
	return err
}
