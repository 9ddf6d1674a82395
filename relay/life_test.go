//go:build linux

package relay_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
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

func TestSurvivesServersThatResetAtOnce(t *testing.T) {
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

func TestStopResetsPairedAndWaitingConnections(t *testing.T) {
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

func TestListenersOnLoopbackResetUnexpectedClients(t *testing.T) {
	b := newBench(t, benchConfig{})
	for _, l := range slices.Concat(b.relay.Listeners(false), b.relay.Listeners(true)) {
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

func TestResetsClientThatCompletesBeforeItsServer(t *testing.T) {
	b := newBench(t, benchConfig{})
	fd := b.clientSocket(netip.MustParseAddrPort(b.silent()))
	defer unix.Close(fd)
	conn := <-b.dials
	b.mu.Lock()
	id := b.early[flow{conn.Client, conn.Server}]
	b.mu.Unlock()
	b.verdict(b.queue.Release(id, b.delivery())) // though nothing is connected yet
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
