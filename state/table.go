package state

import (
	"iter"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"time"
)

// Config bounds a table. A zero field means its default.
type Config struct {
	MaxFlows    int           // live flows, default 100,000
	MaxHalfOpen int           // flows Dialing, Released or Learning, default 8,192
	MaxEnded    int           // ended flows remembered, default 4,096
	Dial        time.Duration // how long a SYN is held, default 20 s
	// HalfOpen is how long a released flow waits for the client's ACK, and a
	// learning one for the server's SYN+ACK. The
	// default, 64 s, outlasts the kernel's SYN+ACK retransmissions.
	HalfOpen time.Duration
	Memory   time.Duration // how long an ended flow is remembered, default 1 min
}

// WithDefaults returns c with every zero field replaced.
func (c Config) WithDefaults() Config {
	setDefault(&c.MaxFlows, 100_000)
	setDefault(&c.MaxHalfOpen, 8192)
	setDefault(&c.MaxEnded, 4096)
	setDefault(&c.Dial, 20*time.Second)
	setDefault(&c.HalfOpen, 64*time.Second)
	setDefault(&c.Memory, time.Minute)
	return c
}

func setDefault[T int | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// Table is the set of flows of one box. It is safe for concurrent use.
type Table struct {
	cfg     Config
	timeout [states]time.Duration // 0: never

	mu      sync.Mutex
	flows   map[Key]*Flow
	queues  [states]queue
	entered [states]uint64 // how often a flow came into each state
	reasons map[string]uint64
}

// NewTable returns an empty table.
func NewTable(cfg Config) *Table {
	cfg = cfg.WithDefaults()
	t := &Table{cfg: cfg, flows: make(map[Key]*Flow), reasons: make(map[string]uint64)}
	t.timeout[Dialing] = cfg.Dial
	t.timeout[Released] = cfg.HalfOpen
	t.timeout[Learning] = cfg.HalfOpen
	t.timeout[Closed] = cfg.Memory
	for i := range t.queues {
		t.queues[i].init()
	}
	return t
}

// Lookup returns a copy of the live flow with key k.
func (t *Table) Lookup(k Key) (Flow, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.live(k)
	if f == nil {
		return Flow{}, false
	}
	return *f, true
}

// Last returns a copy of the flow with key k, also of one that has ended, as long
// as it is remembered.
func (t *Table) Last(k Key) (Flow, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.flows[k]
	if f == nil {
		return Flow{}, false
	}
	return *f, true
}

// live returns the flow with key k unless it has ended.
func (t *Table) live(k Key) *Flow {
	if f := t.flows[k]; f != nil && f.State.Live() {
		return f
	}
	return nil
}

// Begun is what a SYN meant to the table.
type Begun struct {
	// Repeat tells that the flow is live already, in State. While it is Dialing,
	// Superseded is the SYN that it held so far, in whose place it now holds this
	// one: the newest says what the client wants now (it may have lost ECN, RFC
	// 3168, section 6.1.1, or have another sequence number).
	Repeat     bool
	State      State
	Superseded uint32
	// Other tells that the SYN is none of the live flow's: its client has begun again.
	Other bool
	// Full says, in a word, why there is no room. Nothing was recorded then.
	Full string
}

// Begin records f, which must have its Key, Side, Action, State, Reason,
// Held and ISN, in the place of an ended flow with the same key, unless there is a live
// one or f is live and the table is full.
func (t *Table) Begin(now time.Duration, f Flow) Begun {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.flows[f.Key]
	if old != nil && old.State.Live() {
		b := Begun{Repeat: true, State: old.State, Superseded: old.Held, Other: old.ISN != f.ISN}
		if old.State == Dialing {
			old.Held, old.ISN = f.Held, f.ISN
		}
		return b
	}
	if full := t.full(); f.State.Live() && full != "" {
		return Begun{Full: full}
	}
	if old != nil {
		t.queues[old.queue].remove(old)
	}
	begun := f // only what is recorded goes to the heap
	begun.Began, begun.Changed = now, now
	t.flows[f.Key] = &begun
	if f.Reason != "" {
		t.reasons[f.Reason]++
	}
	t.enter(&begun)
	return Begun{}
}

// halfOpen counts the flows whose handshake is not complete.
func (t *Table) halfOpen() int {
	return t.queues[Dialing].len + t.queues[Released].len + t.queues[Learning].len
}

// full says why the table takes no further live flow, or "".
func (t *Table) full() string {
	halfOpen := t.halfOpen()
	switch {
	case halfOpen >= t.cfg.MaxHalfOpen:
		return "half-open-full"
	case halfOpen+t.queues[Relaying].len >= t.cfg.MaxFlows:
		return "flows-full"
	}
	return ""
}

// Move takes the live flow with key k to state to, and returns a copy of it as
// it is then. An empty reason leaves the one that it has. Move reports false, and
// changes nothing, when there is no such flow or when the flow is not in a state
// from which to can follow: events of a flow that has moved on come late, not wrong.
func (t *Table) Move(now time.Duration, k Key, to State, reason string) (Flow, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.live(k)
	if f == nil || !slices.Contains(follows[to], f.State) {
		return Flow{}, false
	}
	t.move(now, f, to, reason)
	return *f, true
}

func (t *Table) move(now time.Duration, f *Flow, to State, reason string) {
	t.queues[f.queue].remove(f)
	f.State, f.Changed = to, now
	if reason != "" {
		f.Reason = reason
		t.reasons[reason]++
	}
	if to == Relaying {
		f.Setup = now - f.Began
	}
	t.enter(f)
}

// enter queues f by its state, and forgets the oldest ended flow if there are too many.
func (t *Table) enter(f *Flow) {
	t.entered[f.State]++
	f.queue = f.State
	if !f.State.Live() {
		f.queue = Closed
	}
	t.queues[f.queue].push(f)
	if ended := &t.queues[Closed]; ended.len > t.cfg.MaxEnded {
		t.forget(ended.oldest())
	}
}

func (t *Table) forget(f *Flow) {
	t.queues[f.queue].remove(f)
	delete(t.flows, f.Key)
}

// Attach gives the live flow with key k its legs.
func (t *Table) Attach(k Key, legs any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f := t.live(k); f != nil {
		f.Legs = legs
	}
}

// expired is where a flow goes whose time in a state is up.
var expired = map[State]State{Dialing: TimedOut, Learning: TimedOut, Released: Abandoned}

// Expire moves at most limit flows on whose time is up. Copies of these are returned, for
// the caller to close their Legs. Ended flows that were remembered long enough are forgotten.
func (t *Table) Expire(now time.Duration, limit int) []Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var moved []Flow
	for _, s := range [...]State{Dialing, Released, Learning, Closed} {
		q := &t.queues[s]
		for q.len > 0 && limit > 0 && now-q.oldest().Changed >= t.timeout[s] {
			limit--
			f := q.oldest()
			if s == Closed {
				t.forget(f)
				continue
			}
			t.move(now, f, expired[s], "no-answer")
			moved = append(moved, *f)
		}
	}
	return moved
}

// Waiting returns copies of the flows that, between last and now, have been in
// state s for 1, 2, 4, 8… times unit.
func (t *Table) Waiting(s State, unit, last, now time.Duration) []Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Flow
	doublings := func(at time.Duration) int { return bits.Len64(uint64(max(at, 0) / unit)) }
	q := &t.queues[s]
	for f := q.oldest(); f != &q.root && now-f.Changed >= unit; f = f.next {
		if doublings(now-f.Changed) > doublings(last-f.Changed) {
			out = append(out, *f)
		}
	}
	return out
}

// chunk is how many flows [Table.All] copies in one turn of the lock: some 20 µs.
const chunk = 256

// All yields a copy of every flow, in no order. Flows that come or go meanwhile
// may be yielded or not. The lock is not held while the caller has its turn.
func (t *Table) All() iter.Seq[Flow] {
	return func(yield func(Flow) bool) {
		batch := make([]Flow, 0, chunk)
		hand := func() bool {
			t.mu.Unlock()
			defer t.mu.Lock()
			for _, f := range batch {
				if !yield(f) {
					return false
				}
			}
			batch = batch[:0]
			return true
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		// A map may change while it is ranged over, as long as it does so under the lock.
		for _, f := range t.flows {
			if batch = append(batch, *f); len(batch) == chunk && !hand() {
				return
			}
		}
		hand()
	}
}

// Count counts a packet that began no flow, by reason.
func (t *Table) Count(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reasons[reason]++
}

// Totals are the table's counters.
type Totals struct {
	Live     map[string]int    // live flows by state
	Entered  map[string]uint64 // flows that ever came into each state
	Reasons  map[string]uint64
	HalfOpen int
}

// Totals returns a snapshot of the counters.
func (t *Table) Totals() Totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Totals{
		Live: make(map[string]int), Entered: make(map[string]uint64), Reasons: maps.Clone(t.reasons),
		HalfOpen: t.halfOpen(),
	}
	for s := range states {
		out.Entered[s.String()] = t.entered[s]
		if s.Live() {
			out.Live[s.String()] = t.queues[s].len
		}
	}
	return out
}
