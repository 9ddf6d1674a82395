package guard

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// machine is a machine with two vital things and a setting, for a guard whose clock the
// test moves.
type machine struct {
	*Guard
	t       *testing.T
	now     time.Duration
	changed map[string]string // by thing
	mended  map[string]int
	failing error // of all mending
	asides  int
	returns int
	told    int
	log     bytes.Buffer
}

const vital, other, setting = "rules", "routes", "setting"

func newMachine(t *testing.T) *machine {
	m := &machine{t: t, changed: make(map[string]string), mended: make(map[string]int)}
	thing := func(name string, vital bool) Thing {
		return Thing{
			Name: name, Vital: vital,
			Look: func() (string, error) { return m.changed[name], nil },
			Mend: func() error {
				if m.failing != nil {
					return m.failing
				}
				m.mended[name]++
				delete(m.changed, name)
				return nil
			},
		}
	}
	m.Guard = New(Config{
		Log: slog.New(slog.NewTextHandler(&m.log, nil)), Now: func() time.Duration { return m.now },
		Aside: func() error { m.asides++; return nil },
		Return: func() error {
			m.returns++
			if m.failing == nil {
				clear(m.changed)
			}
			return m.failing
		},
		Changed: func() { m.told++; m.Statuses() }, // it may ask
	}, thing(vital, true), thing(other, true), thing(setting, false))
	return m
}

// change has others change a thing, and the guard look, that many times.
func (m *machine) change(thing string, times int, every time.Duration) {
	for range times {
		m.now += every
		m.changed[thing] = "gone"
		m.Look()
	}
}

func (m *machine) status(thing string) Status {
	all := m.Statuses()
	return all[slices.IndexFunc(all, func(s Status) bool { return s.Thing == thing })]
}

// lines returns the number of lines of the log with these words.
func (m *machine) lines(words string) int { return strings.Count(m.log.String(), words) }

func TestChangesArePutBackWithOneLineEach(t *testing.T) {
	m := newMachine(t)
	m.Look()
	if m.log.Len() > 0 {
		t.Errorf("nothing has changed: %s", &m.log)
	}
	m.Suspect(setting, "sysctl")
	m.change(setting, 1, time.Second)
	m.change(vital, 2, time.Second)
	if m.mended[setting] != 1 || m.mended[vital] != 2 || m.lines("\n") != 3 || m.lines(`msg="setting: gone; put back" by=sysctl`) != 1 {
		t.Errorf("mended %v, log:\n%s", m.mended, &m.log)
	}
	if s := m.status(setting); s.Changes != 1 || s.By != "sysctl" || s.Last != "gone" || s.At != time.Second || s.Left {
		t.Errorf("status %+v", s)
	}
	if s := m.status(other); s.Changes != 0 {
		t.Errorf("status of what has not changed: %+v", s)
	}
}

// TestBurstIsOneChange has a program remove many parts of a thing one after the other.
func TestBurstIsOneChange(t *testing.T) {
	m := newMachine(t)
	m.change(vital, 20, burst/20)
	if m.mended[vital] != 20 || m.status(vital).Changes != 1 || m.lines("put back") != 1 {
		t.Errorf("mended %v, status %+v, log:\n%s", m.mended, m.status(vital), &m.log)
	}
}

func TestRareChangesGoOnBeingPutBack(t *testing.T) {
	m := newMachine(t)
	m.change(vital, 100, contestWindow/(contestLimit-1)+1)
	if m.mended[vital] != 100 || m.asides != 0 {
		t.Errorf("mended %v, aside %d times", m.mended, m.asides)
	}
}

func TestStandsAsideWhenAVitalThingIsContested(t *testing.T) {
	m := newMachine(t)
	m.Suspect(vital, "")
	for i := range contestLimit {
		m.Suspect(vital, []string{"nft", "firewalld"}[i%2])
		m.change(vital, 1, time.Second)
	}
	if m.mended[vital] != contestLimit-1 || m.asides != 1 || m.told != 1 {
		t.Fatalf("mended %v, aside %d times, told %d times", m.mended, m.asides, m.told)
	}
	if m.lines("level=ERROR") != 1 || m.lines("stands aside") != 1 || m.lines(`by="nft, firewalld"`) != 1 {
		t.Errorf("log:\n%s", &m.log)
	}
	if s := m.status(vital); !s.Left || s.Until != m.now+firstPause || !slices.Equal(s.Culprits, []string{"nft", "firewalld"}) {
		t.Errorf("status %+v", s)
	}
	mended := m.mended[other]
	m.change(other, 3, time.Second) // it is as vital, and has been removed
	if m.mended[other] != mended {
		t.Error("a vital thing is mended while the box stands aside")
	}
	m.change(setting, 1, time.Second)
	if m.mended[setting] != 1 {
		t.Error("settings are not kept while the box stands aside")
	}
	ran := false
	if err := m.Vitally(func() error { ran = true; return nil }); err != nil || ran {
		t.Errorf("vital work is done while the box stands aside: %v", err)
	}
	m.now += firstPause
	m.Look()
	if m.returns != 1 || m.status(vital).Left || m.told != 2 || m.lines("takes connections again") != 1 {
		t.Errorf("it does not come back: %+v, log:\n%s", m.status(vital), &m.log)
	}
	if err := m.Vitally(func() error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("vital work is not done: %v", err)
	}
	m.change(vital, 1, time.Second)
	if m.mended[vital] != contestLimit {
		t.Error("a change after the return is not put back")
	}
}

func TestPausesGrowWhileTheContestGoesOn(t *testing.T) {
	m := newMachine(t)
	want := firstPause
	for range 6 {
		m.change(vital, contestLimit, time.Second)
		if got := m.status(vital).Until - m.now; got != want {
			t.Fatalf("pause of %v, want %v", got, want)
		}
		m.now += want
		m.Look()
		want = min(2*want, longestPause)
	}
	m.now += contestWindow
	m.change(vital, contestLimit, time.Second)
	if got := m.status(vital).Until - m.now; got != firstPause {
		t.Errorf("after a quiet time the pause is %v, want %v", got, firstPause)
	}
}

func TestContestedSettingIsLeftToOthers(t *testing.T) {
	m := newMachine(t)
	m.change(setting, contestLimit, time.Second)
	if m.asides != 0 || !m.status(setting).Left || m.lines("leaves it as others want it") != 1 {
		t.Fatalf("status %+v, log:\n%s", m.status(setting), &m.log)
	}
	m.change(setting, 5, time.Second)
	if m.mended[setting] != contestLimit-1 {
		t.Error("a setting that is left is changed")
	}
	m.now += firstPause
	m.Look()
	if m.mended[setting] != contestLimit || m.lines("tries again to keep setting") != 1 {
		t.Errorf("it is not tried again: %v, log:\n%s", m.mended, &m.log)
	}
}

// TestFailuresAreSaidOnce has the kernel refuse what the guard does.
func TestFailuresAreSaidOnce(t *testing.T) {
	m := newMachine(t)
	m.failing = errors.New("refused")
	m.change(vital, contestLimit-1, time.Second)
	m.change(setting, 2*contestLimit, time.Second)
	if m.lines("cannot be put back") != 2 || m.status(setting).Changes != 1 || m.status(setting).Left {
		t.Errorf("status of the setting %+v, log:\n%s", m.status(setting), &m.log)
	}
	m.change(vital, 1, time.Second)
	if m.asides != 1 {
		t.Error("the box does not stand aside while it cannot put back what it needs")
	}
	for i := 2; i < 4; i++ {
		m.now = m.status(vital).Until
		m.Look()
		if m.asides != i || !m.status(vital).Left {
			t.Errorf("after a return that failed: aside %d times, want %d, status %+v", m.asides, i, m.status(vital))
		}
	}
	m.failing = nil
	m.now = m.status(vital).Until
	m.Look()
	m.change(setting, 1, time.Second)
	if m.status(vital).Left || m.lines("setting: gone; put back") != 1 {
		t.Errorf("status %+v, log:\n%s", m.status(vital), &m.log)
	}
}

func TestLookThatFailsIsNoChange(t *testing.T) {
	var log bytes.Buffer
	looks := 0
	g := New(Config{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Duration { return 0 }}, Thing{
		Name: "thing", Look: func() (string, error) { looks++; return "", fmt.Errorf("no look: %w", errors.ErrUnsupported) },
		Mend: func() error { t.Error("it is mended"); return nil },
	})
	for range 3 {
		g.Look()
	}
	if looks != 3 || strings.Count(log.String(), "cannot look") != 1 {
		t.Errorf("%d looks, log:\n%s", looks, &log)
	}
}

// looked is a guard of things that count how often they are looked at.
type looked struct {
	*Guard
	now   time.Duration
	looks map[string]int
}

func newLooked(things ...Thing) *looked {
	l := &looked{looks: make(map[string]int)}
	for i := range things {
		name := things[i].Name
		if things[i].Look == nil {
			things[i].Look = func() (string, error) { l.looks[name]++; return "", nil }
		}
		things[i].Mend = func() error { return nil }
	}
	l.Guard = New(Config{Log: slog.New(slog.DiscardHandler), Now: func() time.Duration { return l.now }}, things...)
	return l
}

// pass lets that much time pass, with the looks of a guard without events.
func (l *looked) pass(d time.Duration) {
	for end := l.now + d; l.now < end; l.now += tick {
		l.Look()
	}
}

func TestThingsAreLookedAtAsOftenAsTheySay(t *testing.T) {
	l := newLooked(Thing{Name: "setting"}, Thing{Name: "rules", Every: 10 * tick})
	l.pass(30 * tick)
	if l.looks["setting"] != 30 || l.looks["rules"] != 3 {
		t.Errorf("looks %v", l.looks)
	}
}

func TestSuspectedThingIsLookedAtAtOnce(t *testing.T) {
	l := newLooked(Thing{Name: "rules", Every: 10 * tick}, Thing{Name: "routes", Every: 10 * tick})
	l.Look()
	l.now++
	l.Suspect("rules", "nft")
	l.Look()
	l.Look()
	if l.looks["rules"] != 2 || l.looks["routes"] != 1 {
		t.Errorf("after an event about the rules: looks %v", l.looks)
	}
	l.Suspect("", "")
	l.Look()
	l.Look()
	if l.looks["rules"] != 3 || l.looks["routes"] != 2 {
		t.Errorf("after an event about anything: looks %v", l.looks)
	}
}

func TestThingThatCannotBeLookedAtIsTriedAtEachLook(t *testing.T) {
	tries := 0
	l := newLooked(Thing{Name: "rules", Every: 10 * tick, Look: func() (string, error) {
		if tries++; tries < 4 {
			return "", errors.New("no look")
		}
		return "", nil
	}})
	l.pass(8 * tick)
	if tries != 4 {
		t.Errorf("%d tries, want 4", tries)
	}
}
