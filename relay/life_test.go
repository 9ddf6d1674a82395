package relay_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
)

const server6 = "2001:db8:2::2"

// serve answers each connection to l with handle until l is closed.
func serve(l net.Listener, handle func(*net.TCPConn)) {
	for {
		s, err := l.(*net.TCPListener).AcceptTCP()
		if err != nil {
			return
		}
		limit(s)
		go handle(s)
	}
}

// many runs fn n times, a few at once.
func many(t *testing.T, n int, fn func() error) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(32)
	for range n {
		g.Go(fn)
	}
	check(t, g.Wait())
}

func TestThousandsOfShortConnectionsLeaveNothingBehind(t *testing.T) {
	for _, network := range []string{"tcp", "mptcp"} {
		t.Run(network, func(t *testing.T) {
			const n = 1000
			b := newBench(t, benchConfig{mptcp: network == "mptcp"})
			l := b.listen(network, server6)
			go serve(l, func(s *net.TCPConn) {
				io.Copy(s, s)
				s.Close()
			})
			many(t, n, func() error {
				c, err := b.try("tcp", l.Addr().String())
				if err != nil {
					return err
				}
				defer c.Close()
				limit(c.(*net.TCPConn))
				if err := send(c.(*net.TCPConn), []byte("ping"))(); err != nil {
					return err
				}
				return receive(c.(*net.TCPConn), []byte("ping"))()
			})
			for range n {
				b.expect(nil, 4, 4)
			}
		})
	}
}

func TestServersThatResetAtOnceNeverUpsetTheRelay(t *testing.T) {
	for _, network := range []string{"tcp", "mptcp"} {
		t.Run(network, func(t *testing.T) {
			const n = 600
			b := newBench(t, benchConfig{mptcp: network == "mptcp"})
			l := b.listen(network, server6)
			go serve(l, func(s *net.TCPConn) {
				s.SetLinger(0)
				s.Close()
			})
			many(t, n, func() error {
				c, err := b.try("tcp", l.Addr().String())
				if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.ECONNREFUSED) {
					return nil // the reset was faster than the outcome of the dial
				}
				if err != nil {
					return err
				}
				defer c.Close()
				limit(c.(*net.TCPConn))
				if _, err := io.ReadAll(c); !errors.Is(err, unix.ECONNRESET) {
					return fmt.Errorf("read gives %v, want a connection reset", err)
				}
				return nil
			})
			eventually(t, "connections are left", func() bool {
				waiting, slots := b.relay.Left()
				return waiting == 0 && slots == 0
			})
		})
	}
}

func TestResetWhileTheClientIsBeingPairedIsNotLost(t *testing.T) {
	servers := make(chan *net.TCPConn, 1)
	b := newBench(t, benchConfig{paired: func() {
		s := <-servers
		s.SetLinger(0)
		s.Close()
		time.Sleep(20 * time.Millisecond) // the loop that dialed hears of it meanwhile
	}})
	l := b.listen("tcp", server6)
	go serve(l, func(s *net.TCPConn) { servers <- s })
	for range 8 { // whichever loop accepts the client
		expectReset(t, b.connect("tcp", l))
		b.expect(unix.ECONNRESET, 0, 0)
	}
}

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

func TestAbortBeforeTheDialHasEndedGivesTheSocketsBack(t *testing.T) {
	for _, mptcp := range []bool{false, true} {
		b := newBench(t, benchConfig{mptcp: mptcp})
		c, err := b.dial(key("[2001:db8:1::2]:1234", b.silent()))
		check(t, err)
		if waiting, slots := b.relay.Left(); waiting != 1 || slots != 1 {
			t.Errorf("%d connections wait in %d slots, want 1 in 1", waiting, slots)
		}
		for range 2 { // the second one is a no-op
			b.relay.Abort(c)
			if waiting, slots := b.relay.Left(); waiting != 0 || slots != 0 {
				t.Errorf("after Abort %d connections wait in %d slots", waiting, slots)
			}
		}
		if info, ok := c.Info(); info.MPTCP || c.Token() != 0 {
			t.Errorf("an aborted connection has info %v, %v and token %d", info, ok, c.Token())
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

func TestFailuresOfADialAreToldAsConnectWouldTellThem(t *testing.T) {
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
	b := newBench(t, benchConfig{mptcp: true, ownSource: true})
	c, s := b.pair("tcp", "mptcp", "203.0.113.2")
	conn := b.last()
	remote := s.RemoteAddr().(*net.TCPAddr).AddrPort()
	if want := b.Lines[0].CPE4; remote.Addr().Unmap() != want {
		t.Errorf("the server sees %v, want %v", remote, want)
	}
	if conn.Local() != netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()) {
		t.Errorf("Local is %v, the server sees %v", conn.Local(), remote)
	}
	check(t, send(c, []byte("hello"))())
	check(t, receive(s, []byte("hello"))())
	check(t, s.Close())
	b.expect(nil, 5, 0)
	if conn.Local().IsValid() {
		t.Error("a closed connection still has a local address")
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

func TestStoppingResetsWhatRunsAndWhatWaits(t *testing.T) {
	for _, network := range []string{"tcp", "mptcp"} {
		t.Run(network, func(t *testing.T) {
			const n = 40
			b := newBench(t, benchConfig{mptcp: network == "mptcp"})
			var legs []*net.TCPConn
			for range n {
				c, s := b.pair("tcp", network, server6)
				legs = append(legs, c, s)
			}
			_, err := b.dial(key("[2001:db8:1::2]:1234", b.silent()))
			check(t, err)
			check(t, b.stop())
			for _, leg := range legs {
				expectReset(t, leg)
			}
			for range n {
				b.expect(unix.ECONNABORTED, 0, 0)
			}
			if c, err := b.dial(key("[2001:db8:1::2]:1235", "[2001:db8:2::2]:9")); !errors.Is(err, unix.ESHUTDOWN) {
				t.Errorf("a stopped relay dials: %v, %v", c, err)
			}
		})
	}
}

func TestStoppingWhileConnectionsComeAndGoLeavesNothing(t *testing.T) {
	b := newBench(t, benchConfig{mptcp: true})
	l := b.listen("mptcp", server6)
	go serve(l, func(s *net.TCPConn) {
		io.Copy(s, s)
		s.Close()
	})
	var done atomic.Int64
	many(t, 400, func() error {
		if done.Add(1) == 200 {
			return errors.Join(b.stop(), b.relay.Close())
		}
		// However a connection fares that meets the stop is all right here.
		c, err := b.try("tcp", l.Addr().String())
		if err != nil {
			return nil
		}
		defer c.Close()
		limit(c.(*net.TCPConn))
		_ = send(c.(*net.TCPConn), []byte("ping"))()
		_, _ = io.ReadAll(c)
		return nil
	})
}

func TestListenersAreOnLoopbackAndServeOnlyWhoIsWaitedFor(t *testing.T) {
	b := newBench(t, benchConfig{})
	for _, l := range b.relay.Listeners() {
		if !l.Addr().IsLoopback() || l.Port() == 0 {
			t.Errorf("a listener is at %v", l)
		}
		c, err := b.CPE.Dial(t.Context(), "tcp", "", l.String())
		if err == nil {
			limit(c.(*net.TCPConn))
			_, err = io.ReadAll(c)
			c.Close()
		}
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("a stranger gets %v, want a connection reset", err)
		}
	}
}

func TestClientThatIsThereBeforeItsServerIsALateOne(t *testing.T) {
	b := newBench(t, benchConfig{})
	fd := b.clientSocket(netip.MustParseAddrPort(b.silent()))
	defer unix.Close(fd)
	conn := <-b.dials
	b.mu.Lock()
	id := b.early[conn.Tag.(flow)]
	b.mu.Unlock()
	b.verdict(b.queue.Release(id, nfq.Relay)) // though nothing is connected yet
	if err := b.readError(fd); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client sees %v, want a connection reset", err)
	}
	if waiting, slots := b.relay.Left(); waiting != 1 || slots != 1 {
		t.Errorf("%d connections wait in %d slots, want the one that dials", waiting, slots)
	}
	b.relay.Abort(conn)
}

// readError waits for what ends a connection.
func (b *bench) readError(fd int) (err error) {
	b.t.Helper()
	eventually(b.t, "the client is left waiting", func() bool {
		_, err = unix.Read(fd, make([]byte, 1))
		return !errors.Is(err, unix.EAGAIN)
	})
	return err
}

func TestClientIsToldWhenThereAreNoMoreDescriptors(t *testing.T) {
	var taken descriptors
	t.Cleanup(taken.release)
	b := newBench(t, benchConfig{connected: func(b *bench, _ *relay.Conn, id uint32, _ error) {
		if err := taken.all(); err != nil {
			b.t.Error(err)
		}
		b.verdict(b.queue.Release(id, nfq.Relay))
	}})
	l := b.listen("tcp", server6)
	fd := b.clientSocket(l.Addr().(*net.TCPAddr).AddrPort())
	defer unix.Close(fd)
	err := b.readError(fd)
	taken.release()
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client sees %v, want a connection reset", err)
	}
	if waiting, _ := b.relay.Left(); waiting != 1 {
		t.Errorf("%d connections wait, want the one whose client was turned away", waiting)
	}
	b.relay.Abort(b.connectedOne())
}

// descriptors are all that the process may have.
type descriptors struct {
	mu     sync.Mutex
	limits unix.Rlimit
	fds    []int
}

// all takes every descriptor up to the highest one in use.
func (d *descriptors) all() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &d.limits); err != nil {
		return err
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	low := d.limits
	low.Cur = 0
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 10, 31)
		if err != nil {
			return err
		}
		low.Cur = max(low.Cur, n+1)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		return err
	}
	for {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil
		}
		d.fds = append(d.fds, fd)
	}
}

func (d *descriptors) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.limits.Max != 0 {
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &d.limits)
	}
	for _, fd := range d.fds {
		unix.Close(fd)
	}
	d.fds = nil
}

// clientSocket starts a connection that needs no further descriptor.
func (b *bench) clientSocket(to netip.AddrPort) (fd int) {
	b.t.Helper()
	check(b.t, b.Client.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
		if errors.Is(err, unix.EINPROGRESS) {
			return nil
		}
		return err
	}))
	return fd
}
