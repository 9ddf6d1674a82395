package paths

import (
	"math"
	"testing"
	"time"
)

// measured is a [Metered] connection over three lines: each delivers at its rate, and what
// the others deliver waits for the slowest for a time.
type measured struct {
	k         *fakeKernel
	token     uint32
	direction Direction
	rates     []float64 // bytes/s, by path
	wait      time.Duration
	rtts      []time.Duration

	delivered [MaxPaths]float64
	missing   float64 // bytes received that wait
}

func (m *measured) sum() (n float64) {
	for _, d := range m.delivered {
		n += d
	}
	return n
}

func (m *measured) carried(d Direction) uint64 {
	if d != m.direction {
		return 0
	}
	return uint64(m.sum())
}

func (m *measured) BytesUp() uint64   { return m.carried(Sent) }
func (m *measured) BytesDown() uint64 { return m.carried(Received) }

func (m *measured) Unacknowledged() int { return 0 }
func (m *measured) Ending() bool        { return false }

// Progress implements Metered.
func (m *measured) Progress() (p Progress, ok bool) {
	for _, s := range m.k.open[m.token] {
		i := m.k.pathOf(s)
		sub := SubflowProgress{Local: s.Local, MinRTT: m.rtts[i]}
		sub.Delivered[m.direction] = uint64(m.delivered[i])
		p.Subflows = append(p.Subflows, sub)
	}
	if m.direction == Sent {
		p.Waiting = uint64(m.missing)
	} else {
		p.InOrder, p.Buffered = uint64(m.sum()-m.missing), uint64(m.missing)
	}
	return p, true
}

// transfer has a connection carry bytes for a time.
func (m *measured) transfer(d time.Duration) {
	for end := m.k.now + d; m.k.now < end; {
		all, next := m.k.Watch()
		if next == 0 { // nothing is watched
			next = restInterval
		}
		next = min(next, end-m.k.now)
		var rate float64
		for _, s := range m.k.open[m.token] {
			i := m.k.pathOf(s)
			if m.k.conns[m.token].subflows[i].told != Backup {
				m.delivered[i] += m.rates[i] * next.Seconds()
				rate += m.rates[i]
			}
		}
		m.missing = math.Min(m.missing+rate*next.Seconds(), rate*m.wait.Seconds())
		m.k.run(next)
		for _, w := range all {
			p, _ := w.Metered.Progress()
			m.k.Observe(m.k.now, w.Token, p)
		}
	}
}

// isBackup reports whether a connection's subflow on the second path is a backup.
func (k *fakeKernel) isBackup(token uint32, path int) bool {
	k.run(10 * time.Millisecond)
	return k.conns[token].subflows[path].told == Backup
}

func measure(k *fakeKernel, token uint32, d Direction, rates []float64, wait time.Duration) *measured {
	m := &measured{k: k, token: token, direction: d, rates: rates, wait: wait, rtts: make([]time.Duration, MaxPaths)}
	m.delivered[0] = 1
	k.connect(token, SubflowPolicy{}, m)
	k.SetLarge(token)
	k.run(200 * time.Millisecond)
	return m
}

// TestLooksAtLargeConnectionsStopWithThem has the time between two looks depend on the work.
func TestLooksAtLargeConnectionsStopWithThem(t *testing.T) {
	k := newFakeKernel(t)
	if all, next := k.Watch(); len(all) > 0 || next != 0 || k.Watches() {
		t.Errorf("without connections: %d to watch, next in %v", len(all), next)
	}
	m := measure(k, 1, Received, []float64{5e6, 5e6}, 0)
	if !k.Watches() {
		t.Error("a large connection is not watched")
	}
	m.transfer(time.Second)
	if all, next := k.Watch(); len(all) != 1 || next >= restInterval {
		t.Errorf("during a transfer: %d to watch, next in %v", len(all), next)
	}
	for range stallLooks {
		k.Watch()
	}
	if all, next := k.Watch(); len(all) > 0 || next != restInterval || !k.Watches() {
		t.Errorf("after a transfer: %d to watch, next in %v", len(all), next)
	}
	k.Forget(1)
	if _, next := k.Watch(); next != 0 || k.Watches() {
		t.Errorf("after the connection: next in %v", next)
	}
}

func TestSlowPathBecomesABackup(t *testing.T) {
	for _, c := range []struct {
		name  string
		rates []float64
		wait  time.Duration
		far   time.Duration // round trip of the second path
		path  int           // that lags, or -1
	}{
		{"far slower, and all wait for it", []float64{5e6, 250e3}, 500 * time.Millisecond, 0, 1},
		{"the first path is far slower", []float64{250e3, 5e6}, 500 * time.Millisecond, 0, 0},
		{"far slower, but nothing waits for long", []float64{5e6, 250e3}, 100 * time.Millisecond, 0, -1},
		{"far slower, and far", []float64{5e6, 250e3}, 500 * time.Millisecond, 300 * time.Millisecond, -1},
		{"a fifth: some wait is worth it", []float64{4e6, 1e6}, 300 * time.Millisecond, 0, -1},
		{"a fifth: a long wait is not", []float64{4e6, 1e6}, 1200 * time.Millisecond, 0, 1},
		{"equal paths", []float64{5e6, 5e6}, 800 * time.Millisecond, 0, -1},
	} {
		for d := range directions {
			t.Run(c.name+", "+d.String(), func(t *testing.T) {
				k := newFakeKernel(t)
				m := measure(k, 1, d, c.rates, c.wait)
				m.rtts[1] = c.far
				m.transfer(2 * time.Second)
				for i := range c.rates {
					if got := k.isBackup(1, i); got != (i == c.path) {
						t.Errorf("path %d is a backup: %v", i, got)
					}
				}
				k.expect("afterwards", 1, 0, 1)
			})
		}
	}
}

func TestLagIsOfOneDirectionAndForNewConnectionsToo(t *testing.T) {
	k := newFakeKernel(t)
	rates := []float64{5e6, 250e3}
	measure(k, 1, Sent, rates, time.Second).transfer(time.Second)
	other := measure(k, 2, Sent, rates, 0)
	reverse := measure(k, 3, Received, rates, 0)
	if !k.isBackup(1, 1) || !k.isBackup(2, 1) || k.isBackup(3, 1) {
		t.Error("want a backup for the connections that send, and none for the other one")
	}
	if got := k.Lagging(); len(got[0]) != 0 || len(got[1]) != 1 || got[1][0] != Sent {
		t.Errorf("paths lag in %v", got)
	}
	for _, m := range []*measured{other, reverse} {
		m.transfer(100 * time.Millisecond)
	}
	k.SetDesired([]DesiredState{Closed, Normal})
	if k.isBackup(2, 1) {
		t.Error("the only path is a backup")
	}
}

func TestSlowPathIsTriedAgainLater(t *testing.T) {
	k := newFakeKernel(t)
	m := measure(k, 1, Received, []float64{5e6, 250e3}, time.Second)
	m.transfer(time.Second)
	var held []time.Duration
	for range 3 {
		if !k.isBackup(1, 1) {
			t.Fatal("the path is no backup")
		}
		began := k.now
		m.missing = 0
		m.wait = 0
		for k.isBackup(1, 1) && k.now < began+time.Hour {
			m.transfer(time.Second)
		}
		held = append(held, (k.now - began).Round(5*time.Second))
		m.wait = time.Second
		m.transfer(2 * time.Second)
	}
	if held[0] < lagHold-5*time.Second || held[1] < held[0]*3/2 || held[2] < held[1]*3/2 {
		t.Errorf("the path was a backup for %v", held)
	}
	m.wait, m.rates[1] = 0, 5e6 // the line has become fast
	m.transfer(10 * time.Minute)
	if k.isBackup(1, 1) {
		t.Error("a path that is fast now stays a backup")
	}
}

func TestLargeConnectionLeavesASlowFirstPath(t *testing.T) {
	k := newFakeKernel(t)
	rates := []float64{250e3, 5e6}
	measure(k, 1, Received, rates, time.Second).transfer(time.Second)
	k.sent = nil
	measure(k, 2, Received, rates, 0)
	if got := k.requested(DestroySubflow, 0); len(got) != 1 || got[0].Token != 2 {
		t.Errorf("ended: %+v", got)
	}
	k.run(time.Second)
	k.expect("afterwards", 2, 0, 1)
	if !k.isBackup(2, 0) {
		t.Error("the first path is no backup")
	}
}

func TestSlowSubflowIsRenewed(t *testing.T) {
	k := newFakeKernel(t)
	m := measure(k, 1, Received, []float64{5e6, 250e3}, time.Second)
	k.sent = nil
	m.transfer(time.Second)
	sent := k.sent
	if len(k.requested(DestroySubflow, 1)) != 1 {
		t.Errorf("requests %+v", sent)
	}
	k.sent = sent
	if again := k.requested(CreateSubflow, 1); len(again) != 1 || !again[0].Backup {
		t.Errorf("it was opened again by %+v", again)
	}
}
