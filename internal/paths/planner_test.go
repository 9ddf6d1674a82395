package paths

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestConnectionsGetSubflowsByTheirPolicies(t *testing.T) {
	const soon = furtherDelay + 10*time.Millisecond
	traffic := &carried{bytes: 999}
	for _, c := range []struct {
		name    string
		policy  SubflowPolicy
		before  []int // paths with subflows before furtherDelay has passed
		after   []int // and after it
		prepare func(*fakeKernel)
	}{
		{"a connection that carries little", SubflowPolicy{}, []int{0}, []int{0, 1}, nil},
		{"a large transfer", SubflowPolicy{}, []int{0, 1}, []int{0, 1}, func(k *fakeKernel) { k.SetLarge(1) }},
		{"too few bytes", SubflowPolicy{After: 1000}, []int{0}, []int{0}, nil},
		{"a large transfer with too few bytes", SubflowPolicy{After: 1000}, []int{0}, []int{0}, func(k *fakeKernel) { k.SetLarge(1) }},
		{"enough bytes", SubflowPolicy{After: 999}, []int{0, 1}, []int{0, 1}, nil},
		{"the second path only", SubflowPolicy{Paths: 1 << 1}, []int{0}, []int{1}, nil},
		{"the first path only", SubflowPolicy{Paths: 1 << 0}, []int{0}, []int{0}, nil},
		{"the second path is desired only", SubflowPolicy{}, []int{1}, []int{1}, func(k *fakeKernel) { k.SetDesired([]DesiredState{Closed, Normal}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFakeKernel(t)
			k.connect(1, c.policy, traffic)
			if c.prepare != nil {
				c.prepare(k)
			}
			k.run(100 * time.Millisecond)
			k.expect("at first", 1, c.before...)
			k.run(soon)
			k.expect("later", 1, c.after...)
		})
	}
}

func TestPlanIsDueAfterEachNewConnection(t *testing.T) {
	for name, policy := range map[string]SubflowPolicy{"at once": {}, "after some bytes": {After: 1000}} {
		for _, trackedFirst := range []bool{true, false} {
			k := newFakeKernel(t)
			k.run(time.Second)
			k.Sooner()
			if trackedFirst {
				k.Track(k.now, 1, policy, &carried{})
				k.establish(1)
			} else {
				k.establish(1)
				k.Track(k.now, 1, policy, &carried{})
			}
			if !k.Sooner() {
				t.Errorf("further subflows %s, tracked first %v: no plan is due", name, trackedFirst)
			}
			if _, wait := k.Plan(k.now); wait > furtherDelay {
				t.Errorf("further subflows %s, tracked first %v: the next plan is due in %v", name, trackedFirst, wait)
			}
		}
	}
}

// The same steps run on the kernel: mptcp.TestSubflowsFollowTheDesiredStates.
func TestSubflowsFollowTheDesiredStates(t *testing.T) {
	k := newFakeKernel(t)
	k.connect(1, SubflowPolicy{}, nil)
	k.run(time.Second)
	for _, step := range []struct {
		name    string
		desired []DesiredState
		paths   []int
	}{
		{"at first", []DesiredState{Normal, Normal}, []int{0, 1}},
		{"without the second path", []DesiredState{Normal, Closed}, []int{0}},
		{"with it again", []DesiredState{Normal, Normal}, []int{0, 1}},
		{"without the first path", []DesiredState{Closed, Normal}, []int{1}},
		{"with it again", []DesiredState{Normal, Normal}, []int{0, 1}},
		{"from one to the other", []DesiredState{Closed, Backup}, []int{1}},
		{"and back", []DesiredState{Normal, Closed}, []int{0}},
		{"without any", []DesiredState{Closed, Closed}, []int{0}},
		{"and with both", []DesiredState{Normal, Backup}, []int{0, 1}},
	} {
		k.SetDesired(step.desired)
		k.run(time.Second)
		k.expect(step.name, 1, step.paths...)
	}
	var sum SubflowCounters
	for _, c := range k.Counters() {
		sum.Open += c.Open
		sum.Opened += c.Opened
		sum.Closed += c.Closed
		sum.Failed += c.Failed
		sum.Lost += c.Lost
	}
	if want := (SubflowCounters{Open: 2, Opened: 5, Closed: 4}); sum != want {
		t.Errorf("counters %+v, want %+v", sum, want)
	}
}

func TestPeerIsToldWhichSubflowsAreBackups(t *testing.T) {
	k := newFakeKernel(t)
	k.SetDesired([]DesiredState{Normal, Backup})
	k.connect(1, SubflowPolicy{}, nil)
	k.run(time.Second)
	if created := k.requested(CreateSubflow, 1); len(created) != 1 || !created[0].Backup {
		t.Errorf("created %+v, want one backup", created)
	}
	for _, want := range []bool{false, true} {
		k.SetDesired([]DesiredState{Normal, map[bool]DesiredState{false: Normal, true: Backup}[want]})
		k.run(time.Second)
		if told := k.requested(SetBackup, 1); len(told) != 1 || told[0].Backup != want {
			t.Errorf("the peer is told %+v, want one that says %v", told, want)
		}
	}
}

func TestSubflowsStartAtTheirPathAndEndWhereJoinsAreTaken(t *testing.T) {
	v4 := func(ev *SubflowEvent) {
		ev.Local, ev.Remote = netip.MustParseAddrPort("192.0.2.77:1"), netip.MustParseAddrPort("203.0.113.99:443")
	}
	for _, c := range []struct {
		name          string
		change        func(*fakeKernel, *SubflowEvent)
		local, remote string
	}{
		{"at the server itself", func(_ *fakeKernel, ev *SubflowEvent) { ev.NoJoin = false }, "[2001:db8:20::2]:0", serverEnd.String()},
		{"at the join address", func(*fakeKernel, *SubflowEvent) {}, "[2001:db8:20::2]:0", joinLTE.String()},
		{"over IPv4", func(_ *fakeKernel, ev *SubflowEvent) { v4(ev) }, "198.51.100.2:0", joinLTE4.String()},
		{"an IPv6 connection over an IPv4 path", func(k *fakeKernel, _ *SubflowEvent) { k.machine.links["lte"] = link(3, "198.51.100.2") }, "198.51.100.2:0", joinLTE4.String()},
		{"never an IPv4 connection over an IPv6 path", func(k *fakeKernel, ev *SubflowEvent) {
			v4(ev)
			k.machine.links["lte"] = link(3, "2001:db8:20::2")
		}, "", ""},
	} {
		k := newFakeKernel(t)
		ev := SubflowEvent{Token: 1, Local: clientEnd, Remote: serverEnd, NoJoin: true}
		c.change(k, &ev)
		k.open[1] = []SubflowEvent{ev}
		k.Established(k.now, ev, 0)
		k.Track(k.now, 1, SubflowPolicy{}, nil)
		k.run(furtherDelay + 10*time.Millisecond)
		local, remote := "", ""
		if r := k.requested(CreateSubflow, 1); len(r) > 0 {
			local, remote = r[0].Local.String(), r[0].Remote.String()
			if r[0].Local.Interface != 3 {
				t.Errorf("%s: bound to interface %d", c.name, r[0].Local.Interface)
			}
		}
		if local != c.local || remote != c.remote {
			t.Errorf("%s: from %q to %q, want %q to %q", c.name, local, remote, c.local, c.remote)
		}
	}
}

func TestFailedSubflowsAreRetriedWithBackoff(t *testing.T) {
	for tries := range uint8(31) {
		if a, b := backoff(tries), backoff(tries+1); a <= 0 || b < a || b > backoff(32) {
			t.Errorf("%v after %d failures, %v after the next one", a, tries, b)
		}
	}
	k := newFakeKernel(t)
	k.refuses[1] = true
	k.connect(1, SubflowPolicy{}, nil)
	k.run(10 * time.Minute)
	n := len(k.requested(CreateSubflow, 1))
	if c := k.Counters()[1]; n < 15 || n > 30 || c.Failed != uint64(n) || c.Open != 0 {
		t.Errorf("%d attempts in ten minutes, counters %+v", n, c)
	}
	k.refuses[1] = false
	k.SetDesired([]DesiredState{Normal, Closed})
	k.SetDesired([]DesiredState{Normal, Normal})
	k.run(100 * time.Millisecond)
	k.expect("when the path has come back", 1, 0, 1)
}

func TestConnectionThatIsNotReadyIsNoFailure(t *testing.T) {
	k := newFakeKernel(t)
	k.notReady = 2
	k.connect(1, SubflowPolicy{}, nil)
	k.run(time.Second)
	k.expect("once it is ready", 1, 0, 1)
	if c := k.Counters()[1]; c.Failed != 0 || c.Opened != 1 {
		t.Errorf("counters %+v", c)
	}
}

func TestSubflowThatEndsIsOpenedAgain(t *testing.T) {
	k := newFakeKernel(t)
	k.connect(1, SubflowPolicy{}, nil)
	k.run(time.Second)
	for _, path := range []int{1, 0, 0, 1} {
		before := k.Counters()[path]
		k.kill(1, path)
		k.run(time.Second)
		k.expect("a second later", 1, 0, 1)
		if c := k.Counters()[path]; c.Lost != before.Lost+1 || c.Opened != before.Opened+1 || c.Open != 1 {
			t.Errorf("path %d: counters %+v after %+v", path, c, before)
		}
	}
}

func TestConnectionWithoutSubflowGetsAnotherAtOnce(t *testing.T) {
	k := newFakeKernel(t)
	k.connect(1, SubflowPolicy{After: 1 << 40}, &carried{})
	k.SetDesired([]DesiredState{Closed, Normal})
	k.kill(1, 0)
	k.run(100 * time.Millisecond)
	k.expect("after its only subflow has ended", 1, 1)
}

func TestAddressIDIsFreedBeforeItGetsAnotherAddress(t *testing.T) {
	k := newFakeKernel(t)
	k.connect(1, SubflowPolicy{}, nil)
	k.run(time.Second)
	k.machine.links["lte"] = link(3, "2001:db8:20::3")
	k.kill(1, 1)
	k.sent = nil
	k.run(time.Second)
	i := slices.IndexFunc(k.sent, func(r Request) bool { return r.Operation == RemoveAddress })
	if i < 0 || i+1 >= len(k.sent) || k.sent[i+1].Operation != CreateSubflow || k.sent[i].Local.ID != k.sent[i+1].Local.ID {
		t.Errorf("requests %+v", k.sent)
	}
	k.expect("from the new address", 1, 0, 1)
}

func TestEndsThatWereNotReportedAreFound(t *testing.T) {
	k := newFakeKernel(t)
	k.connect(1, SubflowPolicy{}, nil)
	k.run(time.Second)
	k.muted = true
	k.kill(1, 1)
	k.run(time.Minute)
	k.expect("while nothing is known", 1, 0)
	k.muted = false
	k.EventsLost(k.now)
	k.run(time.Second)
	k.expect("after the loss is known", 1, 0, 1)
	if c := k.Counters()[1]; c.Lost != 1 || c.Opened != 2 {
		t.Errorf("counters %+v", c)
	}
}

func TestAttemptWithoutAnyReportIsRepeated(t *testing.T) {
	k := newFakeKernel(t)
	k.ignores[1] = true
	k.connect(1, SubflowPolicy{}, nil)
	k.run(time.Second)
	k.ignores[1] = false
	k.EventsLost(k.now)
	k.run(openTimeout + time.Second)
	k.expect("after the timeout", 1, 0, 1)
}

func TestManyConnectionsArePaced(t *testing.T) {
	const many = 10 * pace
	k := newFakeKernel(t)
	for token := range uint32(many) {
		k.connect(token, SubflowPolicy{}, nil)
	}
	k.run(time.Minute)
	if c := k.Counters()[1]; c.Open != many {
		t.Fatalf("%d subflows are open on the second path at first", c.Open)
	}
	k.SetDesired([]DesiredState{Normal, Closed})
	k.run(time.Second)
	if c := k.Counters()[1]; c.Open != 0 {
		t.Errorf("%d subflows stay open: closing is not paced", c.Open)
	}
	k.SetDesired([]DesiredState{Normal, Normal})
	begun := k.now
	for k.Counters()[1].Open < many && k.now < begun+time.Minute {
		k.run(100 * time.Millisecond)
		if open, most := k.Counters()[1].Open, burst+int((k.now-begun).Seconds()*pace)+1; open > most {
			t.Fatalf("%d subflows are open after %v, want at most %d", open, k.now-begun, most)
		}
	}
	if took := k.now - begun; took < 9*time.Second || took > 11*time.Second {
		t.Errorf("%d subflows took %v", many, took)
	}
}

func TestBusiestConnectionsComeFirst(t *testing.T) {
	k := newFakeKernel(t)
	k.SetDesired([]DesiredState{Normal, Closed})
	traffic := make([]carried, 4)
	for i := range traffic {
		traffic[i].bytes = 1000
		k.connect(uint32(i), SubflowPolicy{}, &traffic[i])
		k.conns[uint32(i)].newBytes()
	}
	k.run(time.Second)
	for i, n := range []uint64{10, 40, 0, 30} {
		traffic[i].bytes += n
	}
	k.sent = nil
	k.SetDesired([]DesiredState{Normal, Normal})
	k.run(time.Second)
	var order []uint32
	for _, r := range k.requested(CreateSubflow, 1) {
		order = append(order, r.Token)
	}
	if want := []uint32{1, 3, 0, 2}; !slices.Equal(order, want) {
		t.Errorf("order %v, want %v", order, want)
	}
}

func TestReportsAboutUnknownConnectionsAreIgnored(t *testing.T) {
	k := newFakeKernel(t)
	report := func(token uint32) {
		for id := range 256 {
			ev := SubflowEvent{Token: token, LocalID: uint8(id)}
			k.SubflowOpened(k.now, ev)
			k.SubflowClosed(k.now, ev)
		}
	}
	report(1)
	k.Forget(2)
	k.SetLarge(2)
	k.Track(k.now, 3, SubflowPolicy{}, nil) // not established
	report(3)
	k.establish(4) // not tracked
	report(4)
	k.EventsLost(k.now)
	k.SetDesired([]DesiredState{Closed, Closed})
	k.run(time.Minute)
	for i, c := range k.Counters() {
		if c != (SubflowCounters{}) {
			t.Errorf("path %d: counters %+v", i, c)
		}
	}
	if len(k.conns) != 1 || k.conns[3] == nil {
		t.Errorf("%d connections are remembered, want the one that is tracked", len(k.conns))
	}
}

func TestConnectionsThatNobodyTracksAreForgotten(t *testing.T) {
	k := newFakeKernel(t)
	k.establish(1)
	k.connect(2, SubflowPolicy{}, nil)
	for i, want := range []int{2, 1, 1} {
		k.run(sweepInterval)
		k.run(0)
		if len(k.conns) != want {
			t.Errorf("%d connections are remembered after sweep %d, want %d", len(k.conns), i+1, want)
		}
	}
	k.Forget(2)
	if c := k.Counters(); len(k.conns) != 0 || c[0].Open+c[1].Open != 0 {
		t.Errorf("%d connections and %+v are left", len(k.conns), c)
	}
}

func TestAddressIDsOfAConnectionAreThoseOfItsAddresses(t *testing.T) {
	c := connection{subflows: make([]plannedSubflow, MaxPaths)}
	ask := func(i int, a string) uint8 {
		id := c.addressID(i, netip.MustParseAddr(a))
		c.subflows[i].id, c.subflows[i].local = id, netip.AddrPortFrom(netip.MustParseAddr(a), 9)
		return id
	}
	seen := make(map[uint8]bool)
	for i := range MaxPaths {
		for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
			c.subflows = make([]plannedSubflow, MaxPaths)
			id := ask(i, a)
			if id == 0 || seen[id] {
				t.Errorf("path %d has ID %d for %s", i, id, a)
			}
			seen[id] = true
		}
	}
	c.subflows = make([]plannedSubflow, MaxPaths)
	first := ask(1, "192.168.8.100")
	if second := ask(2, "192.168.8.100"); second != first {
		t.Errorf("the IDs of one address on two paths are %d and %d", first, second)
	}
	renumbered := ask(1, "192.168.8.101")
	if renumbered == first {
		t.Errorf("two addresses have the ID %d", first)
	}
	if third := ask(3, "192.168.8.103"); third == first || third == renumbered {
		t.Errorf("a third address has the ID %d, which is another's", third)
	}
	if again := ask(1, "192.168.8.101"); again != renumbered {
		t.Errorf("the ID changes from %d to %d", renumbered, again)
	}
}
