package state

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// model is the table in the plainest way: a list of all flows, by when they
// came into their state.
type model struct {
	cfg   Config
	flows []*Flow
}

func (m *model) find(k Key, live bool) int {
	return slices.IndexFunc(m.flows, func(f *Flow) bool { return f.Key == k && (f.State.Live() || !live) })
}

// put appends f, and forgets the oldest ended flow where there are too many.
func (m *model) put(f *Flow) {
	m.flows = append(m.flows, f)
	ended, oldest := 0, -1
	for i, f := range m.flows {
		if !f.State.Live() {
			if ended++; oldest < 0 {
				oldest = i
			}
		}
	}
	if ended > m.cfg.MaxEnded {
		m.flows = slices.Delete(m.flows, oldest, oldest+1)
	}
}

func (m *model) begin(now time.Duration, k Key, s State, held uint32) {
	if i := m.find(k, false); i >= 0 {
		m.flows = slices.Delete(m.flows, i, i+1)
	}
	m.put(&Flow{Key: k, State: s, Held: held, Began: now, Changed: now})
}

func (m *model) move(now time.Duration, k Key, to State, reason Reason) bool {
	i := m.find(k, true)
	if i < 0 || !legal[[2]State{m.flows[i].State, to}] {
		return false
	}
	f := m.flows[i]
	f.Reason = reason
	if to == Dialing {
		return true
	}
	m.flows = slices.Delete(m.flows, i, i+1)
	f.State, f.Changed = to, now
	if to == Relaying {
		f.Setup = now - f.Began
	}
	m.put(f)
	return true
}

// expire does what Table.Expire does without a limit.
func (m *model) expire(now time.Duration) (moved int) {
	for _, s := range []State{Dialing, Released, Closed} {
		timeout := map[State]time.Duration{Dialing: m.cfg.Dial, Released: m.cfg.HalfOpen, Closed: m.cfg.Memory}[s]
		for _, f := range slices.Clone(m.flows) {
			due := f.State == s || s == Closed && !f.State.Live()
			if !due || now-f.Changed < timeout {
				continue
			}
			if s == Closed {
				m.flows = slices.DeleteFunc(m.flows, func(g *Flow) bool { return f == g })
				continue
			}
			moved++
			m.move(now, f.Key, map[State]State{Dialing: TimedOut, Released: Abandoned}[s], NoAnswer)
		}
	}
	return moved
}

// same compares what a caller can see.
func same(a, b Flow) bool {
	return a.Key == b.Key && a.State == b.State && a.Reason == b.Reason && a.Held == b.Held &&
		a.Began == b.Began && a.Changed == b.Changed && a.Setup == b.Setup
}

func (m *model) compare(t *testing.T, table *Table, step int) {
	t.Helper()
	got := all(table)
	if len(got) != len(m.flows) {
		t.Fatalf("step %d: %d flows, want %d", step, len(got), len(m.flows))
	}
	live := 0
	for _, want := range m.flows {
		if f := got[want.Key]; !same(f, *want) {
			t.Fatalf("step %d: %+v, want %+v", step, f, *want)
		}
		if want.State.Live() {
			live++
		}
	}
	sum := 0
	for _, n := range table.Totals().Live {
		sum += n
	}
	if sum != live {
		t.Fatalf("step %d: %d live flows are counted, want %d", step, sum, live)
	}
}

func TestTableBehavesLikeAPlainList(t *testing.T) {
	cfg := Config{MaxEnded: 7, Dial: 40, HalfOpen: 60, Memory: 50}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		table, m := NewTable(cfg), &model{cfg: cfg}
		var now time.Duration
		for step := range 2000 {
			now += time.Duration(rnd.IntN(4))
			k := nth(rnd.IntN(24))
			switch op := rnd.IntN(10); op {
			case 0, 1, 2: // as box does: a SYN of a live flow is a repeat
				held := rnd.Uint32()
				i := m.find(k, true)
				s := []State{Dialing, Dialing, Passed, Rejected}[rnd.IntN(4)]
				if b := table.Begin(now, Flow{Key: k, State: s, Held: held}); b.Repeat != (i >= 0) {
					t.Fatalf("seed %d, step %d: %+v", seed, step, b)
				}
				if i >= 0 {
					if m.flows[i].State == Dialing {
						m.flows[i].Held = held
					}
					break
				}
				m.begin(now, k, s, held)
			case 9:
				if got, want := len(table.Expire(now, 1000)), m.expire(now); got != want {
					t.Fatalf("seed %d, step %d: %d flows expired, want %d", seed, step, got, want)
				}
			default:
				to := State(rnd.IntN(int(NumStates)))
				if _, ok := move(table, now, k, to, NoRoute); ok != m.move(now, k, to, NoRoute) {
					t.Fatalf("seed %d, step %d: move to %v: %v", seed, step, to, ok)
				}
			}
			m.compare(t, table, step)
		}
	}
}

// move moves the flow with key k.
func move(t *Table, now time.Duration, k Key, to State, why Reason) (Flow, bool) {
	f, _ := t.Last(k)
	return t.Move(now, f.ID, to, why)
}

func TestAllYieldsEveryFlowThatStaysWhileOthersComeAndGo(t *testing.T) {
	const stay = 3 * page
	table := NewTable(Config{MaxEnded: 10})
	for n := range stay {
		bring(t, table, nth(n), Relaying)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				k := nth(stay + 1000*w + n%1000)
				table.Begin(0, Flow{Key: k, State: Dialing})
				table.ByID(ID(n))
				table.Begin(0, Flow{Key: k, State: Dialing, Held: uint32(n)})
				move(table, 0, k, Failed, FilesFull)
				table.Expire(time.Duration(n), 1)
				table.Totals()
			}
		})
	}
	for range 30 {
		seen := make(map[Key]int)
		for f := range table.All() {
			seen[f.Key]++
		}
		for n := range stay {
			if seen[nth(n)] != 1 {
				t.Errorf("flow %d was yielded %d times", n, seen[nth(n)])
			}
		}
	}
	close(stop)
	wg.Wait()
}

func TestAllMayBeLeftEarlyAndItsCallerMayUseTheTable(t *testing.T) {
	table := NewTable(Config{})
	for n := range 2*page + 5 {
		bring(t, table, nth(n), Dialing)
	}
	for _, limit := range []int{1, page, page + 1, 2*page + 5} {
		n := 0
		for range table.All() {
			table.Count(NotASYN) // would hang if the lock were held
			if n++; n == limit {
				break
			}
		}
		if n != limit {
			t.Errorf("%d flows were yielded, want %d", n, limit)
		}
		table.Count(NotASYN)
	}
}
