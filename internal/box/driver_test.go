//go:build linux

package box

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/handshaketest"
	"github.com/synbond/synbond/internal/packettest"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/nfq/nfqtest"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/relay/relaytest"
	"github.com/synbond/synbond/state"
)

// Interfaces of a box in a test.
const (
	lan uint32 = 1 + iota
	dsl
	elsewhere
)

// bench is a box on doubles: the queue, the relay, the path manager and the
// knowledge of half-open connections are the test's, and so is the clock if the
// test runs within [synctest.Test].
type bench struct {
	t *testing.T
	*Box
	queue *nfqtest.Queue
	relay *relaytest.Relay

	mu      sync.Mutex
	tracked map[uint32]paths.SubflowPolicy // by token
	gone    bool                           // half-open connections
	ended   []netip.AddrPort               // local ends of closed connections that were ended
}

// doubleRelay is a [relaytest.Relay] as a dialer.
type doubleRelay struct{ *relaytest.Relay }

func (r doubleRelay) Dial(d relay.Dial) (connection, error) {
	c, err := r.Relay.Dial(d)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (r doubleRelay) Abort(c connection) { r.Relay.Abort(c.(*relaytest.Conn)) }

func (r doubleRelay) End(c connection, err error) { r.Relay.End(c.(*relaytest.Conn), err) }

func newBench(t *testing.T, cfg Config) *bench {
	t.Helper()
	if cfg.Policy == nil {
		cfg.Policy = new(core.Policy)
	}
	cfg.Table = cfg.Table.WithDefaults()
	cfg.Log = slog.New(slog.DiscardHandler)
	x := &bench{t: t, Box: newBox(cfg), relay: new(relaytest.Relay), tracked: make(map[uint32]paths.SubflowPolicy)}
	x.queue = nfqtest.NewQueue(t, x.handle)
	x.sides = &sides{byIndex: map[uint32]state.Side{lan: state.Plain, dsl: state.Multipath}}
	x.Box.queue, x.Box.relay, x.Box.subflows, x.Box.halfOpen = x.queue, doubleRelay{x.relay}, x, x
	t.Cleanup(x.checkConns)
	return x
}

// checkConns checks that every connection that the box remembers belongs to a live
// flow, or is one of the last that have ended.
func (x *bench) checkConns() {
	x.conns.mu.Lock()
	defer x.conns.mu.Unlock()
	for id, e := range x.conns.byID {
		if !e.over && !x.core.Live(id) {
			x.t.Errorf("the connection of flow %x, which is over, is kept for ever", id)
		}
	}
	if over := len(x.conns.ended) - x.conns.first; over > x.conns.most {
		x.t.Errorf("%d connections are kept that have ended, want at most %d", over, x.conns.most)
	}
}

// Track implements subflows.
func (x *bench) Track(token uint32, terms paths.SubflowPolicy, _ paths.Traffic) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.tracked[token] = terms
}

// SetLarge implements subflows.
func (x *bench) SetLarge(uint32) {}

// Stranded implements subflows.
func (x *bench) Stranded(uint32) {}

// Forget implements subflows.
func (x *bench) Forget(token uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.tracked, token)
}

// AtHAG implements subflows.
func (x *bench) AtHAG(token uint32) bool { return token != elsewhereToken }

// Connected implements halfOpen.
func (x *bench) Connected(netip.AddrPort, netip.AddrPort) (bool, error) { return !x.gone, nil }

// EndClosed implements halfOpen.
func (x *bench) EndClosed(local, _ netip.AddrPort) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = append(x.ended, local)
	return nil
}

// ticking runs the box's clock while f runs.
func (x *bench) ticking(f func()) {
	ctx := x.t.Context()
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(core.ExpireEvery)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
				x.tick()
			}
		}
	}()
	f()
	close(done)
	synctest.Wait()
}

// last returns the newest connection.
func (x *bench) last() *relaytest.Conn {
	x.t.Helper()
	all := x.relay.Conns()
	if len(all) == 0 {
		x.t.Fatal("nothing has been dialed")
	}
	return all[len(all)-1]
}

// id returns the flow of a connection.
func id(c *relaytest.Conn) state.ID { return state.ID(c.ID) }

// want fails the test unless a packet has that verdict.
func (x *bench) want(packet uint32, want nfqtest.Verdict) {
	x.t.Helper()
	got, ok := x.queue.Verdict(packet)
	if !ok || got.Drop != want.Drop || got.Mark != want.Mark || (got.Packet == nil) != (want.Packet == nil) {
		x.t.Errorf("packet %d: verdict %+v, given: %v, want %+v", packet, got, ok, want)
	}
}

// wantState fails the test unless the flow of Client6 is in a state.
func (x *bench) wantState(want state.State) {
	x.t.Helper()
	if f, _ := x.core.Flow(key6); f.State != want {
		x.t.Errorf("the flow is %v because of %q, want it %v", f.State, f.Reason, want)
	}
}

var key6 = state.KeyOf(packettest.Client6, packettest.Server6)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func synOf(t *testing.T, isn uint32) []byte {
	set := func(h *layers.TCP) { h.SYN, h.Seq = true, isn }
	return packettest.Segment(t, packettest.Client6, packettest.Server6, set, packettest.MSS)
}

// doubles is a [handshaketest.Network] of doubles.
type doubles struct{ x *bench }

// outcomes of a dial, by the way in which the server takes it.
var outcomes = map[handshaketest.Server]error{
	handshaketest.Answers: nil, handshaketest.Resets: nil,
	handshaketest.Refuses: unix.ECONNREFUSED, handshaketest.NoRoute: unix.ENETUNREACH,
	handshaketest.NoHost: unix.EHOSTUNREACH, handshaketest.Forbids: unix.EACCES,
}

// seen is the error that a client's kernel makes of the verdict on its SYN.
var seen = map[nfq.Mark]error{
	nfq.ToPlain: nil, nfq.Refused: unix.ECONNREFUSED, nfq.NoRoute: unix.ENETUNREACH,
	nfq.HostUnreachable: unix.EHOSTUNREACH, nfq.Prohibited: unix.EACCES,
}

// Connect implements [handshaketest.Network].
func (d doubles) Connect(t *testing.T, s handshaketest.Server) error {
	x := d.x
	packet := x.queue.Put(lan, synOf(t, 1))
	conn := x.last()
	if conn.Client != packettest.Client6 || conn.Server != packettest.Server6 || !conn.MPTCP || conn.HopLimit != 64 || conn.OwnSource {
		t.Errorf("dial %+v", conn.Dial)
	}
	if outcome, ends := outcomes[s]; ends {
		x.dialEnded(id(conn), conn, outcome)
		if again := x.last(); again != conn { // without MP_CAPABLE
			conn = again
			x.dialEnded(id(conn), conn, outcome)
		}
	} else {
		x.ticking(func() { // the client repeats its SYN
			for _, pause := range []time.Duration{time.Second, 2 * time.Second} {
				time.Sleep(pause)
				x.queue.Put(lan, synOf(t, 1))
			}
			time.Sleep(30 * time.Second)
		})
		return unix.ETIMEDOUT
	}
	v, _ := x.queue.Verdict(packet)
	if v.Mark == nfq.ToPlain {
		x.paired(id(conn), conn.Dial)
		var err error
		if s == handshaketest.Resets {
			err = unix.ECONNRESET
		}
		x.closed(id(conn), err)
	}
	return seen[v.Mark]
}

// Flow implements [handshaketest.Network].
func (d doubles) Flow(*testing.T) (state.State, state.Reason) {
	f, _ := d.x.core.Flow(key6)
	return f.State, f.Reason
}

func TestHandshakesOnDoubles(t *testing.T) {
	for _, h := range handshaketest.All {
		t.Run(h.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { h.Check(t, doubles{newBench(t, Config{})}) })
		})
	}
}

func TestSYNThatCannotBeDialedPasses(t *testing.T) {
	x := newBench(t, Config{})
	x.relay.Err = func(relay.Dial) error { return unix.EMFILE }
	x.want(x.queue.Put(lan, synOf(t, 1)), nfqtest.Verdict{})
	x.wantState(state.Failed)
}

func TestSYNOfTheOtherBoxIsDialedWithoutMPTCP(t *testing.T) {
	x := newBench(t, Config{})
	packet := x.queue.Put(dsl, packettest.SYN(t, packettest.MSS, packettest.Capable))
	conn := x.last()
	if conn.MPTCP {
		t.Errorf("dial %+v", conn.Dial)
	}
	x.dialEnded(id(conn), conn, nil)
	x.want(packet, nfqtest.Verdict{Mark: nfq.ToPaths})
}

func TestRelayedFlowIsTrackedUntilItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, Config{})
		x.steering = &steering{monitor: new(fakePaths)}
		x.queue.Put(lan, synOf(t, 1))
		conn := x.last()
		conn.Tok = 77
		x.dialEnded(id(conn), conn, nil)
		if _, tracked := x.tracked[77]; !tracked {
			t.Error("the leg is not tracked when its SYN is released")
		}
		if !x.paired(id(conn), conn.Dial) {
			t.Error("the flow is not wanted")
		}
		x.wantState(state.Relaying)
		conn.Up, conn.Down = 5, 7
		x.closed(id(conn), nil)
		x.wantState(state.Closed)
		if len(x.tracked) != 0 {
			t.Errorf("still tracked: %v", x.tracked)
		}
		if up, down := x.bytesUp.Load(), x.bytesDown.Load(); up != 5 || down != 7 {
			t.Errorf("%d bytes up, %d down are counted", up, down)
		}
	})
}

func TestDialThatNobodyAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, Config{Table: state.Config{Dial: 5 * time.Second}})
		packet := x.queue.Put(lan, synOf(t, 1))
		repeat := uint32(0)
		x.ticking(func() {
			time.Sleep(time.Second)
			repeat = x.queue.Put(lan, synOf(t, 1))
			x.want(packet, nfqtest.Verdict{Drop: true})
			time.Sleep(5 * time.Second)
		})
		x.want(repeat, nfqtest.Verdict{Drop: true})
		x.wantState(state.TimedOut)
		if conns := x.relay.Conns(); len(conns) != 2 || !conns[0].Aborted() || !conns[1].Aborted() || !conns[1].Plain {
			t.Errorf("%d connections, the first aborted: %v; want a second without MP_CAPABLE, aborted, too", len(conns), conns[0].Aborted())
		}
		conn := x.last() // its outcome comes too late
		x.dialEnded(id(conn), conn, nil)
		x.wantState(state.TimedOut)
	})
}

func TestClientThatResetsItsHandshakeEndsTheFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, Config{})
		x.queue.Put(lan, synOf(t, 1))
		conn := x.last()
		x.dialEnded(id(conn), conn, nil)
		x.gone = true
		x.ticking(func() { time.Sleep(2 * time.Second) })
		x.wantState(state.Abandoned)
		if !conn.Aborted() {
			t.Error("its server still waits")
		}
		if x.paired(id(conn), conn.Dial) {
			t.Error("a client that comes too late is wanted")
		}
	})
}

func TestPortsThatAreUsedAgainWaitForTheOldFlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, Config{})
		x.queue.Put(lan, synOf(t, 1))
		old := x.last()
		x.dialEnded(id(old), old, nil)
		x.paired(id(old), old.Dial)
		old.Gone = true // in the kernel; the relay has not heard of it
		packet := x.queue.Put(lan, synOf(t, 2))
		time.Sleep(20 * time.Millisecond)
		if len(x.queue.Held()) != 1 || x.last() != old {
			t.Fatal("the new SYN does not wait")
		}
		x.closed(id(old), errors.New("reset"))
		time.Sleep(20 * time.Millisecond)
		conn := x.last()
		if conn == old {
			t.Fatal("nothing is dialed for the new SYN")
		}
		x.dialEnded(id(conn), conn, nil)
		x.want(packet, nfqtest.Verdict{Mark: nfq.ToPlain})
	})
}

// What the kernel keeps of a closed connection would take the packets of one that passes.
func TestPortsOfAClosedFlowThatAreUsedAgainByOneThatPasses(t *testing.T) {
	x := newBench(t, Config{})
	x.queue.Put(lan, synOf(t, 1))
	conn := x.last()
	x.dialEnded(id(conn), conn, nil)
	x.paired(id(conn), conn.Dial)
	x.closed(id(conn), nil)
	x.core.SetPolicy(&core.Policy{Default: state.Pass})
	x.want(x.queue.Put(lan, synOf(t, 2)), nfqtest.Verdict{})
	if want := []netip.AddrPort{packettest.Server6, packettest.Client6}; !slices.Equal(x.ended, want) {
		t.Errorf("ended are the connections from %v, want %v", x.ended, want)
	}
	x.want(x.queue.Put(lan, synOf(t, 3)), nfqtest.Verdict{})
	if len(x.ended) != 2 {
		t.Errorf("after a flow that has passed: %v", x.ended)
	}
}

func TestBusyAddressIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		busy time.Duration
		want nfqtest.Verdict
	}{
		{"for a moment", 50 * time.Millisecond, nfqtest.Verdict{Mark: nfq.ToPlain}},
		{"for good", time.Hour, nfqtest.Verdict{Drop: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newBench(t, Config{})
				begun := time.Now()
				x.relay.Err = func(relay.Dial) error {
					if time.Since(begun) < c.busy {
						return unix.EADDRNOTAVAIL
					}
					return nil
				}
				packet := x.queue.Put(lan, synOf(t, 1))
				time.Sleep(2 * time.Second)
				for _, conn := range x.relay.Conns() {
					x.dialEnded(id(conn), conn, nil)
				}
				x.want(packet, c.want)
			})
		})
	}
}

func TestPathThatFallsUnderADial(t *testing.T) {
	lte := core.Source{Path: 1, Addr: netip.MustParseAddr("2001:db8:7::7"), Interface: "lte"}
	for _, c := range []struct {
		name   string
		policy core.DialPolicy
		again  bool
	}{
		{"the SYN passes", core.DialPolicy{Mode: core.NoBox, Reason: state.FirstPathDown, Down: 1}, false},
		{"it is dialed from another path", core.DialPolicy{Mode: core.OwnSource, Reason: state.FirstPathDown, Sources: [2]core.Source{lte}, Down: 1}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newBench(t, Config{})
				packet := x.queue.Put(lan, synOf(t, 1))
				first := x.last()
				x.do(func(acts []core.Action) []core.Action { return x.core.SetDialPolicy(acts, x.now(), c.policy) })
				if !first.Aborted() {
					t.Error("the dial goes on")
				}
				x.dialEnded(id(first), first, nil) // was on its way
				if !c.again {
					x.want(packet, nfqtest.Verdict{})
					return
				}
				second := x.last()
				if second == first || !second.OwnSource || second.From != lte.Addr || second.Interface != "lte" {
					t.Fatalf("dial %+v", second.Dial)
				}
				x.dialEnded(id(second), second, nil)
				x.want(packet, nfqtest.Verdict{Mark: nfq.ToPlain})
			})
		})
	}
}

func TestNeighbourThatFailsEndsDialsByIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, Config{})
		packet := x.queue.Put(lan, synOf(t, 1))
		x.neighbourFailed(func(core.Dial) bool { return false })
		if len(x.queue.Held()) != 1 {
			t.Error("a neighbour of others ends the dial")
		}
		x.neighbourFailed(func(d core.Dial) bool { return d.Server == packettest.Server6 })
		x.want(packet, nfqtest.Verdict{Mark: nfq.HostUnreachable})
		if !x.last().Aborted() {
			t.Error("the dial goes on")
		}
	})
}

// hastyRelay is a double whose dials end before Dial returns.
type hastyRelay struct {
	doubleRelay
	ended func(*relaytest.Conn)
}

func (r hastyRelay) Dial(d relay.Dial) (connection, error) {
	c, err := r.Relay.Dial(d)
	r.ended(c)
	return c, err
}

func TestConnectionOfAFailedDialIsForgotten(t *testing.T) {
	for _, hasty := range []bool{false, true} {
		x := newBench(t, Config{})
		refuse := func(c *relaytest.Conn) { x.dialEnded(id(c), c, unix.ECONNREFUSED) }
		if hasty {
			x.Box.relay = hastyRelay{doubleRelay{x.relay}, refuse}
		}
		packet := x.queue.Put(lan, synOf(t, 1))
		if !hasty {
			refuse(x.last()) // with MP_CAPABLE
			refuse(x.last()) // and without
		}
		x.want(packet, nfqtest.Verdict{Mark: nfq.Refused})
		x.checkConns()
	}
}

func TestPacketsOfOtherInterfacesPass(t *testing.T) {
	x := newBench(t, Config{})
	x.want(x.queue.Put(1<<30, synOf(t, 1)), nfqtest.Verdict{})
	if n := x.core.Totals().Reasons[state.UnknownInterface]; n != 1 {
		t.Errorf("counted %d times", n)
	}
}

// TestRacesOfAHandshake lets every end of a handshake come at the same time as every
// other, again and again: each packet gets one verdict, and no dial goes on for a
// flow that is over.
func TestRacesOfAHandshake(t *testing.T) {
	x := newBench(t, Config{Table: state.Config{Dial: time.Nanosecond, HalfOpen: time.Nanosecond}})
	x.steering = &steering{monitor: new(fakePaths)}
	down := core.DialPolicy{Mode: core.NoBox, Reason: state.FirstPathDown, Down: 1}
	for n := range 300 {
		x.core.SetDialPolicy(nil, x.now(), core.DialPolicy{})
		known := len(x.relay.Conns())
		x.queue.Put(lan, synOf(t, uint32(n)))
		if len(x.relay.Conns()) == known {
			continue // the SYN waits for the end of the last flow
		}
		conn := x.last()
		conn.Tok = uint32(n + 1)
		var all sync.WaitGroup
		for _, event := range []func(){
			func() {
				if n%4 == 0 {
					x.dialEnded(id(conn), conn, unix.ECONNREFUSED)
					return
				}
				x.dialEnded(id(conn), conn, nil)
				x.paired(id(conn), conn.Dial)
			},
			func() { x.tick() },
			func() {
				x.do(func(acts []core.Action) []core.Action { return x.core.SetDialPolicy(acts, x.now(), down) })
			},
			func() { x.neighbourFailed(func(core.Dial) bool { return true }) },
			func() { x.queue.Put(lan, synOf(t, uint32(n))) },
		} {
			all.Go(event)
		}
		all.Wait()
		x.closed(id(conn), nil)
		for _, p := range x.core.Pending() {
			x.do(func(acts []core.Action) []core.Action {
				return x.core.DialEnded(acts, x.now(), p.Flow, core.Dialed{Err: unix.ECONNREFUSED})
			})
		}
	}
	for end := time.Now().Add(10 * time.Second); len(x.queue.Held()) > 0 && time.Now().Before(end); {
		for _, p := range x.core.Pending() {
			x.do(func(acts []core.Action) []core.Action {
				return x.core.DialEnded(acts, x.now(), p.Flow, core.Dialed{Err: unix.ECONNREFUSED})
			})
		}
		x.tick()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.tracked) != 0 {
		t.Errorf("%d connections are tracked after their end", len(x.tracked))
	}
	for _, conn := range x.relay.Conns() {
		if x.core.Live(id(conn)) {
			t.Errorf("flow %x is live after its end", conn.ID)
		}
	}
}
