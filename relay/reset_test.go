//go:build linux

package relay_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/relay"
)

// inBothRoles runs a test in every mode, with the client and with the server as the host
// that resets.
func inBothRoles(t *testing.T, test func(t *testing.T, b *bench, resetter, other *net.TCPConn)) {
	t.Run("client resets", func(t *testing.T) { inModes(t, test) })
	t.Run("server resets", func(t *testing.T) {
		inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) { test(t, b, s, c) })
	})
}

// receiveToReset reads to a reset and compares.
func receiveToReset(t *testing.T, c *net.TCPConn, want []byte) {
	t.Helper()
	got, err := io.ReadAll(c)
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("after %d bytes of %d read gives %v, want a connection reset", len(got), len(want), err)
	}
	if string(got) != string(want) {
		t.Errorf("%d bytes of %d arrived before the reset, or other ones", len(got), len(want))
	}
}

// acknowledged waits until the relay's kernel has all that a host has sent.
func acknowledged(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	check(t, err)
	eventually(t, "the relay does not take what a host sends", func() bool {
		left := -1
		check(t, raw.Control(func(fd uintptr) { left, err = relay.Unacknowledged(int(fd)) }))
		check(t, err)
		return left == 0
	})
}

func TestBytesSentJustBeforeAResetArrive(t *testing.T) {
	inBothRoles(t, func(t *testing.T, b *bench, resetter, other *net.TCPConn) {
		bytes := pattern(10, 14_000) // no more than an initial window
		_, err := resetter.Write(bytes)
		check(t, err)
		acknowledged(t, resetter)
		reset(t, resetter)
		receiveToReset(t, other, bytes)
		b.expectError()
	})
}

// TestBytesHeldForASlowReaderArriveBeforeAReset resets a connection while the relay and
// its sockets hold what does not fit into the receive buffer of the other host.
func TestBytesHeldForASlowReaderArriveBeforeAReset(t *testing.T) {
	inBothRoles(t, func(t *testing.T, b *bench, resetter, other *net.TCPConn) {
		check(t, other.SetReadBuffer(16<<10))
		bytes := pattern(11, 200_000)
		_, err := resetter.Write(bytes)
		check(t, err)
		acknowledged(t, resetter)
		reset(t, resetter)
		time.Sleep(200 * time.Millisecond) // less than the relay waits for a closed window
		receiveToReset(t, other, bytes)
		b.expectError()
	})
}

func TestFINBeforeAResetArrivesFirst(t *testing.T) {
	inBothRoles(t, func(t *testing.T, b *bench, resetter, other *net.TCPConn) {
		bytes := pattern(12, 14_000)
		check(t, send(resetter, bytes)())
		acknowledged(t, resetter)
		reset(t, resetter)
		got, err := io.ReadAll(other)
		// MPTCP sockets give EPIPE for a FIN that a reset has followed.
		if string(got) != string(bytes) || err != nil && !errors.Is(err, unix.EPIPE) {
			t.Errorf("%d bytes of %d, then %v; want a FIN", len(got), len(bytes), err)
		}
		eventually(t, "the reset after the FIN is not passed on", func() bool {
			_, err := other.Write([]byte("x"))
			return err != nil
		})
		b.expectError()
	})
}

// TestAnswerBesideAnUnfinishedUploadArrives is that of a server that refuses an upload
// (HTTP 413): its close, with bytes unread, is a reset.
func TestAnswerBesideAnUnfinishedUploadArrives(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
		var g errgroup.Group
		g.Go(func() error {
			some := make([]byte, 64<<10)
			for {
				if _, err := c.Write(some); err != nil {
					return nil
				}
			}
		})
		_, err := io.CopyN(io.Discard, s, 100_000)
		check(t, err)
		answer := pattern(13, 14_000)
		_, err = s.Write(answer)
		check(t, err)
		acknowledged(t, s)
		check(t, s.Close())
		got, err := io.ReadAll(c) // the error may have gone to the write
		if string(got) != string(answer) || err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%d bytes of %d, then %v", len(got), len(answer), err)
		}
		check(t, g.Wait())
		b.expectError()
	})
}

// TestHostThatSendsBeforeItReadsGetsTheBytesBeforeAReset would fail if the relay left
// unread what is for the host that has reset: the other could not go on.
func TestHostThatSendsBeforeItReadsGetsTheBytesBeforeAReset(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
		check(t, s.SetReadBuffer(16<<10))
		bytes := pattern(14, 200_000)
		_, err := c.Write(bytes)
		check(t, err)
		acknowledged(t, c)
		var g errgroup.Group
		g.Go(func() error { _, err := s.Write(make([]byte, 16<<20)); return err })
		eventually(t, "the server's bytes do not reach the client", func() bool { return b.last().BytesDown() > 0 })
		reset(t, c)
		check(t, g.Wait())
		receiveToReset(t, s, bytes)
		b.expectError()
	})
}

func TestResetOfASplicedTransferIsNoFIN(t *testing.T) {
	b := newBench(t, benchConfig{mptcp: true})
	l := b.listen("mptcp", server6)
	defer l.Close()
	for range 20 {
		c := b.connect("tcp", l)
		s, err := l.(*net.TCPListener).AcceptTCP()
		check(t, err)
		limit(s)
		var g errgroup.Group
		g.Go(func() error {
			if _, err := io.Copy(io.Discard, s); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the transfer ends with %v, want a connection reset", err)
			}
			return s.Close()
		})
		_, err = c.Write(make([]byte, 4<<20))
		check(t, err)
		reset(t, c)
		check(t, g.Wait())
		b.expectError()
	}
}

func TestBannerArrivesBeforeTheResetThatFollowsItAtOnce(t *testing.T) {
	for _, fin := range []bool{false, true} {
		for _, network := range []string{"tcp", "mptcp"} {
			servers, there := make(chan *net.TCPConn, 1), make(chan struct{})
			b := newBench(t, benchConfig{mptcp: network == "mptcp", paired: func() {
				s := <-servers
				<-there
				io.WriteString(s, "220 go away\r\n")
				if fin {
					s.CloseWrite()
				}
				acknowledged(t, s)
				s.SetLinger(0)
				s.Close()
			}})
			l := b.listen(network, server6)
			go serve(l, func(s *net.TCPConn) { servers <- s })
			c := b.connect("tcp", l)
			close(there)
			got, err := io.ReadAll(c)
			if string(got) != "220 go away\r\n" || fin && err != nil || !fin && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%s, FIN %v: the client sees %q, %v", network, fin, got, err)
			}
			b.expectError()
		}
	}
}

// TestResetDoesNotWaitForAReaderThatNeverReads bounds how long a relay holds a connection
// whose bytes nobody takes.
func TestResetDoesNotWaitForAReaderThatNeverReads(t *testing.T) {
	for _, role := range []string{"client", "server"} {
		for _, m := range modes {
			if m.at != server6 {
				continue // nothing of this depends on the address
			}
			t.Run(role+" resets, "+m.name, func(t *testing.T) {
				b := newBench(t, benchConfig{mptcp: m.mptcp()})
				for _, h := range []*netlab.Host{b.Client, b.Server} {
					check(t, h.Sysctl("net.ipv4.tcp_rmem", "4096 16384 16384"))
				}
				resetter, other := b.pair(m.client, m.server, m.at)
				if role == "server" {
					resetter, other = other, resetter
				}
				_, err := resetter.Write(make([]byte, 100_000))
				check(t, err)
				acknowledged(t, resetter)
				reset(t, resetter)
				began := time.Now()
				b.expectError()
				if took := time.Since(began); took > 5*time.Second {
					t.Errorf("the connection ends %v after the reset", took)
				}
				expectReset(t, other)
			})
		}
	}
}

// TestStoppingEndsConnectionsThatDrain stops a relay that waits until a host has taken the bytes
// before a reset. That host has shrunk its window, so that bytes beyond it are under way.
func TestStoppingEndsConnectionsThatDrain(t *testing.T) {
	for _, network := range []string{"tcp", "mptcp"} {
		t.Run(network, func(t *testing.T) {
			b := newBench(t, benchConfig{mptcp: network == "mptcp"})
			c, s := b.pair("tcp", network, server6)
			check(t, s.SetReadBuffer(16<<10))
			_, err := c.Write(make([]byte, 200_000))
			check(t, err)
			acknowledged(t, c)
			reset(t, c)
			time.Sleep(50 * time.Millisecond) // the relay hears of the reset
			check(t, b.stop())
			b.expectError()
			expectEnd(t, s)
		})
	}
}

// expectEnd reads until a reset. A kernel sends MP_FASTCLOSE once, and the reset of a subflow
// that follows ends that subflow alone: then the connection of a host with MPTCP has no
// subflow. A box ends its half of such a connection.
func expectEnd(t *testing.T, c *net.TCPConn) {
	t.Helper()
	raw, err := c.SyscallConn()
	check(t, err)
	read := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c)
		read <- err
	}()
	eventually(t, "the host hears of no end", func() bool {
		carried := true
		check(t, raw.Control(func(fd uintptr) { carried = relay.Carried(int(fd)) }))
		select {
		case err := <-read:
			if !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("read gives %v, want a connection reset", err)
			}
			return true
		case <-time.After(50 * time.Millisecond):
			return !carried // for some time
		}
	})
}
