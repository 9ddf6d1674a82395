package core

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/state"
)

// released begins a flow at a time, and has its server answer.
func released(t *testing.T, gone *bool) *driver {
	core := newDriver(t, Config{Policy: new(Policy), Gone: func(f state.Flow) bool { return *gone && f.State == state.Released }})
	core.decide(0, state.Plain, 7, syn(t, mss))
	core.dialed(0, key6, nil)
	return core
}

func TestPassesSYNThatIsRepeatedAndHasLeftNoHalfOpenConnection(t *testing.T) {
	gone := true
	core := released(t, &gone)
	core.send(time.Second, 8, syn(t, mss))
	if d, _ := core.decision(); d.Verdict != Accept || d.Reason != state.NotDelivered || !d.Reuses {
		t.Errorf("the repeat: %+v, want it to pass", d)
	}
	again := state.KeyOf(netip.AddrPortFrom(client6.Addr(), 50_001), server6) // the box hears of it before the client repeats it
	again1 := NewSYN(again.Client(), again.Server(), false)
	if d := core.decide(time.Second, state.Plain, 9, again1); d.Verdict != Hold {
		t.Errorf("the next flow: %+v, want it held", d)
	}
	core.dialed(time.Second, again, nil)
	core.acts = core.ClientReset(core.acts[:0], 2*time.Second, core.id(again))
	if d := core.decide(2*time.Second, state.Plain, 10, again1); d.Verdict != Accept || d.Reason != state.NotDelivered {
		t.Errorf("its repeat: %+v, want it to pass", d)
	}
	next := state.KeyOf(netip.AddrPortFrom(client6.Addr(), 50_000), server6)
	for _, c := range []struct {
		at      time.Duration
		verdict Verdict
	}{{3 * time.Second, Accept}, {2*time.Second + firstPause, Hold}} {
		if d := core.decide(c.at, state.Plain, 9, NewSYN(next.Client(), next.Server(), false)); d.Verdict != c.verdict {
			t.Errorf("a new flow at %v: %+v, want the verdict %v", c.at, d, c.verdict)
		}
	}
	if !core.Undelivered().IPv6 || core.Undelivered().IPv4 {
		t.Errorf("undelivered: %+v, want IPv6", core.Undelivered())
	}
	core.pair(8*time.Second, next)
	if core.Undelivered().IPv6 {
		t.Error("a client has completed its handshake, and new flows are to pass")
	}
}

func TestPassesSYNThatIsRepeatedTwiceAfterItsRelease(t *testing.T) {
	gone := false
	core := released(t, &gone)
	for i, want := range []Verdict{Deliver, Deliver, Accept} {
		at := []time.Duration{100 * time.Millisecond, time.Second, 3 * time.Second}[i] // the first is a double
		core.send(at, uint32(8+i), syn(t, mss))
		if d, _ := core.decision(); d.Verdict != want {
			t.Errorf("the repeat after %v: %+v, want the verdict %v", at, d, want)
		}
	}
}

func TestWaitingHandshakesMeanNothingBesideOthersThatAreCompleted(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 1, syn(t, mss))
	core.pair(0, key6)
	for i := range enoughStuck {
		k := state.KeyOf(netip.AddrPortFrom(client6.Addr(), uint16(50_000+i)), server6)
		core.decide(0, state.Plain, uint32(i), NewSYN(k.Client(), k.Server(), false))
		core.dialed(0, k, nil)
	}
	tick := func(from, to time.Duration) {
		for at := from; at <= to; at += ExpireEvery {
			core.acts = core.Tick(core.acts[:0], at)
		}
	}
	tick(0, stuckAfter+time.Second)
	if core.Undelivered().IPv6 {
		t.Error("new flows pass, although a handshake was completed lately")
	}
}

func TestNewFlowsPassWhileTheFirstHandshakeWaits(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 1, syn(t, mss))
	core.dialed(0, key6, nil)
	for at := time.Duration(0); at <= stuckAfter; at += ExpireEvery {
		core.acts = core.Tick(core.acts[:0], at)
	}
	next := netip.AddrPortFrom(client6.Addr(), 50_000)
	if d := core.decide(stuckAfter, state.Plain, 9, NewSYN(next, server6, false)); d.Verdict != Accept || d.Reason != state.NotDelivered {
		t.Errorf("a new flow: %+v, want it to pass", d)
	}
	if d := core.decide(stuckAfter, state.Plain, 10, NewSYN(client4, server4, false)); d.Verdict != Hold {
		t.Errorf("one of the other family: %+v, want it held", d)
	}
}

func TestOneLossPassesOneFlowBesideOthersThatAreCompleted(t *testing.T) {
	gone := true
	core := released(t, &gone)
	other := state.KeyOf(netip.AddrPortFrom(client6.Addr(), 50_000), server6)
	core.decide(0, state.Plain, 8, NewSYN(other.Client(), other.Server(), false))
	core.pair(0, other)
	core.send(time.Second, 9, syn(t, mss))
	if d, _ := core.decision(); d.Verdict != Accept {
		t.Errorf("the repeat: %+v, want it to pass", d)
	}
	next := netip.AddrPortFrom(client6.Addr(), 50_001)
	if d := core.decide(2*time.Second, state.Plain, 10, NewSYN(next, server6, false)); d.Verdict != Hold {
		t.Errorf("the next flow: %+v, want it held", d)
	}
}

func TestFlowsPassOfAFamilyThatIsStopped(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t, mss)) // is held
	core.acts = core.SetStopped(nil, time.Second, Stopped{IPv6: true})
	if d, ok := core.decision(); !ok || d.Verdict != Accept || d.Reason != state.Filtered || d.Packet.ID != 7 {
		t.Errorf("the SYN that is held: %+v, want it to pass", core.acts)
	}
	if d := core.decide(time.Second, state.Multipath, 8, NewSYN(server6, client6, true)); d.Verdict != Rewrite || d.Reason != state.Filtered {
		t.Errorf("from the other box: %+v, want its MP_CAPABLE removed", d)
	}
	if d := core.decide(time.Second, state.Plain, 9, NewSYN(client4, server4, false)); d.Verdict != Hold {
		t.Errorf("of the other family: %+v, want it held", d)
	}
	core.SetStopped(nil, time.Second, Stopped{})
	next := netip.AddrPortFrom(client6.Addr(), 50_000)
	if d := core.decide(time.Second, state.Plain, 10, NewSYN(next, server6, false)); d.Verdict != Hold {
		t.Errorf("when nothing is stopped: %+v, want it held", d)
	}
}

func TestPassesSYNWhoseDialThisMachineRefuses(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EACCES, syscall.ENETUNREACH, syscall.EHOSTUNREACH} {
		core := newCore(t, state.Relay)
		core.decide(0, state.Plain, 7, syn(t, mss))
		core.acts = core.DialEnded(core.acts[:0], 0, core.id(key6), Dialed{Err: errno, Here: true})
		if d, ok := core.decision(); !ok || d.Verdict != Accept || d.Reason != state.DialFailed {
			t.Errorf("%v: %+v, want the SYN to pass", errno, core.acts)
		}
	}
}
