package paths

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// MaxPaths is how many paths a box may have: a connection's subflows are as many
// at most (kernel: MPTCP_PM_ADDR_MAX).
const MaxPaths = 8

// Manager gives the connections of a CPE the subflows that are wanted.
//
// It keeps what each connection has, from the kernel's events, and what each path
// is wanted for, and asks the kernel for the difference. One goroutine asks; a
// connection has no goroutine and no timer of its own.
type Manager struct {
	set    *Set
	log    *slog.Logger
	pm     *PM
	events *Events
	start  time.Time
	wake   chan struct{} // has room for one: there is something to do

	// Of the goroutine that asks the kernel.
	batch *Batch
	asked []request

	mu       sync.Mutex // guards what follows
	conns    map[uint32]*conn
	uses     []Use // by path
	counters []Counters
	todo     todo
	swept    time.Duration // when connections that nobody tracks were looked for
}

// Terms are what policy grants a connection.
type Terms struct {
	// Paths are those that it may use, as a bit each; 0 is all of them.
	Paths uint8
	// After is how many bytes it must have carried before it gets a further subflow.
	// Where it is 0 that takes [Manager.Grown], or some time: most connections are
	// over before a further subflow would be of any use, and each costs more than all
	// the rest of a short connection.
	After uint64
}

// young is how long a connection that carries little does without further
// subflows. Later it has them for the case that a path falls.
const young = 200 * time.Millisecond

// Traffic tells how many bytes a connection has carried. It is asked often, and
// while the manager is locked: it must not block.
type Traffic interface {
	BytesUp() uint64
	BytesDown() uint64
}

// Counters are what became of subflows.
type Counters struct {
	Open   int    `json:"open"`   // now, first ones of connections too
	Opened uint64 `json:"opened"` // by the manager
	Failed uint64 `json:"failed"` // attempts
	Lost   uint64 `json:"lost"`   // closed by the peer or the kernel
	Closed uint64 `json:"closed"` // by the manager
}

// NewManager prepares a manager of the paths in set, which are wanted as their
// policies say when all of them are up.
func NewManager(set *Set, log *slog.Logger) (*Manager, error) {
	m := &Manager{
		set: set, log: log, start: time.Now(), wake: make(chan struct{}, 1),
		conns: make(map[uint32]*conn), uses: set.initial(), counters: make([]Counters, len(set.Paths)),
	}
	var err error
	if m.pm, err = Open(); err != nil {
		return nil, err
	}
	if m.events, err = Listen(); err != nil {
		return nil, errors.Join(err, m.pm.Close())
	}
	m.batch = m.pm.NewBatch()
	return m, nil
}

// Close ends the manager's connections to the kernel.
func (m *Manager) Close() error { return errors.Join(m.pm.Close(), m.events.Close()) }

// Run gives connections their subflows until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.events.Run(ctx, m.handle) })
	g.Go(func() error { m.work(ctx); return nil })
	return g.Wait()
}

// Track says that the box relays the connection with that token, on these terms.
// Traffic may be nil if the terms set no After.
func (m *Manager) Track(token uint32, terms Terms, traffic Traffic) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.conn(token)
	c.tracked, c.terms, c.traffic = true, terms, traffic
	m.begin(c)
}

// Forget ends what Track began.
func (m *Manager) Forget(token uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c := m.conns[token]; c != nil {
		m.drop(c)
	}
}

// Grown says that a connection carries enough to be given its further subflows,
// if its terms leave that open.
func (m *Manager) Grown(token uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.conns[token]
	if c == nil || c.grown || c.terms.After > 0 {
		return
	}
	c.grown, c.small = true, false
	m.queue(c)
}

// Want says what each path is wanted for from now on. The connections that were
// busiest since it last changed get their subflows first.
//
// Subflows on a path that is not wanted any more are closed in an orderly way,
// each once another one that is wanted is open. Those of a path that is dead are
// better ended at once, before this: the manager learns of it from the kernel.
func (m *Manager) Want(uses []Use) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.Equal(uses, m.uses) {
		return
	}
	before := m.uses
	m.uses = slices.Clone(uses)
	type busy struct {
		c     *conn
		bytes uint64
	}
	order := make([]busy, 0, len(m.conns))
	for _, c := range m.conns {
		if c.subflows == nil {
			continue
		}
		for i := range c.subflows {
			if before[i] == Closed && uses[i] != Closed {
				c.subflows[i].tries, c.subflows[i].at = 0, 0 // what failed before says nothing now
			}
		}
		order = append(order, busy{c, c.newBytes()})
	}
	slices.SortFunc(order, func(a, b busy) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, b := range order {
		m.queue(b.c)
	}
}

// Counters returns what became of the subflows on all paths.
func (m *Manager) Counters() (sum Counters) {
	for _, c := range m.CountersByPath() {
		sum.Open += c.Open
		sum.Opened += c.Opened
		sum.Failed += c.Failed
		sum.Lost += c.Lost
		sum.Closed += c.Closed
	}
	return sum
}

// CountersByPath returns what became of the subflows on each path.
func (m *Manager) CountersByPath() []Counters {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.counters)
}

// handle takes an event of the kernel.
func (m *Manager) handle(ev Event) {
	first := 0
	if ev.Type == Established {
		first = max(m.set.index(ev.Local, ev.Remote), 0) // may ask the kernel for a route
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch ev.Type {
	case Established:
		c := m.conn(ev.Token)
		c.established, c.elsewhere = true, ev.Elsewhere
		c.local, c.remote, c.first = ev.Local, ev.Remote, first
		m.begin(c)
	case ConnClosed:
		if c := m.conns[ev.Token]; c != nil {
			m.drop(c)
		}
	case SubEstablished:
		m.opened(ev)
	case SubClosed:
		m.closed(ev)
	case Lost:
		m.doubt()
	}
}

// opened notes that a subflow which was asked for is open.
func (m *Manager) opened(ev Event) {
	c, i := m.conns[ev.Token], pathOf(ev.LocalID)
	if c == nil || i < 0 || i >= len(c.subflows) {
		return // a connection, or a subflow, that is none of the box's
	}
	s := &c.subflows[i]
	if s.phase != opening {
		return
	}
	m.enter(c, i, open, m.now())
	s.local, s.remote = ev.Local, ev.Remote
	m.counters[i].Opened++
	m.queue(c) // it may have made another one needless
}

// closed notes that a subflow is gone.
func (m *Manager) closed(ev Event) {
	c := m.conns[ev.Token]
	i := c.find(ev)
	if i < 0 {
		return
	}
	s := &c.subflows[i]
	m.log.Debug("subflow closed", "token", ev.Token, "path", m.set.Paths[i].Name, "err", unix.Errno(ev.Error))
	switch s.phase {
	case opening:
		m.counters[i].Failed++
		m.retry(c, i)
	case open:
		m.counters[i].Lost++
		if m.now()-s.at >= settled {
			s.tries = 0
		}
		m.retry(c, i)
	case leaving:
		m.counters[i].Closed++
		m.enter(c, i, absent, 0)
		m.queue(c)
	}
}

// doubt is for when events were lost: asked for anew what they are told, the
// subflows that are gone will turn out to be, and no attempt waits for ever.
// Connections that nobody tracks may have ended.
func (m *Manager) doubt() {
	m.log.Warn("more MPTCP events than could be kept: asking for the state of all subflows")
	for _, c := range m.conns {
		if !c.tracked {
			m.drop(c)
			continue
		}
		for i := range c.subflows {
			c.subflows[i].told = Closed
		}
		m.queue(c)
		m.wakeAt(c, m.now()+patience)
	}
}

// conn returns what is known of a connection, which may be nothing yet.
func (m *Manager) conn(token uint32) *conn {
	c := m.conns[token]
	if c == nil {
		c = &conn{token: token}
		m.conns[token] = c
	}
	return c
}

// begin gives a connection its subflows, once the box relays it and the kernel
// lets it have some.
func (m *Manager) begin(c *conn) {
	if !c.tracked || !c.established || c.subflows != nil {
		return
	}
	c.subflows = make([]subflow, len(m.set.Paths))
	c.subflows[c.first] = subflow{local: c.local, remote: c.remote, told: Normal}
	m.enter(c, c.first, open, m.now())
	c.fresh = true
	switch {
	case c.terms.After > 0:
		c.small = true
		m.todo.growing = append(m.todo.growing, c)
	case !c.grown:
		c.small, c.ripe = true, m.now()+young
		m.wakeAt(c, c.ripe)
	}
	if !c.small || m.uses[c.first] != Normal {
		m.queue(c)
	}
}

// drop forgets a connection.
func (m *Manager) drop(c *conn) {
	for i := range c.subflows {
		m.enter(c, i, absent, 0)
	}
	c.gone = true
	delete(m.conns, c.token)
}

// enter changes the phase of a subflow. What at means depends on the phase.
func (m *Manager) enter(c *conn, i int, to phase, at time.Duration) {
	s := &c.subflows[i]
	if s.phase == open {
		m.counters[i].Open--
	}
	if to == open {
		m.counters[i].Open++
	}
	s.phase, s.at = to, at
}

// retry has an absent subflow asked for again in a while.
func (m *Manager) retry(c *conn, i int) {
	s := &c.subflows[i]
	s.tries = min(s.tries+1, 32)
	m.enter(c, i, absent, m.now()+backoff(s.tries))
	m.queue(c) // others may have to take its place
}

// now is the time since the manager was made.
func (m *Manager) now() time.Duration { return time.Since(m.start) }
