package paths

import (
	"cmp"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
)

// fakeKernel is a planner with a double of the kernel's path manager, in a time of
// its own. The same expectations hold for the kernel: see package mptcp's tests.
type fakeKernel struct {
	*Planner
	t        *testing.T
	machine  *fakeMachine
	now      time.Duration
	sent     []Request // all that the planner has requested
	open     map[uint32][]SubflowEvent
	notReady int                     // requests that fail with ENOTCONN from now on
	refuses  map[int]bool            // paths on which joins are refused
	ignores  map[int]bool            // paths on which nothing comes back
	strips   map[int]bool            // paths on which subflows are reset after their handshake
	bad      func(token uint32) bool // connections whose joins are refused
	errno    syscall.Errno           // of joins that are refused; 0 is ECONNREFUSED
	muted    bool                    // events are lost
}

// Ends of the double's connections and paths.
var (
	serverEnd = netip.MustParseAddrPort("[2001:db8:ff::1]:443")
	clientEnd = netip.MustParseAddrPort("[2001:db8:1::2]:4000")
	joinDSL   = netip.MustParseAddrPort("[2001:db8:fe::1]:7100")
	joinLTE   = netip.MustParseAddrPort("[2001:db8:fe::2]:7100")
	joinLTE4  = netip.MustParseAddrPort("203.0.113.2:7100")

	encapsulatedEnd = netip.MustParseAddrPort("240.91.255.2:9000")
)

func newFakeKernel(t *testing.T) *fakeKernel {
	t.Helper()
	m := twoPaths()
	set := NewSet(m, []Path{
		{Name: "dsl", Interface: "dsl", Join: []netip.AddrPort{joinDSL}},
		{Name: "mobile", Interface: "lte", Join: []netip.AddrPort{joinLTE, joinLTE4}},
	})
	return &fakeKernel{
		Planner: NewPlanner(set, slog.New(slog.DiscardHandler)), t: t, machine: m, now: time.Second,
		open: make(map[uint32][]SubflowEvent), refuses: make(map[int]bool), ignores: make(map[int]bool),
		strips: make(map[int]bool), bad: func(uint32) bool { return false },
	}
}

// establish makes a connection over the first path whose server takes no joins.
func (k *fakeKernel) establish(token uint32) {
	ev := SubflowEvent{Token: token, Local: clientEnd, Remote: serverEnd, NoJoin: true}
	k.open[token] = []SubflowEvent{ev}
	k.Established(k.now, ev, 0)
}

// connect makes a connection and tracks it.
func (k *fakeKernel) connect(token uint32, policy SubflowPolicy, traffic Traffic) {
	k.establish(token)
	k.Track(k.now, token, policy, traffic)
	k.run(0)
}

// run lets time pass and carries out the planner's requests when they are due.
func (k *fakeKernel) run(d time.Duration) {
	for end := k.now + d; ; {
		requests, wait := k.Plan(k.now)
		if len(requests) > MaxRequests {
			k.t.Fatalf("%d requests at once", len(requests))
		}
		if len(requests) > 0 {
			k.carryOut(requests)
			continue
		}
		if k.Sooner() && wait > 0 {
			continue
		}
		if k.now += max(wait, time.Millisecond); k.now > end {
			k.now = end
			return
		}
	}
}

// carryOut carries out requests, and reports what became of them.
func (k *fakeKernel) carryOut(requests []Request) {
	k.sent = append(k.sent, requests...)
	requests = slices.Clone(requests)
	errs := make([]error, len(requests))
	var events []func()
	for i, r := range requests {
		var event func()
		event, errs[i] = k.execute(r)
		if event != nil && !k.muted {
			events = append(events, event)
		}
	}
	k.Conclude(k.now, errs, nil)
	for _, e := range events {
		e()
	}
}

// execute returns the event that follows a request, and the request's outcome.
func (k *fakeKernel) execute(r Request) (event func(), err error) {
	ev := SubflowEvent{Token: r.Token, Local: r.Local.AddrPort, Remote: r.Remote, LocalID: r.Local.ID, Interface: r.Local.Interface}
	at := k.find(r)
	switch r.Operation {
	case CreateSubflow:
		read := r.Remote.Addr() != encapsulatedEnd.Addr() // by middleboxes
		switch {
		case k.notReady > 0:
			k.notReady--
			return nil, syscall.ENOTCONN
		case read && k.ignores[r.Path]:
			return nil, nil
		case read && k.refuses[r.Path], k.bad(r.Token):
			ev.Err = cmp.Or(k.errno, syscall.ECONNREFUSED)
			return func() { k.SubflowClosed(k.now, ev) }, nil
		}
		ev.Local = netip.AddrPortFrom(ev.Local.Addr(), 5000+uint16(len(k.sent)))
		if read && k.strips[r.Path] {
			return func() { k.SubflowOpened(k.now, ev); k.SubflowClosed(k.now, ev) }, nil
		}
		k.open[r.Token] = append(k.open[r.Token], ev)
		return func() { k.SubflowOpened(k.now, ev) }, nil
	case SetBackup, DestroySubflow:
		if at < 0 {
			return nil, syscall.EINVAL
		}
		if r.Operation == SetBackup {
			return nil, nil
		}
		closed := k.open[r.Token][at]
		k.open[r.Token] = slices.Delete(k.open[r.Token], at, at+1)
		return func() { k.SubflowClosed(k.now, closed) }, nil
	}
	return nil, nil
}

func (k *fakeKernel) find(r Request) int {
	return slices.IndexFunc(k.open[r.Token], func(s SubflowEvent) bool {
		return s.Local == r.Local.AddrPort && s.Remote == r.Remote
	})
}

// kill ends a connection's subflow on a path.
func (k *fakeKernel) kill(token uint32, path int) {
	k.t.Helper()
	i := slices.IndexFunc(k.open[token], func(s SubflowEvent) bool { return k.pathOf(s) == path })
	if i < 0 {
		k.t.Fatalf("connection %d has no subflow on path %d", token, path)
	}
	ev := k.open[token][i]
	k.open[token] = slices.Delete(k.open[token], i, i+1)
	if ev.Err = syscall.ECONNRESET; !k.muted {
		k.SubflowClosed(k.now, ev)
	}
}

// pathOf returns the path of an open subflow.
func (k *fakeKernel) pathOf(s SubflowEvent) int { return max(k.set.at(s.Interface), 0) }

// expect checks on which paths a connection has subflows.
func (k *fakeKernel) expect(when string, token uint32, want ...int) {
	k.t.Helper()
	var got []int
	for _, s := range k.open[token] {
		got = append(got, k.pathOf(s))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		k.t.Errorf("%s: subflows on paths %v, want %v", when, got, want)
	}
}

// requested returns the requests of an operation on a path since they were last
// asked for, and forgets all.
func (k *fakeKernel) requested(op Operation, path int) (out []Request) {
	for _, r := range k.sent {
		if r.Operation == op && r.Path == path {
			out = append(out, r)
		}
	}
	k.sent = nil
	return out
}

// carried is a [Traffic].
type carried struct {
	bytes   uint64
	unacked int
	ending  bool
}

func (c *carried) BytesUp() uint64     { return c.bytes }
func (c *carried) BytesDown() uint64   { return 0 }
func (c *carried) Unacknowledged() int { return c.unacked }
func (c *carried) Ending() bool        { return c.ending }
