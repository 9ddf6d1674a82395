//go:build linux

package relay_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/rewrite"
)

// The words that tests of several packages share.
var (
	check      = netlabtest.Check
	eventually = netlabtest.Eventually
	leftOver   = netlabtest.LeavesNothing
)

func TestMain(m *testing.M) { netlabtest.Main(m) }

// bench is a network in whose CPE a relay works, with the least box that can
// feed it:
//
//	client ── lan [relay] dsl ── line ── HAG (a router) ── server
type bench struct {
	*netlab.Network
	t     *testing.T
	relay *relay.Relay
	queue *nfq.Queue
	cfg   benchConfig
	stop  func() error // ends the relay's Run and returns its error, once

	mu      sync.Mutex
	flows   map[*relay.Conn]stage
	early   map[flow]uint32 // held SYNs
	dials   chan *relay.Conn
	paired  chan *relay.Conn
	closed  chan closing
	strange []string // events that came out of order
}

// flow is a connection as its SYN names it.
type flow struct{ client, server netip.AddrPort }

// stage is the last event of a connection.
type stage uint8

const (
	begun stage = iota
	connected
	paired
	closed
)

// closing is a Closed event.
type closing struct {
	conn *relay.Conn
	err  error
}

type benchConfig struct {
	mptcp     bool // dial onward with MPTCP
	ownSource bool
	// from returns the source address and interface of the dial, with ownSource; nil leaves both to the kernel.
	from  func(*netlab.Network) (netip.Addr, string)
	loops int           // default: 2
	delay time.Duration // of the line, one way
	// connected takes the place of the verdict after a dial, if it is set.
	connected func(b *bench, c *relay.Conn, id uint32, err error)
	paired    func() // during a Paired event
}

func newBench(t *testing.T, cfg benchConfig) *bench {
	t.Helper()
	netlabtest.Require(t)
	leftOver(t)
	n, err := netlab.Build(netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Delay: cfg.delay}, {Name: "lte"}}})
	check(t, err)
	t.Cleanup(func() { check(t, n.Close()) })
	b := &bench{
		Network: n, t: t, cfg: cfg,
		flows: make(map[*relay.Conn]stage), early: make(map[flow]uint32),
		dials: make(chan *relay.Conn, 1<<14), paired: make(chan *relay.Conn, 1<<14), closed: make(chan closing, 1<<14),
	}
	check(t, n.CPE.Do(b.open))
	ctx, cancel := context.WithCancel(context.Background())
	run := make(chan error, 1)
	go func() { run <- b.relay.Run(ctx) }()
	b.stop = sync.OnceValue(func() error { cancel(); return <-run })
	t.Cleanup(b.close)
	check(t, b.queue.Start(ctx, b.syn))
	// What is dialed with MPTCP comes from the plain side.
	sides := [][]string{{netlab.CPELanInterface}, {"dsl"}}
	if !cfg.mptcp {
		slices.Reverse(sides)
	}
	check(t, n.CPE.Do(nfq.Rules{
		Role: "relay", Plain: sides[0], Paths: sides[1],
		Listeners: nfq.Listeners{Plain: b.relay.Listeners(false), Paths: b.relay.Listeners(true)},
	}.Install))
	return b
}

// plainBuffer is the initial receive buffer of TCP legs: not what any kernel has.
const plainBuffer = 150_000

// forcesBuffers reports whether sockets of a host may have larger buffers than
// the sysctls allow: root of a user namespace may not.
func forcesBuffers(t *testing.T, h *netlab.Host) (yes bool) {
	t.Helper()
	check(t, h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		yes = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20) == nil
		return nil
	}))
	return yes
}

// open makes what belongs to the namespace of the CPE.
func (b *bench) open() (err error) {
	for _, family := range []int{unix.AF_INET6, unix.AF_INET} {
		if err := (nfq.Routes{Family: family, Interfaces: []string{netlab.CPELanInterface, "dsl"}}).Install(); err != nil {
			return err
		}
	}
	if b.queue, err = nfq.Open(nfq.QueueConfig{MaxLength: 1 << 16}); err != nil {
		return err
	}
	b.relay, err = relay.New(relay.Config{
		PlainMark: uint32(nfq.PlainSocket), PathMark: uint32(nfq.PathSocket), PlainReceiveBuffer: plainBuffer,
		Loops: cmp.Or(b.cfg.loops, 2), Events: b,
	}, unix.AF_INET6, unix.AF_INET)
	return err
}

func (b *bench) close() {
	if err := b.stop(); err != nil {
		b.t.Error(err)
	}
	if err := b.queue.Close(); err != nil {
		b.t.Error(err)
	}
	if waiting, slots := b.relay.Left(); waiting != 0 || slots != 0 {
		b.t.Errorf("%d connections and %d slots are left", waiting, slots)
	}
	if err := b.relay.Close(); err != nil {
		b.t.Error(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.strange {
		b.t.Error(s)
	}
}

// syn is the box: it holds a SYN and dials onward.
func (b *bench) syn(p nfq.Packet) {
	var seg rewrite.Segment
	if err := seg.Parse(p.Payload); err != nil || p.IIF == 0 {
		b.verdict(b.queue.Accept(p.ID))
		return
	}
	key := flow{seg.Src, seg.Dst}
	b.mu.Lock()
	id, repeat := b.early[key]
	b.early[key] = p.ID
	b.mu.Unlock()
	if repeat {
		b.verdict(b.queue.Drop(id))
		return
	}
	conn, err := b.dial(key)
	if err != nil {
		b.outcome(nil, key, err)
		return
	}
	b.dials <- conn
}

func (b *bench) dial(key flow) (conn *relay.Conn, err error) {
	d := relay.Dial{Client: key.client, Server: key.server, MPTCP: b.cfg.mptcp, OwnSource: b.cfg.ownSource}
	if b.cfg.from != nil {
		d.From, d.Interface = b.cfg.from(b.Network)
	}
	err = b.CPE.Do(func() error {
		conn, err = b.relay.Dial(d)
		return err
	})
	return conn, err
}

// outcome gives the held SYN its verdict.
func (b *bench) outcome(c *relay.Conn, key flow, err error) {
	b.mu.Lock()
	id, held := b.early[key]
	delete(b.early, key)
	b.mu.Unlock()
	switch {
	case b.cfg.connected != nil:
		b.cfg.connected(b, c, id, err)
	case !held:
	case err == nil:
		b.verdict(b.queue.Release(id, b.delivery()))
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET):
		b.verdict(b.queue.Release(id, nfq.Refused))
	default:
		b.verdict(b.queue.Release(id, nfq.NoRoute))
	}
}

// delivery returns the mark that delivers the client's SYN to its listener.
func (b *bench) delivery() nfq.Mark {
	if b.cfg.mptcp {
		return nfq.ToPlain
	}
	return nfq.ToPaths
}

func (b *bench) verdict(err error) {
	if err != nil {
		b.t.Errorf("verdict: %v", err)
	}
}

// enter notes an event, and whether it was due.
func (b *bench) enter(c *relay.Conn, from, to stage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.flows[c] != from {
		b.strange = append(b.strange, "event "+strconv.Itoa(int(to))+" after "+strconv.Itoa(int(b.flows[c])))
	}
	b.flows[c] = to
}

func (b *bench) Reached(*relay.Conn) {}

func (b *bench) Connected(c *relay.Conn, err error) {
	next := connected
	if err != nil {
		next = closed
	}
	b.enter(c, begun, next)
	b.outcome(c, flow{c.Client, c.Server}, err)
}

func (b *bench) Paired(c *relay.Conn) bool {
	b.enter(c, connected, paired)
	if b.cfg.paired != nil {
		b.cfg.paired()
	}
	b.paired <- c
	return true
}

func (b *bench) Carried(c *relay.Conn) { b.enter(c, paired, paired) }

func (b *bench) Closed(c *relay.Conn, err error) {
	b.enter(c, paired, closed)
	b.closed <- closing{c, err}
}

// ended waits for the next connection to close and returns why it did.
func (b *bench) ended() closing {
	b.t.Helper()
	select {
	case c := <-b.closed:
		return c
	case <-time.After(20 * time.Second):
		b.t.Fatal("no connection closes")
		panic("unreachable")
	}
}

// pair connects a client and a server through the relay.
func (b *bench) pair(client, server, at string) (c, s *net.TCPConn) {
	b.t.Helper()
	l := b.listen(server, at)
	defer l.Close()
	c = b.connect(client, l)
	s, err := l.(*net.TCPListener).AcceptTCP()
	check(b.t, err)
	b.t.Cleanup(func() { s.Close() })
	limit(c, s)
	return c, s
}

// listen opens a server's port on one address.
func (b *bench) listen(network, at string) net.Listener {
	b.t.Helper()
	l, err := b.Server.Listen(network, net.JoinHostPort(at, "0"))
	check(b.t, err)
	b.t.Cleanup(func() { l.Close() })
	return l
}

func (b *bench) connect(network string, l net.Listener) *net.TCPConn {
	b.t.Helper()
	c, err := b.try(network, l.Addr().String())
	check(b.t, err)
	b.t.Cleanup(func() { c.Close() })
	limit(c.(*net.TCPConn))
	return c.(*net.TCPConn)
}

func (b *bench) try(network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
	defer cancel()
	return b.Client.Dial(ctx, network, "", addr)
}

// limit keeps a test that has failed from hanging.
func limit(conns ...*net.TCPConn) {
	for _, c := range conns {
		c.SetDeadline(time.Now().Add(30 * time.Second))
	}
}

// last returns the connection that is paired, connectedOne the one that waits for its client.
func (b *bench) last() *relay.Conn         { b.t.Helper(); return b.in(paired) }
func (b *bench) connectedOne() *relay.Conn { b.t.Helper(); return b.in(connected) }

func (b *bench) in(want stage) (found *relay.Conn) {
	b.t.Helper()
	eventually(b.t, "there is no such connection", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		for c, s := range b.flows {
			if s == want {
				found = c
			}
		}
		return found != nil
	})
	if found == nil {
		b.t.FailNow()
	}
	return found
}
