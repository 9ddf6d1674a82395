//go:build linux

package relay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/relay"
)

// line is a preface of one line, the address of the server, which is answered by "ok".
type line struct {
	got  []byte
	rest []byte
	err  error
}

const lineRoom = 64

var (
	errTooLong = errors.New("the line is too long")
	errCutOff  = errors.New("the line has no end")
	errSlow    = errors.New("the line is slow")
	errNo      = errors.New("the answer is no")
)

func (p *line) Room() int { return lineRoom - len(p.got) }

func (p *line) Receive(out, b []byte) ([]byte, relay.Want) {
	p.got = append(p.got, b...)
	i := bytes.IndexByte(p.got, '\n')
	switch {
	case i >= 0:
		p.rest = p.got[i+1:]
		p.got = p.got[:i]
		return out, relay.WantAnswer
	case len(p.got) == lineRoom:
		return p.fail(out, errTooLong)
	}
	return out, relay.WantBytes
}

func (p *line) Closed(out []byte) ([]byte, relay.Want)   { return p.fail(out, errCutOff) }
func (p *line) TimedOut(out []byte) ([]byte, relay.Want) { return p.fail(out, errSlow) }
func (p *line) Rest() []byte                             { return p.rest }
func (p *line) Err() error                               { return p.err }

func (p *line) fail(out []byte, err error) ([]byte, relay.Want) {
	p.err = err
	return append(out, "no\n"...), relay.WantClose
}

// explicit is the least box for clients that ask: it dials what they name.
type explicit struct {
	*netlab.Host
	t     *testing.T
	relay *relay.Relay
	at    netip.AddrPort
	left  chan error
	// account is that of clients to come.
	account atomic.Pointer[relay.Account]
	paired  atomic.Int32

	mu   sync.Mutex
	asks map[relay.ID]*relay.Client
}

func newExplicit(t *testing.T, cfg relay.Explicit) *explicit {
	t.Helper()
	netlabtest.Require(t)
	leftOver(t)
	x := &explicit{Host: netlabtest.NewHost(t, "box"), t: t, left: make(chan error, 100), asks: make(map[relay.ID]*relay.Client)}
	cfg.Listen = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1080"), netip.MustParseAddrPort("[::1]:1080")}
	cfg.Events = x
	cfg.Preface = func(c *relay.Client) relay.Preface {
		p := new(line)
		c.Caller = p
		return p
	}
	check(t, x.Do(func() (err error) {
		x.relay, err = relay.New(relay.Config{OwnAddresses: true, Loops: 2, Events: x, Explicit: &cfg})
		return err
	}))
	x.at = cfg.Listen[0]
	ctx, cancel := context.WithCancel(context.Background())
	run := make(chan error, 1)
	go func() { run <- x.relay.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		check(t, <-run)
		if waiting, slots := x.relay.Left(); waiting != 0 || slots != 0 {
			t.Errorf("%d connections and %d slots are left", waiting, slots)
		}
		check(t, x.relay.Close())
	})
	return x
}

func (x *explicit) Asks(c *relay.Client) {
	to, err := netip.ParseAddrPort(string(c.Caller.(*line).got))
	if err != nil {
		c.Answer(func(out []byte) ([]byte, relay.Want) { return c.Caller.(*line).fail(out, errNo) })
		return
	}
	x.mu.Lock()
	id := relay.ID(len(x.asks) + 1)
	x.asks[id] = c
	x.mu.Unlock()
	go func() {
		check(x.t, x.Do(func() error {
			_, err := x.relay.Dial(relay.Dial{ID: id, Client: c.Addr, Server: to, OwnSource: true, Explicit: true})
			return err
		}))
	}()
}

func (x *explicit) Left(_ *relay.Client, err error) { x.left <- err }

func (x *explicit) Connected(c *relay.Conn, err error) {
	x.mu.Lock()
	client := x.asks[c.ID]
	x.mu.Unlock()
	if err != nil {
		client.Answer(func(out []byte) ([]byte, relay.Want) { return client.Caller.(*line).fail(out, err) })
		return
	}
	x.relay.Welcome(client, c, x.account.Load(), func(out []byte) ([]byte, relay.Want) { return append(out, "ok\n"...), relay.WantStream })
}

func (x *explicit) Reached(*relay.Conn)       {}
func (x *explicit) Paired(*relay.Conn) bool   { x.paired.Add(1); return true }
func (x *explicit) Carried(*relay.Conn)       {}
func (x *explicit) Closed(*relay.Conn, error) {}

// connect connects a client and sends something.
func (x *explicit) connect(network, text string) net.Conn {
	x.t.Helper()
	c, err := x.Dial(x.t.Context(), network, "", x.at.String())
	check(x.t, err)
	x.t.Cleanup(func() { c.Close() })
	check(x.t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, err = io.WriteString(c, text)
	check(x.t, err)
	return c
}

// server answers each connection with what it gets, in capitals.
func (x *explicit) server() string {
	l, err := x.Listen("tcp", "127.0.0.1:0")
	check(x.t, err)
	x.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b, _ := io.ReadAll(c)
				c.Write(bytes.ToUpper(b)) //nolint:errcheck // the client sees it
				c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func (x *explicit) expectLeft(want error) {
	x.t.Helper()
	select {
	case err := <-x.left:
		if !errors.Is(err, want) {
			x.t.Errorf("the client has left: %v, want %v", err, want)
		}
	case <-time.After(20 * time.Second):
		x.t.Fatal("no client leaves")
	}
}

func TestClientGetsWhatItAsksFor(t *testing.T) {
	x := newExplicit(t, relay.Explicit{Timeout: 20 * time.Second, Most: 100})
	server := x.server()
	for _, network := range []string{"tcp", "mptcp"} {
		for _, cut := range []int{0, 5, len(server), len(server) + 1, len(server) + 10} {
			text := server + "\nfirst bytes, and "
			c := x.connect(network, text[:cut])
			time.Sleep(time.Millisecond)
			_, err := io.WriteString(c, text[cut:]+strings.Repeat("more ", 1<<16))
			check(t, err)
			check(t, c.(*net.TCPConn).CloseWrite())
			got, err := io.ReadAll(c)
			want := "ok\nFIRST BYTES, AND " + strings.Repeat("MORE ", 1<<16)
			if err != nil || string(got) != want {
				t.Errorf("%s, cut at %d: %d bytes, error %v", network, cut, len(got), err)
			}
		}
	}
}

func TestClientLearnsWhyNot(t *testing.T) {
	x := newExplicit(t, relay.Explicit{Timeout: 20 * time.Second, Most: 100})
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"nobody listens", "127.0.0.1:1\n", unix.ECONNREFUSED},
		{"no answer that is right", "nonsense\nwith data behind it" + strings.Repeat("x", 1<<18), errNo},
		{"too long", strings.Repeat("x", 1<<10), errTooLong},
		{"cut off", "127.0.0.1", errCutOff},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := x.connect("tcp", c.text)
			check(t, conn.(*net.TCPConn).CloseWrite())
			if got, err := io.ReadAll(conn); string(got) != "no\n" || err != nil {
				t.Errorf("%q, error %v", got, err)
			}
			x.expectLeft(c.want)
		})
	}
}

func TestSlowClientLeaves(t *testing.T) {
	x := newExplicit(t, relay.Explicit{Timeout: 50 * time.Millisecond, Most: 100})
	c := x.connect("tcp", "127")
	if got, err := io.ReadAll(c); string(got) != "no\n" || err != nil {
		t.Errorf("%q, error %v", got, err)
	}
	x.expectLeft(errSlow)
}

func TestLaterClientTakesThePlaceOfTheOldest(t *testing.T) {
	x := newExplicit(t, relay.Explicit{Timeout: 20 * time.Second, Most: 4})
	server := x.server()
	for range 20 { // loops may refuse some, where the other loop has all that wait
		x.connect("tcp", "127")
	}
	x.expectLeft(relay.ErrCrowded)
	eventually(t, "no client is served", func() bool {
		c := x.connect("tcp", server+"\n")
		c.(*net.TCPConn).CloseWrite() //nolint:errcheck // may be refused
		got, _ := io.ReadAll(c)
		return string(got) == "ok\n"
	})
}

func TestClientThatResetsLeaves(t *testing.T) {
	x := newExplicit(t, relay.Explicit{Timeout: 20 * time.Second, Most: 100})
	c := x.connect("tcp", "127")
	check(t, c.(*net.TCPConn).SetLinger(0))
	check(t, c.Close())
	x.expectLeft(unix.ECONNRESET)
}

// A connection whose account has a rate of next to nothing stands still after its first turn,
// others do not, and it goes on once there is no rate.
func TestRateOfAnAccountHoldsConnectionsBack(t *testing.T) {
	x := newExplicit(t, relay.Explicit{Timeout: 20 * time.Second, Most: 100})
	server := x.server()
	const size = 1 << 19
	for _, network := range []string{"tcp", "mptcp"} {
		slow, pairs := new(relay.Account), x.paired.Load()
		slow.SetRate(1)
		x.account.Store(slow)
		first, second := x.connect(network, server+"\n"), x.connect(network, server+"\n")
		for _, c := range []net.Conn{first, second} {
			go func() {
				io.Copy(c, strings.NewReader(strings.Repeat("x", size))) //nolint:errcheck // the reader sees it
				c.(*net.TCPConn).CloseWrite()                            //nolint:errcheck // likewise
			}()
		}
		eventually(t, "bytes are carried", func() bool { return slow.Up.Moved() > 0 })
		eventually(t, "both are there", func() bool { return x.paired.Load() == pairs+2 })
		x.account.Store(nil)
		other := x.connect(network, server+"\n"+strings.Repeat("x", size))
		check(t, other.(*net.TCPConn).CloseWrite())
		if got, err := io.ReadAll(other); err != nil || len(got) != 3+size {
			t.Errorf("%s: %d bytes of another connection, error %v", network, len(got), err)
		}
		if n := slow.Up.Moved(); n > 4<<10 { // the first turns of two streams
			t.Errorf("%s: %d bytes have moved", network, n)
		}
		slow.SetRate(0)
		for _, c := range []net.Conn{first, second} {
			if got, err := io.ReadAll(c); err != nil || len(got) != 3+size {
				t.Errorf("%s: %d bytes, error %v", network, len(got), err)
			}
		}
		if up, down := slow.Up.Moved(), slow.Down.Moved(); up != 2*size || down != 2*size {
			t.Errorf("%s: counted %d up, %d down", network, up, down)
		}
	}
}
