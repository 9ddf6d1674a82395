//go:build linux

package relay_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/relay"
)

// A listener with a backlog of one connection answers no further SYN: a dial to
// it stays where it is.
func (b *bench) silent() (addr string) {
	b.t.Helper()
	var fd int
	var sa unix.Sockaddr
	check(b.t, b.Server.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.MustParseAddr(server6).As16()}); err != nil {
			return err
		}
		if err := unix.Listen(fd, 0); err != nil {
			return err
		}
		sa, err = unix.Getsockname(fd)
		return err
	}))
	b.t.Cleanup(func() { unix.Close(fd) })
	addr = fmt.Sprintf("[%s]:%d", server6, sa.(*unix.SockaddrInet6).Port)
	c, err := b.Server.Dial(b.t.Context(), "tcp", "", addr)
	check(b.t, err)
	b.t.Cleanup(func() { c.Close() })
	return addr
}

func key(client, server string) flow {
	return flow{netip.MustParseAddrPort(client), netip.MustParseAddrPort(server)}
}

// resets returns the number of resets that a host has sent.
func resets(t *testing.T, h *netlab.Host) string {
	t.Helper()
	var text []byte
	check(t, h.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	}))
	var names []string
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if words[0] == "Tcp:" && names != nil {
			return words[slices.Index(names, "OutRsts")]
		}
		if words[0] == "Tcp:" {
			names = words
		}
	}
	t.Fatal("the kernel does not count resets")
	return ""
}

func TestAbortDuringADialFreesTheSockets(t *testing.T) {
	for _, mptcp := range []bool{false, true} {
		b := newBench(t, benchConfig{mptcp: mptcp})
		c, err := b.dial(key("[2001:db8:1::2]:1234", b.silent()))
		check(t, err)
		if waiting, slots := b.relay.Left(); waiting != 1 || slots != 1 {
			t.Errorf("%d connections wait in %d slots, want 1 in 1", waiting, slots)
		}
		before := resets(t, b.CPE)
		for range 2 { // the second one is a no-op
			b.relay.Abort(c)
			if waiting, slots := b.relay.Left(); waiting != 0 || slots != 0 {
				t.Errorf("after Abort %d connections wait in %d slots", waiting, slots)
			}
		}
		if info, ok := c.Info(); info.MPTCP || c.Token() != 0 {
			t.Errorf("an aborted connection has info %v, %v and token %d", info, ok, c.Token())
		}
		if after := resets(t, b.CPE); after != before {
			t.Errorf("the kernel has sent %s resets, %s before the abort", after, before)
		}
	}
}

func TestAbortOfAConnectedOneResetsItsServer(t *testing.T) {
	for _, network := range []string{"tcp", "mptcp"} {
		done := make(chan *relay.Conn, 1)
		b := newBench(t, benchConfig{mptcp: network == "mptcp", connected: func(b *bench, c *relay.Conn, _ uint32, err error) {
			if err != nil {
				b.t.Error(err)
			}
			done <- c
		}})
		l := b.listen(network, server6)
		c, err := b.dial(key("[2001:db8:1::2]:1234", l.Addr().String()))
		check(t, err)
		s, err := l.(*net.TCPListener).AcceptTCP()
		check(t, err)
		limit(s)
		if got := <-done; got != c {
			t.Error("another connection was connected")
		}
		b.relay.Abort(c)
		expectReset(t, s)
		s.Close()
	}
}

func TestAbortOfAPairedOneDoesNothing(t *testing.T) {
	b := newBench(t, benchConfig{})
	c, s := b.pair("tcp", "tcp", server6)
	b.relay.Abort(<-b.paired)
	check(t, send(c, []byte("still here"))())
	check(t, receive(s, []byte("still here"))())
	check(t, s.Close())
	b.expect(nil, 10, 0)
}

func TestAbortAndConnectedMayRace(t *testing.T) {
	var reported atomic.Int64
	b := newBench(t, benchConfig{connected: func(*bench, *relay.Conn, uint32, error) { reported.Add(1) }})
	l := b.listen("tcp", server6)
	go serve(l, func(s *net.TCPConn) {
		io.Copy(io.Discard, s)
		s.Close()
	})
	for i := range 500 {
		c, err := b.dial(key(fmt.Sprintf("[2001:db8:1::2]:%d", 2000+i), l.Addr().String()))
		check(t, err)
		b.relay.Abort(c)
	}
	if waiting, slots := b.relay.Left(); waiting != 0 || slots != 0 {
		t.Errorf("%d connections wait in %d slots, %d were reported", waiting, slots, reported.Load())
	}
}

func TestSecondDialOfAFlowTakesThePlaceOfTheFirst(t *testing.T) {
	b := newBench(t, benchConfig{ownSource: true})
	k := key("[2001:db8:1::2]:1234", b.silent())
	first, err := b.dial(k)
	check(t, err)
	second, err := b.dial(k)
	check(t, err)
	if waiting, slots := b.relay.Left(); waiting != 1 || slots != 1 {
		t.Errorf("%d connections wait in %d slots, want 1 in 1", waiting, slots)
	}
	b.relay.Abort(first)
	if waiting, _ := b.relay.Left(); waiting != 1 {
		t.Error("the first one's Abort took the second away")
	}
	b.relay.Abort(second)
}

func TestReportsTheErrorOfConnect(t *testing.T) {
	outcome := make(chan error, 1)
	cfg := benchConfig{connected: func(b *bench, _ *relay.Conn, id uint32, err error) {
		outcome <- err
		b.verdict(b.queue.Drop(id))
	}}
	for _, mptcp := range []bool{false, true} {
		cfg.mptcp = mptcp
		b := newBench(t, cfg)
		unreachable := netip.MustParsePrefix("2001:db8:2:ff::/64")
		check(t, b.Server.AddAddress("lo", unreachable)) // the HAG has no way there: it says so
		for _, c := range []struct {
			server string
			want   unix.Errno
		}{
			{"[2001:db8:2::2]:9", unix.ECONNREFUSED},
			{"203.0.113.2:9", unix.ECONNREFUSED},
			{"[2001:db8:2:ff::1]:9", unix.ENETUNREACH},
		} {
			client := "[2001:db8:1::2]:1234"
			if c.server[0] != '[' {
				client = "198.51.100.2:1234"
			}
			conn, err := b.dial(key(client, c.server))
			if err == nil {
				err = <-outcome
			}
			if !errors.Is(err, c.want) {
				t.Errorf("mptcp %v: dial to %s ends with %v, want %v", mptcp, c.server, err, c.want)
			}
			if waiting, slots := b.relay.Left(); waiting != 0 || slots != 0 {
				t.Errorf("%d connections wait in %d slots (%v)", waiting, slots, conn)
			}
		}
	}
}

func TestClientSeesThatItsServerRefuses(t *testing.T) {
	for _, mptcp := range []bool{false, true} {
		b := newBench(t, benchConfig{mptcp: mptcp})
		if _, err := b.try("tcp", "[2001:db8:2::2]:9"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("connect gives %v, want connection refused", err)
		}
	}
}

func TestOwnSourceDialsFromTheBox(t *testing.T) {
	for _, server := range []string{"203.0.113.2", "2001:db8:2::2"} {
		for i, name := range []string{"where the kernel chooses", "where it is told to"} {
			t.Run(server+" "+name, func(t *testing.T) {
				is4 := netip.MustParseAddr(server).Is4()
				cfg := benchConfig{mptcp: true, ownSource: true}
				if i > 0 {
					cfg.from = func(n *netlab.Network) (netip.Addr, string) { return address(n.Lines[i], is4), n.Lines[i].Name }
				}
				b := newBench(t, cfg)
				b.talkFrom(t, address(b.Lines[i], is4), server)
			})
		}
	}
}

func address(l *netlab.Line, is4 bool) netip.Addr {
	if is4 {
		return l.CPE4
	}
	return l.CPE6
}

// talkFrom makes a connection, has it used and ended, and checks from where the
// server sees it.
func (b *bench) talkFrom(t *testing.T, want netip.Addr, server string) {
	t.Helper()
	c, s := b.pair("tcp", "mptcp", server)
	conn := b.last()
	remote := s.RemoteAddr().(*net.TCPAddr).AddrPort()
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	if remote.Addr() != want {
		t.Errorf("the server sees %v, want %v", remote, want)
	}
	check(t, send(c, []byte("hello"))())
	check(t, receive(s, []byte("hello"))())
	check(t, s.Close())
	b.expect(nil, 5, 0)
	if conn.Local() != remote {
		t.Errorf("Local is %v, the server has seen %v", conn.Local(), remote)
	}
}

func TestInfoShowsTheMultipathLeg(t *testing.T) {
	cases := []struct {
		name           string
		dial           bool // with MPTCP
		client, server string
		mptcp          bool
		remote         string // of the leg
	}{
		{"MPTCP towards the server", true, "tcp", "mptcp", true, server6},
		{"fallback to TCP towards the server", true, "tcp", "tcp", false, server6},
		{"MPTCP towards the client", false, "mptcp", "tcp", true, "2001:db8:1::2"},
		{"TCP towards the client", false, "tcp", "tcp", false, "2001:db8:1::2"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, benchConfig{mptcp: c.dial})
			client, server := b.pair(c.client, c.server, server6)
			check(t, send(client, []byte("hello"))())
			check(t, receive(server, []byte("hello"))())
			conn := b.last()
			if conn.Local() != client.LocalAddr().(*net.TCPAddr).AddrPort() {
				t.Errorf("Local is %v, want the client's %v", conn.Local(), client.LocalAddr())
			}
			info, ok := conn.Info()
			if !ok || info.MPTCP != c.mptcp || (info.Token != 0) != c.mptcp || (conn.Token() != 0) != c.mptcp {
				t.Fatalf("info %+v, %v, token %d", info, ok, conn.Token())
			}
			if len(info.Subflows) != 1 {
				t.Fatalf("%d subflows, want 1", len(info.Subflows))
			}
			s := info.Subflows[0]
			if s.Remote.Addr().String() != c.remote || s.RTT <= 0 || s.BytesSent+s.BytesReceived < 5 {
				t.Errorf("subflow %+v, want one to %s that has carried 5 bytes", s, c.remote)
			}
			check(t, server.Close())
			b.expect(nil, 5, 0)
			if last, ok := conn.Info(); !ok || last.MPTCP != c.mptcp || last.Token != info.Token || len(last.Subflows) > 1 || conn.Token() != 0 {
				t.Errorf("after the end: info %+v, %v, token %d", last, ok, conn.Token())
			}
		})
	}
}
