package paths

import (
	"testing"
	"time"
)

// testPath is a path with a round trip of 40 ms, in a time of its own.
type testPath struct {
	*Health
	now      time.Time
	sequence uint64
	packets  LinkCounters
	dead     bool // no reply comes back
	full     bool // packets are received although replies are missing
	idle     bool // only probes are sent
	sole     bool
	loses    uint64        // one of this number of probes is lost; 0 for none
	coming   []outstanding // replies in flight
}

const pathRTT = 40 * time.Millisecond

func newTestPath(t *testing.T, cfg ProbeConfig) *testPath {
	t.Helper()
	cfg, err := cfg.WithDefaults()
	check(t, err)
	epoch := time.Unix(1000, 0)
	l := &testPath{Health: NewHealth(cfg, epoch), now: epoch}
	l.SetLink("")
	l.Check(epoch, false)
	return l
}

// run lets time pass in steps of a millisecond, and returns for how long the
// path was in the state that it was in first.
func (l *testPath) run(d time.Duration) (kept time.Duration) {
	begun, was, end := l.now, l.up, l.now.Add(d)
	for l.now.Before(end) {
		l.now = l.now.Add(time.Millisecond)
		l.pass()
		if l.up == was {
			kept = l.now.Sub(begun)
		} else {
			was = !l.up // never again
		}
	}
	return kept
}

func (l *testPath) pass() {
	if !l.dead {
		for len(l.coming) > 0 && !l.coming[0].at.After(l.now) {
			l.packets.ReceivedPackets++
			l.Received()
			if l.Expects(l.coming[0].sequence) {
				l.Replied(l.now, l.coming[0].sequence)
			}
			l.coming = l.coming[1:]
		}
	}
	if !l.idle && (!l.dead || l.full) {
		l.packets.ReceivedPackets += 2
		l.packets.SentPackets++
	}
	l.Observe(l.now, l.packets)
	l.Check(l.now, l.sole)
	if l.Due(l.now) {
		l.sequence++
		l.Probed(l.now, l.sequence, true)
		l.packets.SentPackets++
		if !l.dead && (l.loses == 0 || l.sequence%l.loses != 0) {
			l.coming = append(l.coming, outstanding{l.sequence, l.now.Add(pathRTT)})
		}
	}
}

func TestHealthFollowsTheConditionOfThePath(t *testing.T) {
	type step struct {
		name     string
		do       func(*testPath)
		time     time.Duration
		up       bool
		reason   string
		min, max time.Duration // for which the state before lasted; max 0: it is not looked at
	}
	silent := func(l *testPath) { l.dead, l.coming = true, nil }
	back := func(l *testPath) { l.dead = false }
	idle := func(l *testPath) { l.idle = true }
	nothing := func(*testPath) {}
	for _, c := range []struct {
		name  string
		cfg   ProbeConfig
		steps []step
	}{
		{"a busy path goes silent and comes back", ProbeConfig{}, []step{
			{"busy", nothing, 10 * time.Second, true, "", 10 * time.Second, 0},
			{"silent", silent, 5 * time.Second, false, reasonSilent, 190 * time.Millisecond, 260 * time.Millisecond},
			{"back", back, 3 * time.Second, true, "", time.Second, 2100 * time.Millisecond},
		}},
		{"an idle path goes silent", ProbeConfig{}, []step{
			{"idle", idle, time.Minute, true, "", time.Minute, 0},
			{"silent", silent, 10 * time.Second, false, reasonSilent, 0, 6 * time.Second},
		}},
		{"a path without any reply follows its link", ProbeConfig{}, []step{
			{"silent", silent, time.Minute, true, "", time.Minute, 0},
			{"unplugged", func(l *testPath) { l.SetLink(reasonCarrier) }, time.Second, false, reasonCarrier, 0, 2 * time.Millisecond},
			{"plugged", func(l *testPath) { l.SetLink("") }, 2 * time.Second, true, "", time.Second, 1002 * time.Millisecond},
		}},
		{"a full path may reply late, but not too late", ProbeConfig{}, []step{
			{"busy", nothing, time.Second, true, "", time.Second, 0},
			{"late", func(l *testPath) { l.dead, l.full, l.coming = true, true, nil }, 1900 * time.Millisecond, true, "", 0, 0},
			{"too late", nothing, 200 * time.Millisecond, false, reasonSilent, 0, 0},
		}},
		{"a path that comes back with its link must get replies again", ProbeConfig{}, []step{
			{"busy", nothing, time.Second, true, "", time.Second, 0},
			{"unplugged", func(l *testPath) { silent(l); l.SetLink(reasonCarrier) }, time.Second, false, reasonCarrier, 0, 2 * time.Millisecond},
			{"plugged, silent", func(l *testPath) { l.SetLink("") }, 10 * time.Second, false, reasonSilent, 0, 0},
			{"answers", back, 4 * time.Second, true, "", 0, 0},
		}},
		{"the only path is not held back", ProbeConfig{Hold: time.Minute}, []step{
			{"busy", nothing, time.Second, true, "", time.Second, 0},
			{"unplugged", func(l *testPath) { l.sole = true; l.SetLink(reasonCarrier) }, time.Second, false, reasonCarrier, 0, 0},
			{"plugged", func(l *testPath) { l.SetLink("") }, time.Second, true, "", pathRTT, 2 * pathRTT},
		}},
		{"a refused path is up, with a reason", ProbeConfig{}, []step{
			{"busy", nothing, time.Second, true, "", time.Second, 0},
			{"refused", func(l *testPath) { silent(l); l.Refused(l.now, "") }, 100 * time.Millisecond, true, reasonRefused, 0, 0},
			{"and then silent", nothing, 10 * time.Second, false, reasonSilent, 0, 0},
		}},
		{"a HAG that denies probes leaves the link to decide", ProbeConfig{}, []step{
			{"denied", func(l *testPath) { silent(l); l.Refused(l.now, "why") }, time.Minute, true, "why", time.Minute, 0},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newTestPath(t, c.cfg)
			for _, s := range c.steps {
				s.do(l)
				kept := l.run(s.time)
				if l.up != s.up || l.note() != s.reason {
					t.Fatalf("%s: up %v (%q), want %v (%q)", s.name, l.up, l.note(), s.up, s.reason)
				}
				if kept < s.min || s.max > 0 && kept > s.max {
					t.Errorf("%s: changed after %v, want %v to %v", s.name, kept, s.min, s.max)
				}
			}
		})
	}
}

func TestPathThatFlapsIsHeldBackLongerEachTime(t *testing.T) {
	l := newTestPath(t, ProbeConfig{})
	l.run(10 * time.Second)
	flap := func() time.Duration {
		l.SetLink(reasonCarrier)
		l.run(time.Second)
		l.SetLink("")
		return l.run(2 * maxHold).Truncate(time.Second)
	}
	// Each return is awaited for two minutes: all but the first few fall together.
	for _, want := range []time.Duration{1, 1, 1} {
		if got := flap(); got != want*time.Second {
			t.Errorf("after a calm time: held back for %v, want %v s", got, want)
		}
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		l.SetLink(reasonCarrier)
		l.run(time.Second)
		l.SetLink("")
		if got := l.run((want + 1) * time.Second).Truncate(time.Second); got != want*time.Second {
			t.Errorf("held back for %v, want %v s", got, want)
		}
		if !l.up {
			t.Fatalf("not back: %q", l.note())
		}
	}
}

func TestIdlePathIsProbedSeldom(t *testing.T) {
	l := newTestPath(t, ProbeConfig{})
	l.idle = true
	l.run(time.Second)
	before := l.sent
	l.run(10 * time.Minute)
	if n := l.sent - before; n < 100 || n > 130 {
		t.Errorf("%d probes in ten minutes", n)
	}
	// One that is lost is followed by a few.
	before = l.sent
	for range 10 {
		l.dead, l.coming = true, nil
		for sent := l.sent; l.sent == sent; {
			l.run(time.Millisecond)
		}
		l.dead = false
		l.run(time.Minute)
	}
	if n := l.sent - before; n > 10*20 {
		t.Errorf("%d probes in ten minutes with ten losses", n)
	}
	// A packet now and then costs a probe each, not more.
	before = l.sent
	for range 100 {
		l.packets.SentPackets++
		l.run(time.Second)
	}
	if n := l.sent - before; n < 90 || n > 140 {
		t.Errorf("%d probes for 100 packets", n)
	}
}

func TestLossAndRoundTripAreMeasured(t *testing.T) {
	l := newTestPath(t, ProbeConfig{})
	l.loses = 4
	if kept := l.run(time.Minute); kept < time.Minute {
		t.Errorf("it went down after %v: %s", kept, l.note())
	}
	s := l.Status()
	if s.RTT.Round(time.Millisecond) != pathRTT || s.MinRTT != pathRTT || s.RTTVar > time.Millisecond {
		t.Errorf("round trip %v, least %v, variation %v", s.RTT, s.MinRTT, s.RTTVar)
	}
	if s.Loss != 0.25 || s.Missed+4 < s.Sent/4 || s.Missed > s.Sent/4 {
		t.Errorf("loss %v: %d of %d", s.Loss, s.Missed, s.Sent)
	}
}

func TestProbeConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		cfg ProbeConfig
		ok  bool
	}{
		{ProbeConfig{}, true},
		{ProbeConfig{Every: time.Millisecond}, false},
		{ProbeConfig{Idle: MaxProbeIdle}, true},
		{ProbeConfig{Idle: MaxProbeIdle + 1}, false},
		{ProbeConfig{Silence: -1}, false},
		{ProbeConfig{Hold: time.Hour}, false},
	} {
		if _, err := c.cfg.WithDefaults(); (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.cfg, err)
		}
	}
}
