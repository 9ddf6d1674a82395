//go:build linux

package relay_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// mode is one combination of protocols.
type mode struct {
	name           string
	client, server string // networks
	at             string // the server's address
}

// modes are the combinations of protocols that a box meets.
var modes = []mode{
	{"TCP on both legs over IPv6", "tcp", "tcp", "2001:db8:2::2"},
	{"TCP on both legs over IPv4", "tcp", "tcp", "203.0.113.2"},
	{"MPTCP towards the server", "tcp", "mptcp", "2001:db8:2::2"},
	{"MPTCP towards the server over IPv4", "tcp", "mptcp", "203.0.113.2"},
	{"MPTCP towards a server that has none", "tcp6", "tcp", "2001:db8:2::2"},
	{"MPTCP towards the client", "mptcp", "tcp", "2001:db8:2::2"},
}

// mptcp reports whether the relay dials with it.
func (m mode) mptcp() bool { return m.server == "mptcp" || m.client == "tcp6" }

// inModes runs a test in every mode.
func inModes(t *testing.T, test func(t *testing.T, b *bench, c, s *net.TCPConn)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			b := newBench(t, benchConfig{mptcp: m.mptcp()})
			c, s := b.pair(m.client, m.server, m.at)
			test(t, b, c, s)
		})
	}
}

// pattern returns the bytes of a stream: random ones, which show a lost or changed part.
func pattern(seed byte, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// send writes all and then a FIN.
func send(c *net.TCPConn, b []byte) func() error {
	return func() error {
		if _, err := c.Write(b); err != nil {
			return err
		}
		return c.CloseWrite()
	}
}

// receive reads to the FIN and compares.
func receive(c *net.TCPConn, want []byte) func() error {
	return func() error {
		got, err := io.ReadAll(c)
		if err == nil && !bytes.Equal(got, want) {
			err = errors.New("other bytes arrived than were sent")
		}
		return err
	}
}

// expect fails unless the connection ended with want and carried that many bytes.
func (b *bench) expect(want error, up, down int) {
	b.t.Helper()
	c := b.ended()
	if !errors.Is(c.err, want) {
		b.t.Errorf("the connection ended with %v, want %v", c.err, want)
	}
	if c.conn.BytesUp() != uint64(up) || c.conn.BytesDown() != uint64(down) {
		b.t.Errorf("%d bytes up and %d down, want %d and %d", c.conn.BytesUp(), c.conn.BytesDown(), up, down)
	}
}

func TestBytesArriveAsTheyWereSentInBothDirections(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
		up, down := pattern(1, 1<<20+1), pattern(2, 3<<20+7)
		var g errgroup.Group
		g.Go(send(c, up))
		g.Go(send(s, down))
		g.Go(receive(s, up))
		g.Go(receive(c, down))
		check(t, g.Wait())
		b.expect(nil, len(up), len(down))
	})
}

func TestSingleBytesGoBackAndForth(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
		const rounds = 300
		for i := range rounds {
			for _, hop := range []struct{ from, to *net.TCPConn }{{c, s}, {s, c}} {
				_, err := hop.from.Write([]byte{byte(i)})
				check(t, err)
				var got [2]byte
				n, err := hop.to.Read(got[:])
				check(t, err)
				if n != 1 || got[0] != byte(i) {
					t.Fatalf("round %d: got % x", i, got[:n])
				}
			}
		}
		check(t, c.Close())
		check(t, s.Close())
		b.expect(nil, rounds, rounds)
	})
}

func TestPassesBytesOfAServerThatSpeaksFirst(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
		banner, answer := []byte("220 ready\r\n"), []byte("QUIT\r\n")
		check(t, send(s, banner)())
		check(t, receive(c, banner)())
		check(t, send(c, answer)())
		check(t, receive(s, answer)())
		b.expect(nil, len(answer), len(banner))
	})
}

func TestBytesFlowAgainstAHalfClosedDirection(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
		question, answer := []byte("question"), pattern(3, 1<<20)
		check(t, send(c, question)())
		check(t, receive(s, question)()) // the FIN arrived before an answer was sent
		var g errgroup.Group
		g.Go(send(s, answer))
		g.Go(receive(c, answer))
		check(t, g.Wait())
		b.expect(nil, len(question), len(answer))
	})
}

func TestBothEndsMayCloseAtOnce(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
		var g errgroup.Group
		g.Go(c.CloseWrite)
		g.Go(s.CloseWrite)
		g.Go(receive(c, nil))
		g.Go(receive(s, nil))
		check(t, g.Wait())
		b.expect(nil, 0, 0)
	})
}

func TestServerMayCloseAtOnce(t *testing.T) {
	for _, banner := range []string{"", "bye"} {
		b := newBench(t, benchConfig{mptcp: true})
		l := b.listen("mptcp", "2001:db8:2::2")
		go func() {
			if s, err := l.Accept(); err == nil {
				io.WriteString(s, banner)
				s.Close()
			}
		}()
		c := b.connect("tcp", l)
		check(t, receive(c, []byte(banner))())
		check(t, c.Close())
		b.expect(nil, 0, len(banner))
	}
}

// reset closes a connection without a FIN.
func reset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	check(t, c.SetLinger(0))
	check(t, c.Close())
}

func expectReset(t *testing.T, c *net.TCPConn) {
	t.Helper()
	if _, err := io.ReadAll(c); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("read gives %v, want a connection reset", err)
	}
}

// expectError fails if the connection ended by itself. Which error it is depends
// on when the reset came: of a client that MPTCP accepted after its reset, the
// kernel says that it is not connected.
func (b *bench) expectError() {
	b.t.Helper()
	if err := b.ended().err; err == nil {
		b.t.Error("the reset counts as a FIN")
	}
}

func TestResetOfOneLegResetsTheOther(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
			reset(t, c)
			expectReset(t, s)
			b.expectError()
		})
	})
	t.Run("server", func(t *testing.T) {
		inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
			reset(t, s)
			expectReset(t, c)
			b.expectError()
		})
	})
}

func TestResetInAHalfClosedConnectionIsPassedOn(t *testing.T) {
	inModes(t, func(t *testing.T, b *bench, c, s *net.TCPConn) {
		check(t, c.CloseWrite())
		check(t, receive(s, nil)())
		reset(t, s)
		expectReset(t, c)
		b.expectError()
	})
}

func TestSlowReaderHoldsBackItsSenderAndGetsEveryByte(t *testing.T) {
	for _, m := range modes {
		if m.at != server6 {
			continue // nothing of this depends on the address
		}
		t.Run(m.name, func(t *testing.T) {
			b := newBench(t, benchConfig{mptcp: m.mptcp()})
			for _, h := range []*netlab.Host{b.Client, b.CPE, b.Server} {
				check(t, h.Sysctl("net.ipv4.tcp_rmem", "4096 131072 1048576"))
				check(t, h.Sysctl("net.ipv4.tcp_wmem", "4096 131072 1048576"))
			}
			c, s := b.pair(m.client, m.server, m.at)
			const size = 10 << 20 // more than all buffers on the way
			b.sendSlowly(c, s, pattern(4, size))
			b.sendSlowly(s, c, pattern(5, size))
			b.expect(nil, size, size)
		})
	}
}

// sendSlowly sends with a reader that does not begin before every buffer on the way is full.
func (b *bench) sendSlowly(from, to *net.TCPConn, sent []byte) {
	b.t.Helper()
	var g errgroup.Group
	g.Go(send(from, sent))
	conn := b.last()
	var before uint64
	eventually(b.t, "the sender is never held back", func() bool {
		last := before
		before = conn.BytesUp() + conn.BytesDown()
		return before == last && before > 0
	})
	g.Go(receive(to, sent))
	check(b.t, g.Wait())
}
