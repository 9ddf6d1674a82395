package core

import (
	"errors"
	"net/netip"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/state"
)

// Ends of a LAN gateway: two lines with private addresses, and two upstreams.
var (
	home   = Source{0, netip.MustParseAddr("192.168.1.2"), "dsl"}
	mobile = Source{1, netip.MustParseAddr("192.168.8.2"), "lte"}
	first  = netip.MustParseAddrPort("198.51.100.1:1080")
	second = netip.MustParseAddrPort("198.51.100.2:1080")
)

// errNotServed stands for an upstream that does not serve the box, errReply for a reply that is no error of
// connect(2).
var (
	errNotServed = errors.New("user and password are not accepted")
	errReply     = errors.New("address type not supported")
)

// lan drives the core of a LAN gateway.
type lan struct {
	*driver
	now time.Duration
	n   uint32 // packets so far
}

func newLAN(t *testing.T, p UpstreamPolicy) *lan {
	t.Helper()
	l := &lan{driver: newCore(t, state.Relay), now: time.Second}
	if p.All == nil {
		p.All = []Upstream{{0, first}, {1, second}}
	}
	l.SetUpstreams(p)
	l.SetDialPolicy(nil, l.now, DialPolicy{Mode: ThroughUpstream, Ways: [][2]Source{{{}, home}, {{}, mobile}}})
	return l
}

// to names a dial to an upstream.
type to struct {
	at         netip.AddrPort
	by         string
	plain      bool
	stepByStep bool
}

// begin has a host send a SYN, and returns the decision.
func (l *lan) begin() Decision {
	l.t.Helper()
	l.n++
	return l.decide(l.now, state.Plain, l.n, syn(l.t, mss))
}

// connecting returns the only dial among the last actions.
func (l *lan) connecting() (id state.ID, d to) {
	l.t.Helper()
	for _, a := range l.acts {
		if a.Kind != Connect {
			continue
		}
		if id != 0 {
			l.t.Fatalf("two dials: %+v", l.acts)
		}
		if a.Dial.Client != client6 || a.Dial.Server != server6 || !a.Dial.Multipath {
			l.t.Errorf("dial %+v", a.Dial)
		}
		id, d = a.Flow, to{a.Dial.Via, a.Dial.From.Interface, a.Dial.Plain, !a.Dial.Early}
	}
	return id, d
}

// expect checks the dial that the last actions begin.
func (l *lan) expect(want to) state.ID {
	l.t.Helper()
	id, got := l.connecting()
	if got != want {
		l.t.Fatalf("dial %+v, want %+v; actions %+v", got, want, l.acts)
	}
	if !l.Live(id) {
		l.t.Error("the dial is given up at once")
	}
	return id
}

// passes lets time pass.
func (l *lan) passes(d time.Duration) {
	l.now += d
	l.acts = l.Tick(l.acts[:0], l.now)
}

func (l *lan) reached(id state.ID) { l.acts = l.UpstreamReached(l.acts[:0], l.now, id) }

func (l *lan) ends(id state.ID, stage Stage, err error) {
	l.acts = l.DialEnded(l.acts[:0], l.now, id, Dialed{Err: err, MPTCP: err == nil, Stage: stage, StepByStep: err == syscall.ECONNRESET})
}

// succeeds has an upstream answer, and the flow begin and end.
func (l *lan) succeeds(id state.ID) {
	l.t.Helper()
	l.now += 50 * time.Millisecond
	l.reached(id)
	l.now += 50 * time.Millisecond
	l.ends(id, NotReached, nil)
	if d, _ := l.decision(); d.Verdict != Deliver {
		l.t.Fatalf("actions %+v, want the SYN to be delivered", l.acts)
	}
	l.over(id)
}

// over ends a released flow.
func (l *lan) over(id state.ID) {
	l.t.Helper()
	if _, wanted := l.Paired(nil, l.now, id); !wanted {
		l.t.Fatal("the flow is not wanted")
	}
	l.Closed(nil, l.now, id, state.FIN)
	if handshakes, _ := l.Backlog(); handshakes != 0 || len(l.rivals) != 0 {
		l.t.Errorf("%d handshakes and %d dials are left", handshakes, len(l.rivals))
	}
}

// settled checks the verdict among the last actions, and that nothing is left of the flow.
func (l *lan) settled(verdict Verdict, why state.Reason) {
	l.t.Helper()
	d, ok := l.decision()
	if !ok || d.Verdict != verdict || d.Reason != why {
		l.t.Fatalf("%v because of %q, want %v because of %q; actions %+v", d.Verdict, d.Reason, verdict, why, l.acts)
	}
	if handshakes, _ := l.Backlog(); handshakes != 0 || len(l.rivals) != 0 {
		l.t.Errorf("%d handshakes and %d dials are left", handshakes, len(l.rivals))
	}
}

func TestFlowGoesThroughTheFirstUpstream(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	if d := l.begin(); d.Verdict != Hold {
		t.Fatalf("verdict %v, want hold", d.Verdict)
	}
	id := l.expect(to{at: first, by: "dsl"})
	l.reached(id)
	l.ends(id, NotReached, nil)
	l.settledBy(id)
	l.over(id)
}

// settledBy checks that the flow is released and tracked, by the connection with that ID.
func (l *lan) settledBy(id state.ID) {
	l.t.Helper()
	tracked := false
	for _, a := range l.acts {
		tracked = tracked || a.Kind == Track && a.Flow == id
	}
	if d, _ := l.decision(); d.Verdict != Deliver || !tracked || l.id(key6) != id {
		l.t.Fatalf("actions %+v; want the SYN delivered, and the connection tracked", l.acts)
	}
}

func TestAnswerOfTheUpstreamIsThatOfTheServer(t *testing.T) {
	for _, c := range []struct {
		err     error
		verdict Verdict
		why     state.Reason
	}{
		{syscall.ECONNREFUSED, Reset, state.WasRefused},
		{syscall.ENETUNREACH, NoRoute, state.NoRoute},
		{syscall.EHOSTUNREACH, HostUnreachable, state.HostUnreachable},
		{syscall.EACCES, Prohibited, state.Prohibited},
		{syscall.ETIMEDOUT, Drop, state.NoAnswer},
	} {
		l := newLAN(t, UpstreamPolicy{})
		l.begin()
		id := l.expect(to{at: first, by: "dsl"})
		l.reached(id)
		l.ends(id, Answered, c.err)
		l.settled(c.verdict, c.why)
		l.begin() // and the upstream is as good as before
		l.expect(to{at: first, by: "dsl"})
	}
}

func TestSilenceHasTheNextPathAndUpstreamTried(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	began := l.now
	l.begin()
	one := l.expect(to{at: first, by: "dsl"})
	l.passes(500 * time.Millisecond)
	l.expect(to{at: first, by: "lte"})
	l.passes(500 * time.Millisecond)
	three := l.expect(to{at: second, by: "dsl"})
	if l.now-began > time.Second {
		t.Errorf("the second upstream is tried after %v", l.now-began)
	}
	l.succeeds(three)
	if l.Live(one) {
		t.Error("the dial to the first upstream goes on")
	}
	l.begin()
	l.expect(to{at: second, by: "dsl"}) // at once
}

func TestKnownUpstreamIsLeftSooner(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	id, _ := l.connecting()
	l.succeeds(id)
	l.begin()
	l.expect(to{at: first, by: "dsl"})
	l.passes(200 * time.Millisecond)
	l.expect(to{at: first, by: "lte"})
}

func TestLateAnswerOfTheFirstUpstreamCounts(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	one := l.expect(to{at: first, by: "dsl"})
	l.passes(500 * time.Millisecond)
	l.passes(500 * time.Millisecond)
	l.succeeds(one)
}

func TestRefusalHasTheNextWayTriedAtOnce(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	for _, by := range []string{"dsl", "lte"} {
		for _, plain := range []bool{false, true} { // a filter may refuse MP_CAPABLE
			l.ends(l.expect(to{at: first, by: by, plain: plain}), NotReached, syscall.ECONNREFUSED)
		}
	}
	l.succeeds(l.expect(to{at: second, by: "dsl"}))
	l.begin()
	l.expect(to{at: second, by: "dsl"})
}

func TestUpstreamIsReachedWithoutMPTCPWhereThatIsRefused(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	l.ends(l.expect(to{at: first, by: "dsl"}), NotReached, syscall.ECONNREFUSED)
	id := l.expect(to{at: first, by: "dsl", plain: true})
	l.reached(id)
	l.ends(id, NotReached, nil)
	l.settledBy(id)
	if f, _ := l.Flow(key6); f.Reason != state.MPTCPBlocked {
		t.Errorf("reason %q", f.Reason)
	}
	l.over(id)
	l.begin()
	l.expect(to{at: first, by: "dsl", plain: true})
}

func TestUpstreamThatDoesNotServeIsLeft(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	id := l.expect(to{at: first, by: "dsl"})
	l.reached(id)
	l.ends(id, NotServed, errNotServed)
	l.succeeds(l.expect(to{at: second, by: "dsl"}))
	for _, w := range l.UpstreamWays() {
		if failed := w.At == first; w.Failed != failed || failed && w.Err != errNotServed {
			t.Errorf("%+v", w)
		}
	}
	l.now += firstUpstreamPause
	l.begin()
	l.expect(to{at: second, by: "dsl"})
	l.UpstreamChecked(l.now, first, 0, nil, 20*time.Millisecond)
	l.ends(l.newest(), Answered, syscall.ECONNREFUSED)
	l.begin()
	l.expect(to{at: first, by: "dsl"})
}

// newest returns the last dial.
func (l *lan) newest() state.ID { id, _ := l.connecting(); return id }

func TestServerThatTheUpstreamCannotServeGoesByAnother(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	id := l.expect(to{at: first, by: "dsl"})
	l.reached(id)
	l.ends(id, Answered, errReply)
	id = l.expect(to{at: second, by: "dsl"})
	l.reached(id)
	l.ends(id, Answered, errReply)
	l.settled(Accept, state.NoUpstream)
	l.begin()
	l.expect(to{at: first, by: "dsl"})
}

func TestEarlyMessagesThatAreRefusedAreSentStepByStep(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	id := l.expect(to{at: first, by: "dsl"})
	l.reached(id)
	l.ends(id, NotServed, syscall.ECONNRESET)
	l.succeeds(l.expect(to{at: first, by: "dsl", stepByStep: true}))
	l.begin()
	l.expect(to{at: first, by: "dsl", stepByStep: true})
}

func TestEarlyMessagesThatAreSwallowedAreSentStepByStep(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	early := l.expect(to{at: first, by: "dsl"})
	l.reached(early)
	l.passes(leastSwallowed)
	steps := l.expect(to{at: first, by: "dsl", stepByStep: true})
	if !l.Live(early) {
		t.Error("the first dial is given up: its server may only be slow")
	}
	l.reached(steps)
	l.ends(steps, NotReached, nil)
	if l.Live(early) {
		t.Error("the first dial goes on")
	}
	l.settledBy(steps)
	l.over(steps)
	l.begin()
	l.expect(to{at: first, by: "dsl", stepByStep: true})
}

func TestSlowServerIsNoSilentUpstream(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	early := l.newest()
	l.reached(early)
	l.passes(leastSwallowed)
	l.passes(3 * time.Second)
	l.ends(early, NotReached, nil)
	l.settledBy(early)
	l.over(early)
	l.begin() // it takes early messages: none is doubted again
	early = l.expect(to{at: first, by: "dsl"})
	l.reached(early)
	l.passes(leastSwallowed)
	if id, _ := l.connecting(); id != 0 {
		t.Error("a second dial")
	}
}

func TestWithoutUpstreamFlowsPassOrAreRejected(t *testing.T) {
	for reject, want := range map[bool]Verdict{false: Accept, true: Prohibited} {
		l := newLAN(t, UpstreamPolicy{All: []Upstream{{0, first}}, Reject: reject})
		l.begin()
		for range 4 {
			l.ends(l.newest(), NotReached, syscall.ECONNREFUSED)
		}
		l.settled(want, state.NoUpstream)
		if d := l.begin(); d.Verdict != want || d.Reason != state.NoUpstream {
			t.Errorf("the next flow: %v because of %q", d.Verdict, d.Reason)
		}
		l.now += firstUpstreamPause
		if d := l.begin(); d.Verdict != Hold {
			t.Errorf("after the pause: %v", d.Verdict)
		}
	}
}

func TestSilenceOfAllUpstreamsEnds(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	for range 20 {
		if _, ended := l.decision(); ended && l.n == 1 && len(l.rivals) == 0 {
			break
		}
		l.passes(500 * time.Millisecond)
	}
	l.settled(Accept, state.NoUpstream)
	if l.now > 10*time.Second {
		t.Errorf("after %v", l.now)
	}
}

func TestFastestUpstreamIsPreferred(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{Fastest: true})
	l.UpstreamChecked(l.now, first, 0, nil, 80*time.Millisecond)
	l.UpstreamChecked(l.now, second, 1, nil, 30*time.Millisecond)
	l.begin()
	l.expect(to{at: second, by: "dsl"})
}

func TestFlowsOfAnUpstreamPass(t *testing.T) {
	for name, at := range map[string]netip.Addr{"to it": server6.Addr(), "from it": client6.Addr()} {
		l := newLAN(t, UpstreamPolicy{All: []Upstream{{0, netip.AddrPortFrom(at, 1080)}}})
		l.SetDialPolicy(nil, l.now, DialPolicy{Mode: ThroughUpstream, Ways: [][2]Source{{lte, home}}})
		if d := l.begin(); d.Verdict != Accept || d.Reason != state.IsUpstream {
			t.Errorf("%s: %v because of %q", name, d.Verdict, d.Reason)
		}
	}
}

func TestRepeatedSYNStaysHeldWhileUpstreamsAreTried(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	id := l.newest()
	l.reached(id)
	for range 3 {
		l.now += time.Second
		l.acts = l.Packet(l.acts[:0], l.now, Packet{ID: 9, Data: syn(t, mss)})
		if d := l.acts[0].Decision; d.Verdict != Hold || !d.Supersedes {
			t.Errorf("%v", d.Verdict)
		}
	}
	l.ends(id, NotReached, nil)
	l.settledBy(id)
}

func TestAttemptsLeaveAPathThatFalls(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	id := l.newest()
	l.reached(id)
	l.acts = l.SetDialPolicy(l.acts[:0], l.now, DialPolicy{Mode: ThroughUpstream, Ways: [][2]Source{{{}, mobile}}, Down: firstDown})
	if l.Live(id) {
		t.Error("the dial over the fallen path goes on")
	}
	l.succeeds(l.expect(to{at: first, by: "lte"}))
	l.begin()
	l.newest()
	l.acts = l.SetDialPolicy(l.acts[:0], l.now, DialPolicy{Mode: ThroughUpstream, Down: firstDown | lteDown})
	l.settled(Accept, state.NoUpstream)
}

func TestExplainTriesNoUpstream(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	before := l.upstreams.copied()
	e := l.Explain(l.now, Packet{ID: 1, Data: syn(t, mss)})
	if e.Decision.Verdict != Hold || e.Dial.Via != first || len(l.rivals) != 0 {
		t.Errorf("%+v", e)
	}
	for _, w := range l.upstreams.ways {
		if *w != (wayState{}) {
			t.Errorf("%+v", w)
		}
	}
	if len(before.early) != len(l.upstreams.early) || !reflect.DeepEqual(before.UpstreamPolicy, l.upstreams.UpstreamPolicy) {
		t.Error("it has changed the memory")
	}
}

func TestPendingFlowSurvivesNewUpstreams(t *testing.T) {
	l := newLAN(t, UpstreamPolicy{})
	l.begin()
	id := l.newest()
	l.SetUpstreams(UpstreamPolicy{All: []Upstream{{0, second}}})
	l.succeeds(id)
	l.begin()
	l.expect(to{at: second, by: "dsl"})
}
