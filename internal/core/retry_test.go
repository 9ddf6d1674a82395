package core

import (
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/state"
)

// otherSYN is a SYN of the same 5-tuple with another sequence number.
func otherSYN(t *testing.T) []byte {
	return segment(t, client6, server6, func(h *layers.TCP) { h.SYN, h.Seq = true, 99 }, mss)
}

// send hands the core a SYN that may have to wait, and returns its actions by kind.
func (d *driver) send(now time.Duration, id uint32, packet []byte) []Kind {
	d.acts = d.Packet(d.acts[:0], now, Packet{ID: id, Data: packet})
	return d.kinds()
}

func TestNewSYNWaitsUntilTheOldFlowOfItsPortsIsOver(t *testing.T) {
	for _, c := range []struct {
		name    string
		relayed bool
	}{{"released, its client begins again", false}, {"relayed, its client has gone", true}} {
		t.Run(c.name, func(t *testing.T) {
			core := newDriver(t, Config{Policy: new(Policy), Gone: func(state.Flow) bool { return c.relayed }})
			core.decide(0, state.Plain, 7, syn(t, mss))
			old := core.id(key6)
			if c.relayed {
				core.pair(0, key6)
			} else {
				core.dialed(0, key6, nil)
			}
			packet := otherSYN(t)
			if kinds := core.send(time.Second, 8, packet); !slices.Equal(kinds, []Kind{Wake}) {
				t.Fatalf("actions %v, want only to be woken", kinds)
			}
			clear(packet) // the queue has its memory back
			at := core.acts[0].At
			core.acts = core.Tick(core.acts[:0], at)
			if !slices.Contains(core.kinds(), Wake) {
				t.Fatalf("while the flow closes: %+v", core.acts)
			}
			core.Closed(nil, at, old, state.Reset)
			core.acts = core.Tick(core.acts[:0], at+retryEvery)
			d, ok := core.decision()
			if !ok || d.Verdict != Hold || d.Packet.ID != 8 || d.Supersedes {
				t.Errorf("when it has closed: %+v, want a new flow", core.acts)
			}
		})
	}
}

func TestRepeatOfTheSYNThatWasReleasedIsDelivered(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t, mss))
	core.decide(0, state.Plain, 8, otherSYN(t)) // the client has begun again
	core.dialed(0, key6, nil)
	if kinds := core.send(time.Second, 9, otherSYN(t)); !slices.Equal(kinds, []Kind{Decide}) || core.acts[0].Decision.Verdict != Deliver {
		t.Errorf("a repeat of the SYN that was held last: %+v", core.acts)
	}
}

func TestNewSYNTakesThePlaceOfAHandshakeThatItsClientHasReset(t *testing.T) {
	gone := true
	core := newDriver(t, Config{Policy: new(Policy), Gone: func(f state.Flow) bool { return gone && f.State == state.Released }})
	core.decide(0, state.Plain, 7, syn(t, mss))
	core.dialed(0, key6, nil)
	old := core.id(key6)
	if kinds := core.send(time.Second, 8, otherSYN(t)); !slices.Equal(kinds, []Kind{Untrack, Abort, Decide, Connect}) {
		t.Fatalf("actions %v", kinds)
	}
	if d, _ := core.decision(); d.Verdict != Hold || d.Supersedes || core.acts[1].Flow != old || core.id(key6) == old {
		t.Errorf("actions %+v", core.acts)
	}
	core.dialed(time.Second, key6, nil)
	gone = false
	if kinds := core.send(2*time.Second, 9, otherSYN(t)); !slices.Equal(kinds, []Kind{Decide}) || core.acts[0].Decision.Verdict != Deliver {
		t.Errorf("a repeat of the new SYN: %+v", core.acts)
	}
}

func TestKernelIsAskedTwiceAboutAHalfOpenConnectionInTheWay(t *testing.T) {
	asked, gone := 0, false
	core := newDriver(t, Config{Policy: new(Policy), Gone: func(state.Flow) bool { asked++; return gone }})
	core.decide(0, state.Plain, 7, syn(t, mss))
	core.dialed(0, key6, nil)
	core.send(0, 8, otherSYN(t))
	at := time.Duration(0)
	for ; at < patience; at += retryEvery {
		core.acts = core.Tick(core.acts[:0], at)
	}
	gone = true // meanwhile the client has reset it
	core.acts = core.Tick(core.acts[:0], at)
	if d, _ := core.decision(); asked != 2 || d.Verdict != Hold {
		t.Errorf("asked %d times; at last %+v, want a new flow", asked, core.acts)
	}
}

func TestNewSYNWhosePatienceIsOver(t *testing.T) {
	for _, c := range []struct {
		name    string
		relayed bool
		want    Verdict
	}{
		// The half-open connection answers it.
		{"is delivered where the old flow awaits its client", false, Deliver},
		// A listener would answer it, and nobody has asked the server.
		{"is dropped where the old client has gone", true, Drop},
	} {
		t.Run(c.name, func(t *testing.T) {
			core := newDriver(t, Config{Policy: new(Policy), Gone: func(state.Flow) bool { return c.relayed }})
			core.decide(0, state.Plain, 7, syn(t, mss))
			if c.relayed {
				core.pair(0, key6)
			} else {
				core.dialed(0, key6, nil)
			}
			core.send(0, 8, otherSYN(t))
			var decided Decision
			at := time.Duration(0)
			for ; at <= 2*patience && decided.Packet.ID == 0; at += retryEvery {
				core.acts = core.Tick(core.acts[:0], at)
				decided, _ = core.decision()
			}
			if decided.Verdict != c.want || at < patience || at > patience+2*retryEvery {
				t.Errorf("after %v: %+v, want the verdict %v after %v", at, decided, c.want, patience)
			}
		})
	}
}

func TestDialWhoseAddressIsBusyIsRepeated(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t, mss))
	id := core.id(key6)
	core.acts = core.DialEnded(core.acts[:0], 0, id, Dialed{Err: unix.EADDRNOTAVAIL})
	if !slices.Equal(core.kinds(), []Kind{Wake}) {
		t.Fatalf("actions %+v, want only to be woken", core.acts)
	}
	core.acts = core.Tick(core.acts[:0], core.acts[0].At)
	if !slices.Equal(core.kinds(), []Kind{Connect}) || core.acts[0].Flow != id || core.acts[0].Dial.Client != client6 {
		t.Fatalf("actions %+v, want the same dial", core.acts)
	}
	core.acts = core.DialEnded(core.acts[:0], patience, id, Dialed{Err: unix.EADDRNOTAVAIL})
	if d, ok := core.decision(); !ok || d.Verdict != Drop || d.Reason != state.TupleBusy {
		t.Errorf("when patience is over: %+v", core.acts)
	}
}

func TestDialIsNotRepeatedForAFlowThatIsOver(t *testing.T) {
	core := newDriver(t, Config{Policy: new(Policy), Table: state.Config{Dial: time.Millisecond}})
	core.decide(0, state.Plain, 7, syn(t, mss))
	core.DialEnded(nil, 0, core.id(key6), Dialed{Err: unix.EADDRNOTAVAIL})
	core.Tick(nil, time.Second)
	core.acts = core.Tick(core.acts[:0], 2*time.Second)
	if slices.Contains(core.kinds(), Connect) {
		t.Errorf("actions %+v", core.acts)
	}
}

func TestFailedNeighbourEndsDials(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t, mss))
	pending := core.Pending()
	if len(pending) != 1 || pending[0].Dial.Server != server6 {
		t.Fatalf("pending dials %+v", pending)
	}
	core.acts = core.NeighbourFailed(core.acts[:0], time.Second, pending[0].Flow, pending[0].Flow+1<<32)
	d, _ := core.decision()
	if !slices.Equal(core.kinds(), []Kind{Decide, Abort}) || d.Verdict != HostUnreachable {
		t.Errorf("actions %+v", core.acts)
	}
	if len(core.Pending()) != 0 {
		t.Error("the dial is still pending")
	}
}

func TestClientThatLetsTheBoxWaitIsAskedAbout(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t, mss))
	core.dialed(0, key6, nil)
	id, asked := core.id(key6), 0
	for at := time.Duration(0); at < 9*time.Second; at += ExpireEvery {
		for _, a := range core.Tick(nil, at) {
			if a.Kind != Ask || a.Flow != id || a.Key != key6 {
				t.Fatalf("after %v: %+v", at, a)
			}
			asked++
		}
	}
	if asked != 4 { // after 1, 2, 4 and 8 s
		t.Errorf("asked %d times", asked)
	}
	core.acts = core.ClientReset(core.acts[:0], 9*time.Second, id)
	if !slices.Equal(core.kinds(), []Kind{Untrack, Abort}) {
		t.Errorf("its reset leads to %+v", core.acts)
	}
	if f, _ := core.Flow(key6); f.State != state.Abandoned || f.Reason != state.Reset {
		t.Errorf("the flow is %+v", f)
	}
	if core.acts = core.ClientReset(core.acts[:0], 9*time.Second, id); len(core.acts) != 0 {
		t.Errorf("a second reset leads to %+v", core.acts)
	}
}

func TestMultipathLegIsTrackedFromWhenItIsThere(t *testing.T) {
	for _, c := range []struct {
		side   state.Side
		packet []byte
		dialed []Kind
		paired []Kind
	}{
		{state.Plain, syn(t, mss), []Kind{Track, Decide}, nil},
		{state.Multipath, syn(t, mss, capable), []Kind{Decide}, []Kind{Track}},
	} {
		core := newCore(t, state.Relay)
		core.decide(0, c.side, 7, c.packet)
		core.dialed(0, key6, nil)
		if !slices.Equal(core.kinds(), c.dialed) {
			t.Errorf("from the %v side, dialed: %v, want %v", c.side, core.kinds(), c.dialed)
		}
		id := core.id(key6)
		core.acts, _ = core.Paired(core.acts[:0], 0, id)
		if !slices.Equal(core.kinds(), c.paired) {
			t.Errorf("from the %v side, paired: %v, want %v", c.side, core.kinds(), c.paired)
		}
		core.acts = core.Closed(core.acts[:0], 0, id, state.FIN)
		if !slices.Equal(core.kinds(), []Kind{Untrack}) {
			t.Errorf("from the %v side, closed: %v", c.side, core.kinds())
		}
		if core.Live(id) {
			t.Errorf("from the %v side: the flow is live after its end", c.side)
		}
	}
}

func TestLegThatMeetsALateClientBeforeItsDialHasEndedLeavesNoSYNHeld(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t, mss))
	id := core.id(key6)
	if _, wanted := core.Paired(nil, 0, id); wanted {
		t.Error("a client of an earlier flow is wanted")
	}
	core.acts = core.Closed(core.acts[:0], 0, id, state.Reset)
	if d, ok := core.decision(); !ok || d.Packet.ID != 7 || d.Verdict != Drop {
		t.Errorf("its SYN: %+v", core.acts)
	}
	core.acts = core.DialEnded(core.acts[:0], 0, id, Dialed{})
	if _, ok := core.decision(); ok {
		t.Errorf("the outcome of its dial, too late: %+v", core.acts)
	}
}
