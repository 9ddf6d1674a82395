package paths

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// attempts returns how many subflows were requested on path 1 since it was last asked.
func (k *fakeKernel) attempts() int { return len(k.requested(CreateSubflow, 1)) }

func TestPathThatRefusesSubflowsGetsOneAttemptPerPause(t *testing.T) {
	for name, answer := range map[string]func(*fakeKernel){
		"reset":                     func(k *fakeKernel) { k.refuses[1] = true },
		"reset after the handshake": func(k *fakeKernel) { k.strips[1] = true },
		"no answer":                 func(k *fakeKernel) { k.ignores[1] = true },
		"no route to host":          func(k *fakeKernel) { k.refuses[1], k.errno = true, syscall.EHOSTUNREACH },
	} {
		t.Run(name, func(t *testing.T) {
			k := newFakeKernel(t)
			answer(k)
			const many = 20
			for token := range uint32(many) {
				k.connect(token, SubflowPolicy{}, &carried{})
			}
			k.run(overdueAfter + furtherDelay + time.Second) // all of them have tried once
			if got := k.Refusals(); got[0].Reason != "" || !strings.HasSuffix(got[1].Reason, ": "+name) || got[1].Likely == "" {
				t.Errorf("refusals %+v", got)
			}
			first := k.attempts()
			if first > 2*many {
				t.Errorf("%d attempts before the path is known to refuse subflows", first)
			}
			k.run(10 * time.Minute)
			if n := k.attempts(); n < 3 || n > 16 { // without an answer an attempt takes long
				t.Errorf("%d attempts in ten minutes, want one per pause", n)
			}
			for token := range uint32(many) {
				k.connect(many+token, SubflowPolicy{}, &carried{})
				k.run(100 * time.Millisecond)
			}
			if n := k.attempts(); n > 1 {
				t.Errorf("%d attempts by new connections", n)
			}
			clear(k.refuses)
			clear(k.strips)
			clear(k.ignores)
			k.run(maxPause + overdueAfter + time.Minute)
			if got := k.Refusals()[1].Reason; got != "" {
				t.Errorf("the path is still said to refuse: %s", got)
			}
			open := 0
			for token := range uint32(2 * many) {
				open += len(k.open[token])
			}
			if name != "no answer" && open != 4*many { // else the kernel still repeats the first SYNs
				t.Errorf("%d subflows are open after a success, want %d", open, 4*many)
			}
		})
	}
}

func TestRefusalOfSomeConnectionsIsNotThePaths(t *testing.T) {
	k := newFakeKernel(t)
	k.bad = func(token uint32) bool { return token%10 == 0 } // they have fallen back to TCP
	for token := range uint32(200) {
		k.connect(token, SubflowPolicy{}, &carried{})
		k.run(300 * time.Millisecond)
	}
	k.run(10 * time.Second)
	for token := range uint32(200) {
		if want := map[bool]int{true: 1, false: 2}[token%10 == 0]; len(k.open[token]) != want {
			t.Errorf("connection %d has %d subflows, want %d", token, len(k.open[token]), want)
		}
	}
}

func TestConnectionOfWhichOthersAreRefusedDoesNotKeepThePathFromNewOnes(t *testing.T) {
	k := newFakeKernel(t)
	k.bad = func(token uint32) bool { return token == 1 }
	k.connect(1, SubflowPolicy{}, &carried{})
	k.run(time.Hour)
	k.connect(2, SubflowPolicy{}, &carried{})
	k.run(minPause + furtherDelay + provenAfter)
	k.expect("a moment after its beginning", 2, 0, 1)
	if got := k.Refusals()[1].Reason; got != "" {
		t.Errorf("the path is said to refuse: %s", got)
	}
}

func TestConnectionWithMuchInFlightDoesNotRiskARepeatOfIt(t *testing.T) {
	k := newFakeKernel(t)
	k.refuses[1] = true
	busy := &carried{unacked: 5 << 20}
	k.connect(1, SubflowPolicy{}, busy)
	k.SetLarge(1)
	k.run(time.Second)
	if n := k.attempts(); n != 1 {
		t.Errorf("%d attempts with 5 MiB in flight, want one", n)
	}
	busy.unacked = 1000
	k.run(time.Second)
	if n := k.attempts(); n != tolerated-1 {
		t.Errorf("%d attempts with 1,000 bytes in flight, want %d", n, tolerated-1)
	}
	k.connect(2, SubflowPolicy{}, &carried{unacked: 5 << 20})
	k.connect(3, SubflowPolicy{}, &carried{})
	k.run(time.Second)
	for _, r := range k.sent {
		if r.Operation == CreateSubflow && r.Token == 2 {
			t.Error("the busy connection makes the attempt after the pause")
		}
	}
}

func TestConnectionWithoutSubflowsMayAlwaysTry(t *testing.T) {
	k := newFakeKernel(t)
	k.refuses[1] = true
	for token := range uint32(5) {
		k.connect(token, SubflowPolicy{}, &carried{})
	}
	k.run(10 * time.Minute)
	clear(k.refuses)
	k.connect(9, SubflowPolicy{}, &carried{unacked: 5 << 20})
	k.SetDesired([]DesiredState{Closed, Normal})
	k.kill(9, 0)
	k.run(100 * time.Millisecond)
	k.expect("after its only subflow has ended", 9, 1)
}

func TestRefusalsAreForgottenWhenThePathOrTheHAGChanges(t *testing.T) {
	for name, change := range map[string]func(*fakeKernel){
		"the path was closed": func(k *fakeKernel) {
			k.SetDesired([]DesiredState{Normal, Closed})
			k.SetDesired([]DesiredState{Normal, Normal})
		},
		"another HAG": func(k *fakeKernel) { k.Renew() },
	} {
		k := newFakeKernel(t)
		k.refuses[1] = true
		for token := range uint32(50) {
			k.connect(token, SubflowPolicy{}, &carried{})
		}
		k.run(10 * time.Minute)
		clear(k.refuses)
		change(k)
		k.run(100 * time.Millisecond)
		if c := k.Counters()[1]; c.Open != 50 {
			t.Errorf("%s: %d subflows are open", name, c.Open)
		}
		if got := k.Refusals()[1].Reason; got != "" {
			t.Errorf("%s: the path is still said to refuse: %s", name, got)
		}
	}
}

func TestJoinsAtAServerSayNothingAboutThePath(t *testing.T) {
	k := newFakeKernel(t)
	k.refuses[1] = true
	for token := range uint32(20) {
		ev := SubflowEvent{Token: token, Local: clientEnd, Remote: serverEnd} // takes joins
		k.open[token] = []SubflowEvent{ev}
		k.Established(k.now, ev, 0)
		k.Track(k.now, token, SubflowPolicy{}, nil)
	}
	k.run(furtherDelay + 20*time.Millisecond)
	if got := k.Refusals()[1].Reason; got != "" || k.attempts() != 20 {
		t.Errorf("the path is said to refuse: %s", got)
	}
}

func TestEndOfTheConnectionThatTriesLeavesTheAttemptToAnother(t *testing.T) {
	k := newFakeKernel(t)
	k.refuses[1] = true
	for token := range uint32(5) {
		k.connect(token, SubflowPolicy{}, &carried{})
	}
	k.run(time.Minute)
	clear(k.refuses)
	k.ignores[1] = true
	for k.refusals[1].trial == nil {
		k.run(time.Second)
	}
	clear(k.ignores)
	k.Forget(k.refusals[1].trial.token)
	k.run(time.Second)
	if c := k.Counters()[1]; c.Open != 4 {
		t.Errorf("%d subflows are open, want 4", c.Open)
	}
}

func TestRefusalOfAConnectionThatEndsIsNotThePaths(t *testing.T) {
	k := newFakeKernel(t)
	k.refuses[1] = true
	for token := range uint32(20) {
		k.connect(token, SubflowPolicy{}, &carried{})
		k.SetLarge(token)
		k.run(announceTimeout + 20*time.Millisecond)
		k.Forget(token)
	}
	if n := k.attempts(); n != 20 || k.Refusals()[1].Reason != "" {
		t.Errorf("after %d attempts the path is said to refuse: %q", n, k.Refusals()[1].Reason)
	}
}

// The subflows of a connection that ends do not end together: the first one may be on a slow
// path.
func TestEndOfANewSubflowBeforeTheConnectionIsNotThePaths(t *testing.T) {
	for name, c := range map[string]struct {
		ending bool
		lives  time.Duration // after the end of its new subflow
	}{
		"ends soon":       {false, 700 * time.Millisecond},
		"drains for long": {true, 5 * time.Second},
	} {
		k := newFakeKernel(t)
		k.strips[1] = true
		attempts := 0
		for token := range uint32(20) {
			k.connect(token, SubflowPolicy{}, &carried{ending: c.ending})
			k.SetLarge(token)
			k.run(announceTimeout + c.lives)
			attempts += k.attempts()
			k.Forget(token)
		}
		if attempts < 20 || k.Refusals()[1].Reason != "" {
			t.Errorf("%s: after %d attempts the path is said to refuse: %q", name, attempts, k.Refusals()[1].Reason)
		}
	}
}

func TestJoinRefusedAtAnUnannouncedAddressGoesToTheOtherOne(t *testing.T) {
	for _, c := range []struct {
		name  string
		heard []netip.AddrPort // before the first attempt
		later []netip.AddrPort // before the second one
		want  []netip.AddrPort
	}{
		{"IPv4 only", []netip.AddrPort{joinLTE4}, nil, []netip.AddrPort{joinLTE, joinLTE4}},
		{"IPv6 meanwhile", []netip.AddrPort{joinLTE4}, []netip.AddrPort{joinLTE}, []netip.AddrPort{joinLTE, joinLTE}},
		{"none of the path's", []netip.AddrPort{joinDSL}, nil, []netip.AddrPort{joinLTE, joinLTE4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newFakeKernel(t)
			k.refuses[1] = true
			k.connect(1, SubflowPolicy{}, &carried{})
			for _, at := range c.heard {
				k.Announced(1, at)
			}
			k.SetLarge(1)
			k.run(time.Millisecond)
			clear(k.refuses)
			for _, at := range c.later {
				k.Announced(1, at)
			}
			k.run(furtherDelay)
			var got []netip.AddrPort
			for _, r := range k.requested(CreateSubflow, 1) {
				got = append(got, r.Remote)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("joins to %v, want %v", got, c.want)
			}
			k.expect("afterwards", 1, 0, 1)
		})
	}
}
