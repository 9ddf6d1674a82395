package core

import (
	"iter"
	"net/netip"
	"sync"
	"time"

	"github.com/synbond/synbond/state"
)

// Config of a core. Zero fields mean their defaults.
type Config struct {
	Table  state.Config
	Learnt state.LearntConfig
	Policy *Policy
	// Gone reports whether the client's connection of a flow that is Released or
	// Relaying has ended in the kernel, so that the client may use its port again, though
	// ClientReset or Closed are still to come. Nil stands for a function that always
	// returns false.
	Gone func(state.Flow) bool
	// Own reports whether an address is one of this machine's. It is for requests of clients,
	// and may be nil where there are none.
	Own func(netip.Addr) bool
	// Spent reports whether a user has used up a quota. It may be nil, too.
	Spent func(user string) bool
}

// Core decides about the flows of a box. It is safe for concurrent use. Every event
// appends its actions to the slice that it is given, for the caller to carry out
// in order, and returns that slice.
type Core struct {
	gone   func(state.Flow) bool
	own    func(netip.Addr) bool
	spent  func(user string) bool
	table  *state.Table
	learnt *state.Learnt

	mu         sync.Mutex // guards what follows, and makes each event one step
	policy     *Policy
	dialPolicy DialPolicy
	stopped    Stopped
	deliveries deliveries
	handshakes map[state.ID]*handshake
	retries    []retry
	reach      reach
	unbonded   unbonded
	tries      []try
	expired    time.Duration         // when Tick last looked for what has waited too long
	trace      func(Step)            // of a core that only tries: see Explain
	rivals     map[state.ID]state.ID // the flow of each dial of a race, or to an upstream
	upstreams  upstreams
}

// handshake has the facts about a flow to be relayed that are needed from its SYN on
// until its client has completed the handshake.
type handshake struct {
	side     state.Side
	dial     Dial
	subflows SubflowPolicy
	until    time.Duration // up to when the dial is retried while its address is busy
	tracked  bool

	path    uint8         // by which the router sends the SYN on
	dialed  time.Duration // when the dial began
	repeats int           // of the SYN by its client
	last    time.Duration // when the SYN was last repeated
	// obstacle is the reason why an earlier flow failed, if this one tries again.
	obstacle state.Reason
	// doubt: the dial is without MP_CAPABLE, since one with it has failed.
	doubt bool
	race  *race // of a flow whose client has asked for it
	// through is the dials to upstreams of a flow that goes through one, until one has succeeded.
	through *through
}

// New returns a core with an empty table.
func New(cfg Config) *Core {
	c := &Core{
		gone: cfg.Gone, own: cfg.Own, spent: cfg.Spent, rivals: make(map[state.ID]state.ID), table: state.NewTable(cfg.Table), learnt: state.NewLearnt(cfg.Learnt),
		policy: cfg.Policy, handshakes: make(map[state.ID]*handshake), reach: newReach(), unbonded: make(unbonded),
		upstreams: newUpstreams(),
	}
	if c.gone == nil {
		c.gone = func(state.Flow) bool { return false }
	}
	return c
}

// SetPolicy replaces the policy, for SYNs to come.
func (c *Core) SetPolicy(p *Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.policy = p
}

// Policy returns the policy, which must not be changed.
func (c *Core) Policy() *Policy {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy
}

// Configure replaces the bounds of the table and of what was learnt, see
// [state.Table.Configure] and [state.Learnt.Configure].
func (c *Core) Configure(table state.Config, learnt state.LearntConfig) {
	c.table.Configure(table)
	c.learnt.Configure(learnt)
}

// Learns reports whether the policy may choose to learn, so that the core needs to
// see SYN+ACKs, too.
func (c *Core) Learns() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.policy.Learns()
}

// Live reports whether id names the newest attempt of a flow that is not over.
func (c *Core) Live(id state.ID) bool {
	if _, live := c.table.ByID(id); live {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, races := c.rivals[id]
	_, live := c.table.ByID(id) // the dial may have won its race meanwhile
	return races || live
}

// ByID returns a copy of the live flow with that ID.
func (c *Core) ByID(id state.ID) (state.Flow, bool) { return c.table.ByID(id) }

// Flow returns a copy of the flow with that key, also of one that has ended, as
// long as it is remembered.
func (c *Core) Flow(k state.Key) (state.Flow, bool) { return c.table.Last(k) }

// Flows yields a copy of every flow, in no order.
func (c *Core) Flows() iter.Seq[state.Flow] { return c.table.All() }

// Totals returns a snapshot of the counters.
func (c *Core) Totals() state.Totals { return c.table.Totals() }

// Learnt yields what is known of destinations at time now, in no order.
func (c *Core) Learnt(now time.Duration) iter.Seq[state.LearntEntry] { return c.learnt.All(now) }

// LearntLen returns the number of destinations that are remembered, with those
// that have expired and are not forgotten yet.
func (c *Core) LearntLen() int { return c.learnt.Len() }

// Paired takes the event that the client of a flow has completed its handshake, and
// both legs are there. It reports whether the flow is still wanted.
func (c *Core) Paired(acts []Action, now time.Duration, id state.ID) (out []Action, wanted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.table.Move(now, id, state.Relaying, state.None)
	if !ok {
		return acts, false
	}
	if f.Asked == nil {
		c.deliveries.of(&f).completed(now)
	}
	if h := c.handshakes[id]; h != nil {
		if !h.dial.Multipath {
			acts = c.track(acts, id, h)
		}
		delete(c.handshakes, id)
	}
	return acts, true
}

// Closed takes the event that both legs of a flow are gone, and why: after a FIN in each
// direction, with a reset, or because the box has ended the flow.
func (c *Core) Closed(acts []Action, now time.Duration, id state.ID, why state.Reason) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.handshakes[id] != nil {
		acts = c.closedEarly(acts, now, id, why)
	}
	c.table.Move(now, id, state.Closed, why)
	return append(acts, Action{Kind: Untrack, Flow: id})
}

// closedEarly ends the handshake of a flow whose legs are gone. A leg may have met a late
// client of an earlier flow before its DialEnded: then a SYN is held, and is dropped, so
// that its client sends it again.
func (c *Core) closedEarly(acts []Action, now time.Duration, id state.ID, why state.Reason) []Action {
	delete(c.handshakes, id)
	if f, _ := c.table.ByID(id); f.State == state.Dialing {
		acts = append(acts, settled(now, f, Drop, why))
	}
	return acts
}

// ClientReset takes the event that the client has reset its half of a handshake, as
// port scanners do with every SYN+ACK, so that the server need not wait for it.
func (c *Core) ClientReset(acts []Action, now time.Duration, id state.ID) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.table.Move(now, id, state.Abandoned, state.Reset); ok {
		acts = c.abandon(acts, id)
	}
	return acts
}

// Pending is a dial that has no outcome yet.
type Pending struct {
	Flow state.ID
	Dial Dial
}

// Pending returns the dials that have no outcome yet.
func (c *Core) Pending() []Pending {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Pending
	for id, h := range c.handshakes {
		if f, ok := c.table.ByID(id); ok && f.State == state.Dialing && h.race == nil && h.through == nil {
			out = append(out, Pending{id, h.dial})
		}
	}
	return out
}

// Backlog returns how many handshakes, and how many packets and dials that are to be
// tried again or given up, the core remembers: none when no flow is half-open.
func (c *Core) Backlog() (handshakes, retries int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.handshakes), len(c.retries) + len(c.tries)
}

// Waits reports whether [Core.Tick] may have something to do at some time.
func (c *Core) Waits() bool {
	handshakes, retries := c.Backlog()
	return handshakes+retries > 0 || c.table.Timed()
}

// track has the flow's multipath leg tracked.
func (c *Core) track(acts []Action, id state.ID, h *handshake) []Action {
	h.tracked = true
	return append(acts, Action{Kind: Track, Flow: id, Subflows: h.subflows})
}

// abandon gives up what carries a flow that has ended before it was relayed.
func (c *Core) abandon(acts []Action, id state.ID) []Action {
	if h := c.handshakes[id]; h != nil && h.tracked {
		acts = append(acts, Action{Kind: Untrack, Flow: id})
	}
	if h := c.handshakes[id]; h != nil && h.race != nil {
		acts = c.abortRivals(acts, h.race)
	}
	if h := c.handshakes[id]; h != nil && h.through != nil {
		acts = c.endAttempts(acts, h.through)
	}
	delete(c.handshakes, id)
	return append(acts, Action{Kind: Abort, Flow: id})
}
