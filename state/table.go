package state

import (
	"iter"
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
	MaxPerUser  int           // live flows of each user who has [Asked] for them, 0 for no limit
	Dial        time.Duration // how long a SYN is held, default 20 s
	// HalfOpen is the time that a released flow waits for the client's ACK, and a
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
	timeout [NumStates]time.Duration // 0: never

	mu      sync.Mutex
	slots   map[Key]slot
	flows   *slab
	len     [firstFlow]int    // of the queues, by root
	entered [NumStates]uint64 // how often a flow came into each state
	reasons [NumReasons]uint64
	rules   map[string]uint64 // flows by the name of the rule that chose their action
	users   map[string]int    // live flows of each user
	serial  uint32            // of the newest ID
	crowded time.Duration     // until when the memory lacks flows that have ended, for want of room
}

// NewTable returns an empty table.
func NewTable(cfg Config) *Table {
	t := &Table{slots: make(map[Key]slot), flows: newSlab(), rules: make(map[string]uint64), users: make(map[string]int)}
	t.configure(cfg)
	return t
}

func (t *Table) configure(cfg Config) {
	t.cfg = cfg.WithDefaults()
	t.timeout[Dialing] = t.cfg.Dial
	t.timeout[Released] = t.cfg.HalfOpen
	t.timeout[Learning] = t.cfg.HalfOpen
	t.timeout[Closed] = t.cfg.Memory
}

// Configure replaces the bounds of the table. The times hold for flows that are there
// already, too. Live flows beyond a limit stay; ended ones are forgotten.
func (t *Table) Configure(cfg Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.configure(cfg)
	for ended := root(Closed); t.len[ended] > t.cfg.MaxEnded; {
		t.forget(t.flows.oldest(ended))
	}
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

// MayReuse reports whether a SYN with key k may use the ports of a relayed flow again that
// has ended lately, so that the kernel may still have sockets of it.
func (t *Table) MayReuse(now time.Duration, k Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.slots[k]; n != none {
		f := &t.flows.at(n).Flow
		return f.Action == Relay && !f.State.Live()
	}
	return now < t.crowded
}

// Begun describes the meaning of a SYN to the table.
type Begun struct {
	ID ID // of the flow, unless the table is full
	// Repeat is set if the flow is live already, in State. While it is Dialing,
	// Superseded is the SYN that it held so far, in whose place it now holds this
	// one: the newest says what the client wants now (it may have lost ECN, RFC
	// 3168, section 6.1.1, or have another sequence number).
	Repeat     bool
	State      State
	Superseded uint32
	// Other is set if the SYN has another sequence number than that of the live
	// flow: its client has begun again.
	Other bool
	// Full is the limit that leaves no room, or None. Nothing is recorded then.
	Full Reason
}

// Begin records f, which must have its Key, Side, Action, State, Reason, Rule,
// Held and ISN, in the place of an ended flow with the same key, unless there is a live
// one or f is live and the table is full.
func (t *Table) Begin(now time.Duration, f Flow) Begun {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.slots[f.Key]
	if n != none && t.flows.at(n).State.Live() {
		return t.flows.at(n).repeat(f)
	}
	if full := t.full(f.Asked); f.State.Live() && full != None {
		return Begun{Full: full}
	}
	if n != none {
		t.leave(n)
	} else {
		n = t.flows.take()
		t.slots[f.Key] = n
	}
	f.Began, f.Changed, f.ID = now, now, t.newID(n)
	t.flows.at(n).Flow = f
	t.reasons[f.Reason]++
	if f.Rule != "" {
		t.rules[f.Rule]++
	}
	t.enter(n)
	return Begun{ID: f.ID}
}

// newID returns an ID for the flow in slot n. It takes 2³² dials and a slot that
// is the same for one to come again.
func (t *Table) newID(n slot) ID {
	t.serial++
	return makeID(n, t.serial)
}

// Mint returns an ID for a further attempt of the live flow with that ID. It names nothing
// until the flow adopts it.
func (t *Table) Mint(id ID) ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.newID(id.slot())
}

// Adopt gives the live flow with that ID another one, of [Table.Mint].
func (t *Table) Adopt(id, next ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := t.named(id); n != none {
		t.flows.at(n).ID = next
	}
}

// Amend replaces what the client of a live flow has asked for, once more is known of it, and
// the rule that has chosen its action.
func (t *Table) Amend(id ID, asked *Asked, rule string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.named(id)
	if n == none {
		return
	}
	f := &t.flows.at(n).Flow
	if f.Rule != rule && rule != "" {
		t.rules[rule]++
	}
	f.Asked, f.Rule = asked, rule
}

// repeat compares the SYN of f with the live flow of the record. While that is
// dialing it holds this SYN from now on.
func (r *record) repeat(f Flow) Begun {
	b := Begun{ID: r.ID, Repeat: true, State: r.State, Superseded: r.Held, Other: r.ISN != f.ISN}
	if r.State == Dialing {
		r.Held, r.ISN = f.Held, f.ISN
	}
	return b
}

// halfOpen counts the flows whose handshake is not complete.
func (t *Table) halfOpen() int {
	return t.len[root(Dialing)] + t.len[root(Released)] + t.len[root(Learning)]
}

// full returns the limit that lets the table take no further live flow, or None.
func (t *Table) full(asked *Asked) Reason {
	halfOpen := t.halfOpen()
	switch {
	case asked != nil && asked.User != "" && t.cfg.MaxPerUser > 0 && t.users[asked.User] >= t.cfg.MaxPerUser:
		return UserFull
	case halfOpen >= t.cfg.MaxHalfOpen:
		return HalfOpenFull
	case halfOpen+t.len[root(Relaying)] >= t.cfg.MaxFlows:
		return FlowsFull
	}
	return None
}

// Move takes the live flow with that ID to state to, and returns a copy of it as
// it is then: to Dialing once more, with another ID and the same timeout. None leaves the reason that it has. Move
// reports false, and changes nothing, if the ID names no live flow or a flow in a
// state from which to cannot follow: events of a flow that has moved on come late,
// not wrong.
func (t *Table) Move(now time.Duration, id ID, to State, reason Reason) (Flow, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.named(id)
	if n == none || !slices.Contains(follows[to], t.flows.at(n).State) {
		return Flow{}, false
	}
	t.move(now, n, to, reason)
	return t.flows.at(n).Flow, true
}

func (t *Table) move(now time.Duration, n slot, to State, reason Reason) {
	f := &t.flows.at(n).Flow
	if reason != None {
		f.Reason = reason
		t.reasons[reason]++
	}
	if to == Dialing { // once more: its SYN has been held since the first dial
		f.ID = t.newID(n)
		return
	}
	t.leave(n)
	f.State, f.Changed = to, now
	if to == Relaying {
		f.Setup = now - f.Began
	}
	t.enter(n)
}

// named returns the slot of the live flow with that ID.
func (t *Table) named(id ID) slot {
	n := id.slot()
	if n < firstFlow || n >= t.flows.taken {
		return none
	}
	if r := t.flows.at(n); r.queue == none || r.ID != id || !r.State.Live() {
		return none
	}
	return n
}

// ByID returns a copy of the live flow with that ID.
func (t *Table) ByID(id ID) (Flow, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.named(id)
	if n == none {
		return Flow{}, false
	}
	return t.flows.at(n).Flow, true
}

// enter queues the flow by its state, and forgets the oldest ended flow if there
// are too many.
func (t *Table) enter(n slot) {
	r := t.flows.at(n)
	t.entered[r.State]++
	t.countUser(&r.Flow, 1)
	r.queue = root(r.State)
	t.len[r.queue]++
	if r.State == Relaying {
		r.prev, r.next = n, n // it waits for no timeout: to leave it touches no neighbour
	} else {
		t.flows.push(n)
	}
	if ended := root(Closed); t.len[ended] > t.cfg.MaxEnded {
		oldest := t.flows.oldest(ended)
		t.crowded = max(t.crowded, t.flows.at(oldest).Changed+t.cfg.Memory)
		t.forget(oldest)
	}
}

// leave takes the flow out of its queue.
func (t *Table) leave(n slot) {
	t.countUser(&t.flows.at(n).Flow, -1)
	t.len[t.flows.at(n).queue]--
	t.flows.unlink(n)
}

// countUser counts a flow that comes into its state, or leaves that, for its user.
func (t *Table) countUser(f *Flow, n int) {
	if f.Asked == nil || f.Asked.User == "" || !f.State.Live() {
		return
	}
	if t.users[f.Asked.User] += n; t.users[f.Asked.User] == 0 {
		delete(t.users, f.Asked.User)
	}
}

func (t *Table) forget(n slot) {
	t.leave(n)
	delete(t.slots, t.flows.at(n).Key)
	t.flows.give(n)
}

// expired is where a flow goes whose time in a state is up.
var expired = map[State]State{Dialing: TimedOut, Learning: TimedOut, Released: Abandoned}

// Timed reports whether [Table.Expire] may have something to do at some time.
func (t *Table) Timed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range timed {
		if t.len[root(s)] > 0 {
			return true
		}
	}
	return false
}

// timed are the states that end by themselves.
var timed = [...]State{Dialing, Released, Learning, Closed}

// Expire moves at most limit flows on whose time is up, and returns copies of these. Ended flows that were remembered long enough are forgotten.
func (t *Table) Expire(now time.Duration, limit int) []Flow {
	t.mu.Lock()
	defer t.mu.Unlock()
	var moved []Flow
	for _, s := range timed {
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
			t.move(now, n, expired[s], NoAnswer)
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

// Count counts a packet that begins no flow, by reason.
func (t *Table) Count(reason Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reasons[reason]++
}
