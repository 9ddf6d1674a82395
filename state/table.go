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
	slots   map[Key]slot
	flows   *slab
	len     [firstFlow]int // of the queues, by root
	entered [states]uint64 // how often a flow came into each state
	reasons map[string]uint64
}

// NewTable returns an empty table.
func NewTable(cfg Config) *Table {
	cfg = cfg.WithDefaults()
	t := &Table{cfg: cfg, slots: make(map[Key]slot), flows: newSlab(), reasons: make(map[string]uint64)}
	t.timeout[Dialing] = cfg.Dial
	t.timeout[Released] = cfg.HalfOpen
	t.timeout[Learning] = cfg.HalfOpen
	t.timeout[Closed] = cfg.Memory
	return t
}

// Lookup returns a copy of the live flow with key k.
func (t *Table) Lookup(k Key) (Flow, bool) {
	f, ok := t.Last(k)
	if !ok || !f.State.Live() {
		return Flow{}, false
	}
	return f, true
}

// Last returns a copy of the flow with key k, also of one that has ended, as long
// as it is remembered.
func (t *Table) Last(k Key) (Flow, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.slots[k]
	if n == none {
		return Flow{}, false
	}
	return t.flows.at(n).Flow, true
}

// live returns the slot of the flow with key k unless it has ended.
func (t *Table) live(k Key) slot {
	if n := t.slots[k]; n != none && t.flows.at(n).State.Live() {
		return n
	}
	return none
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
	n := t.slots[f.Key]
	if n != none && t.flows.at(n).State.Live() {
		return t.flows.at(n).repeat(f)
	}
	if full := t.full(); f.State.Live() && full != "" {
		return Begun{Full: full}
	}
	if n != none {
		t.leave(n)
	} else {
		n = t.flows.take()
		t.slots[f.Key] = n
	}
	f.Began, f.Changed = now, now
	t.flows.at(n).Flow = f
	if f.Reason != "" {
		t.reasons[f.Reason]++
	}
	t.enter(n)
	return Begun{}
}

// repeat tells what the SYN of f means to the flow, which is live. While that is
// dialing it holds this SYN from now on.
func (r *record) repeat(f Flow) Begun {
	b := Begun{Repeat: true, State: r.State, Superseded: r.Held, Other: r.ISN != f.ISN}
	if r.State == Dialing {
		r.Held, r.ISN = f.Held, f.ISN
	}
	return b
}

// halfOpen counts the flows whose handshake is not complete.
func (t *Table) halfOpen() int {
	return t.len[root(Dialing)] + t.len[root(Released)] + t.len[root(Learning)]
}

// full says why the table takes no further live flow, or "".
func (t *Table) full() string {
	halfOpen := t.halfOpen()
	switch {
	case halfOpen >= t.cfg.MaxHalfOpen:
		return "half-open-full"
	case halfOpen+t.len[root(Relaying)] >= t.cfg.MaxFlows:
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
	n := t.live(k)
	if n == none || !slices.Contains(follows[to], t.flows.at(n).State) {
		return Flow{}, false
	}
	t.move(now, n, to, reason)
	return t.flows.at(n).Flow, true
}

func (t *Table) move(now time.Duration, n slot, to State, reason string) {
	t.leave(n)
	f := &t.flows.at(n).Flow
	f.State, f.Changed = to, now
	if reason != "" {
		f.Reason = reason
		t.reasons[reason]++
	}
	if to == Relaying {
		f.Setup = now - f.Began
	}
	t.enter(n)
}

// enter queues the flow by its state, and forgets the oldest ended flow if there
// are too many.
func (t *Table) enter(n slot) {
	r := t.flows.at(n)
	t.entered[r.State]++
	r.queue = root(r.State)
	t.len[r.queue]++
	if r.State == Relaying {
		r.prev, r.next = n, n // it waits for no timeout: to leave it touches no neighbour
	} else {
		t.flows.push(n)
	}
	if ended := root(Closed); t.len[ended] > t.cfg.MaxEnded {
		t.forget(t.flows.oldest(ended))
	}
}

// leave takes the flow out of its queue.
func (t *Table) leave(n slot) {
	t.len[t.flows.at(n).queue]--
	t.flows.unlink(n)
}

func (t *Table) forget(n slot) {
	t.leave(n)
	delete(t.slots, t.flows.at(n).Key)
	t.flows.give(n)
}

// Attach gives the live flow with key k its legs, and reports whether there is one.
func (t *Table) Attach(k Key, legs any) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.live(k)
	if n != none {
		t.flows.at(n).Legs = legs
	}
	return n != none
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
		for limit > 0 && t.len[root(s)] > 0 {
			n := t.flows.oldest(root(s))
			if now-t.flows.at(n).Changed < t.timeout[s] {
				break
			}
			limit--
			if s == Closed {
				t.forget(n)
				continue
			}
			t.move(now, n, expired[s], "no-answer")
			moved = append(moved, t.flows.at(n).Flow)
		}
	}
	return moved
}

// Waiting returns copies of the flows that, between last and now, have been in
// state s, which must have a timeout, for 1, 2, 4, 8… times unit.
func (t *Table) Waiting(s State, unit, last, now time.Duration) []Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Flow
	doublings := func(at time.Duration) int { return bits.Len64(uint64(max(at, 0) / unit)) }
	for n := t.flows.oldest(root(s)); n != root(s); n = t.flows.at(n).next {
		f := &t.flows.at(n).Flow
		if now-f.Changed < unit {
			break
		}
		if doublings(now-f.Changed) > doublings(last-f.Changed) {
			out = append(out, *f)
		}
	}
	return out
}

// All yields a copy of every flow, in no order. Flows that come or go meanwhile
// may be yielded or not. The lock is not held while the caller has its turn.
func (t *Table) All() iter.Seq[Flow] {
	return func(yield func(Flow) bool) {
		batch := make([]Flow, 0, page)
		for i := 0; t.copyPage(i, &batch); i++ {
			for _, f := range batch {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// copyPage copies the flows of page number i, if there is one, to batch.
func (t *Table) copyPage(i int, batch *[]Flow) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i >= len(t.flows.pages) {
		return false
	}
	*batch = (*batch)[:0]
	for j := range t.flows.pages[i] {
		if r := &t.flows.pages[i][j]; r.queue != none {
			*batch = append(*batch, r.Flow)
		}
	}
	return true
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
			out.Live[s.String()] = t.len[root(s)]
		}
	}
	return out
}
