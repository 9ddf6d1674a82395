//go:build linux

package probe

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
)

// fakeMachine is a [Machine] with two interfaces that tests change.
type fakeMachine struct {
	mu       sync.Mutex
	links    map[string]paths.Link
	sources  map[string]paths.Source // by interface
	changed  chan struct{}
	counters map[int]paths.LinkCounters
	busy     bool            // packets are sent and received all the time
	silent   map[string]bool // none are received
}

func (m *fakeMachine) Link(name string) paths.Link {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.links[name]
}

// Source returns the first usable address, unless the test has set another.
func (m *fakeMachine) Source(dst netip.Addr, index int) paths.Source {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, l := range m.links {
		if s, set := m.sources[name]; l.Index == index && set {
			return s
		} else if l.Index == index {
			return paths.Source{Addr: l.Addr(dst.Is4())}
		}
	}
	return paths.Source{}
}

func (m *fakeMachine) Counters(index int) (paths.LinkCounters, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.counters[index]
	if m.busy {
		c.SentPackets += 10
		for name, l := range m.links {
			if l.Index == index && !m.silent[name] {
				c.ReceivedPackets += 10
			}
		}
	}
	m.counters[index] = c
	return c, nil
}

func (m *fakeMachine) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.changed
}

// change changes the interface of a path.
func (m *fakeMachine) change(name string, change func(*paths.Link)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.links[name]
	change(&l)
	m.links[name] = l
	close(m.changed)
	m.changed = make(chan struct{})
}

// fakeNetwork carries datagrams between a monitor and a responder, in the time of the
// test.
type fakeNetwork struct {
	mu        sync.Mutex
	delay     time.Duration // one way
	silent    map[string]bool
	filtered  map[string]bool // it loses UDP
	largest   map[string]int  // packets that a path carries, IP header included; 0: all
	noItems   bool            // the responder's box knows none
	responder *Responder      // nil: port unreachable
}

// fakePort is the source port of all datagrams through a fakeNetwork.
const fakePort = 7101

// fakeConn is a [Conn] through a fakeNetwork.
type fakeConn struct {
	network *fakeNetwork
	ifname  string
	local   netip.Addr
	in      chan []byte // nil for a port unreachable
	closed  chan struct{}
	once    sync.Once
}

func (n *fakeNetwork) dial(ifname string, local netip.Addr, _ netip.AddrPort) (Conn, error) {
	return &fakeConn{network: n, ifname: ifname, local: local, in: make(chan []byte, 100), closed: make(chan struct{})}, nil
}

func (c *fakeConn) Read(b []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	case datagram := <-c.in:
		if datagram == nil {
			return 0, unix.ECONNREFUSED
		}
		return copy(b, datagram), nil
	}
}

// Write sends a datagram on its way. It arrives after the delay, and so does the
// reply, unless the path is silent at either time.
func (c *fakeConn) Write(b []byte) (int, error) {
	n := c.network
	probe := append([]byte(nil), b...)
	time.AfterFunc(n.delay, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.silent[c.ifname] || n.filtered[c.ifname] || n.largest[c.ifname] > 0 && len(b)+headers(c.local) > n.largest[c.ifname] {
			return
		}
		if n.noItems {
			probe = withoutItems(probe)
		}
		var reply []byte
		if n.responder != nil {
			if reply = n.responder.newReplier().reply(nil, probe, netip.AddrPortFrom(c.local, fakePort), time.Now()); len(reply) == 0 {
				return
			}
		}
		time.AfterFunc(n.delay, func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			if !n.silent[c.ifname] {
				c.in <- reply
			}
		})
	})
	return len(b), nil
}

// Knock implements [Conn].
func (c *fakeConn) Knock(ctx context.Context) bool {
	works := func() bool {
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		return !c.network.silent[c.ifname]
	}
	if works() {
		time.Sleep(2 * c.network.delay)
		if works() {
			return true
		}
	}
	<-ctx.Done()
	return false
}

// withoutItems returns a probe as a box sees it that knows no items: nothing if it has some.
func withoutItems(probe []byte) []byte {
	m, err := newCodec("").parse(probe)
	if err != nil || len(probe) != messageSize {
		return nil
	}
	m.instance = 0 // a field that it does not look at
	return newCodec("").append(nil, m)
}

func (c *fakeConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// setResponder replaces the HAG's responder; nil stops it.
func (n *fakeNetwork) setResponder(r *Responder) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.responder = r
}

// rig is a monitor of two paths and a responder, on doubles of machine and network.
type rig struct {
	*Monitor
	t       *testing.T
	machine *fakeMachine
	network *fakeNetwork
	changes chan struct{} // has room for one
}

// Addresses of the CPE in a rig.
var rigAddrs = map[string]netip.Addr{"dsl": dslA, "lte": lteA}

// inRig runs a test on a rig, in a time of its own.
func inRig(t *testing.T, cfg paths.ProbeConfig, test func(*rig)) {
	synctest.Test(t, func(t *testing.T) {
		x := &rig{
			t: t,
			machine: &fakeMachine{
				links: make(map[string]paths.Link), changed: make(chan struct{}), counters: make(map[int]paths.LinkCounters),
				busy: true, silent: make(map[string]bool),
			},
			network: &fakeNetwork{delay: 20 * time.Millisecond, silent: make(map[string]bool), filtered: make(map[string]bool), largest: make(map[string]int)},
			changes: make(chan struct{}, 1),
		}
		var all []paths.Path
		for i, name := range []string{"dsl", "lte"} {
			a := rigAddrs[name]
			x.machine.links[name] = paths.Link{Index: i + 2, Enabled: true, Carrier: true, Addrs: []netip.Addr{a}, Usable: []netip.Addr{a}}
			all = append(all, paths.Path{Name: name, Interface: name, Join: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8:f::1]:7100")}})
		}
		var err error
		x.Monitor, err = NewMonitor(x.machine, x.network.dial, all, cfg, slog.New(slog.DiscardHandler))
		check(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- x.Run(ctx, func() {
				select {
				case x.changes <- struct{}{}:
				default:
				}
			})
		}()
		test(x)
		cancel()
		check(t, <-done)
	})
}

// respond starts a new responder, without a socket, until the returned function is
// called.
func (x *rig) respond(secret string, end EndSubflows) (r *Responder, stop func()) {
	r = newResponder(secret, end, slog.New(slog.DiscardHandler))
	x.network.setResponder(r)
	ctx, cancel := context.WithCancel(x.t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.endFailed(ctx) }()
	return r, func() { x.network.setResponder(nil); cancel(); <-done }
}

// setSilent makes a path lose all packets, or none.
func (x *rig) setSilent(ifname string, silent bool) {
	x.network.mu.Lock()
	defer x.network.mu.Unlock()
	x.machine.mu.Lock()
	defer x.machine.mu.Unlock()
	x.network.silent[ifname], x.machine.silent[ifname] = silent, silent
}

// await waits until ok, and returns the time that it took.
func (x *rig) await(what string, ok func() bool) (took time.Duration) {
	x.t.Helper()
	begun := time.Now()
	for !ok() {
		select {
		case <-x.changes:
		case <-time.After(time.Minute):
			x.t.Fatalf("%s: not after a minute: %+v, %+v", what, x.Statuses(), x.HAG())
		}
	}
	return time.Since(begun)
}

// within checks a duration.
func (x *rig) within(what string, got, low, high time.Duration) {
	x.t.Helper()
	if got < low || got > high {
		x.t.Errorf("%s took %v, want %v to %v", what, got, low, high)
	}
}

// bothProbed reports whether both paths are up and the HAG has answered over them.
func (x *rig) bothProbed() bool {
	s := x.Statuses()
	return s[0].Up && s[0].Probed && s[1].Up && s[1].Probed
}
