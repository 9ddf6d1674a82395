package state

import (
	"net/netip"
	"testing"
	"time"
)

func keyNumber(n uint16) Key {
	return KeyOf(netip.AddrPortFrom(netip.IPv6Loopback(), n), netip.AddrPortFrom(netip.IPv6Loopback(), 1))
}

func TestConfigureBoundsATableThatRuns(t *testing.T) {
	table := NewTable(Config{MaxFlows: 10, MaxHalfOpen: 10, MaxEnded: 10, Dial: time.Hour})
	for n := range uint16(5) {
		table.Begin(0, Flow{Key: keyNumber(n), State: Dialing})
		table.Begin(0, Flow{Key: keyNumber(100 + n), State: Passed})
	}
	table.Configure(Config{MaxFlows: 10, MaxHalfOpen: 5, MaxEnded: 2, Dial: time.Second})
	ended := 0
	for f := range table.All() {
		if !f.State.Live() {
			ended++
		}
	}
	if ended != 2 {
		t.Errorf("%d ended flows are remembered, want 2", ended)
	}
	if b := table.Begin(0, Flow{Key: keyNumber(9), State: Dialing}); b.Full != HalfOpenFull {
		t.Errorf("beyond the new limit: %+v", b)
	}
	if moved := table.Expire(time.Second, 100); len(moved) != 5 || moved[0].State != TimedOut {
		t.Errorf("after the new time: %+v", moved)
	}
	table.Configure(Config{})
	if b := table.Begin(0, Flow{Key: keyNumber(9), State: Dialing}); b.Full != None {
		t.Errorf("below the old limit: %+v", b)
	}
}

func TestConfigureBoundsWhatWasLearnt(t *testing.T) {
	l := NewLearnt(LearntConfig{Max: 10, TTL: time.Hour})
	addr := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, n}) }
	for n := range byte(5) {
		l.Learn(0, addr(n), true)
	}
	l.Configure(LearntConfig{Max: 2, TTL: time.Second, Bits4: 8})
	_, first := l.Known(0, addr(0))
	_, last := l.Known(time.Minute, addr(4))
	if l.Len() != 2 || first || !last {
		t.Errorf("%d are known, the first: %v, the last: %v", l.Len(), first, last)
	}
	l.Learn(0, addr(9), true)
	if _, known := l.Known(time.Second, addr(9)); known {
		t.Error("the new time does not hold for what is learnt from now on")
	}
	if _, known := l.Known(0, addr(5)); known {
		t.Error("the length of prefixes has changed")
	}
}
