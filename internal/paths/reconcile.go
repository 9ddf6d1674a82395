package paths

import (
	"container/heap"
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// What is put on the wire for connections that had their first subflows already
// is paced: when a path comes back, thousands of them want it at once.
const (
	pace  = 2000      // requests per second
	burst = BatchMost // requests that may be asked for at once after a rest
)

// todo is which connections to look at, and when.
type todo struct {
	urgent  []*conn // now
	paced   []*conn // as fast as the pace allows
	later   wakes   // when their time has come
	growing []*conn // small ones, to be asked for their bytes

	grown   time.Duration // when the growing were asked last
	budget  float64       // requests that the pace allows now
	metered time.Duration // when budget was right
}

// wake is when to look at a connection again.
type wake struct {
	at time.Duration
	c  *conn
}

// wakes is a heap, the next one first; see container/heap.
type wakes []wake

func (w wakes) Len() int           { return len(w) }
func (w wakes) Less(i, j int) bool { return w[i].at < w[j].at }
func (w wakes) Swap(i, j int)      { w[i], w[j] = w[j], w[i] }
func (w *wakes) Push(x any)        { *w = append(*w, x.(wake)) }
func (w *wakes) Pop() any {
	last := (*w)[len(*w)-1]
	*w = (*w)[:len(*w)-1]
	return last
}

// action is what to ask the kernel for.
type action uint8

const (
	askCreate action = iota
	askPrefer        // tell the peer what the subflow is for
	askDestroy
	askRelease // free an address ID; whether there was one to free does not matter
)

// request is what the kernel was asked for.
type request struct {
	action action
	path   int
	c      *conn
}

// queue has the connection looked at, and rouses the goroutine that does.
func (m *Manager) queue(c *conn) {
	if c.queued || c.subflows == nil {
		return
	}
	c.queued = true
	m.todo.urgent = append(m.todo.urgent, c)
	m.nudge()
}

// nudge rouses the goroutine that asks the kernel.
func (m *Manager) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// wakeAt has the connection looked at again at that time, or earlier.
func (m *Manager) wakeAt(c *conn, at time.Duration) {
	if c.wake == 0 || at < c.wake {
		c.wake = at
		heap.Push(&m.todo.later, wake{at, c})
		if m.todo.later[0].c == c {
			m.nudge() // it would sleep for longer
		}
	}
}

// work asks the kernel for what is wanted, until ctx ends.
func (m *Manager) work(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(m.step())
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// step asks the kernel for some of what is wanted, and returns when there will
// be more to do.
func (m *Manager) step() time.Duration {
	for {
		wait := m.plan()
		if m.batch.Len() == 0 {
			return wait
		}
		errs, err := m.pm.Send(m.batch)
		if err != nil {
			m.log.Warn("subflows", "err", err)
		}
		m.conclude(errs, err)
	}
}

// plan fills the batch, and returns when there will be more to do.
func (m *Manager) plan() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batch.Reset()
	m.asked = m.asked[:0]
	now, t := m.now(), &m.todo
	t.refill(now)
	m.sweep(now)
	m.rouse(now)
	m.askGrowing(now)
	for len(t.urgent) > 0 && m.room() {
		c := t.urgent[0]
		t.urgent = t.urgent[1:]
		c.queued = false
		if m.reconcile(c, now, c.fresh) && !c.paced {
			c.paced = true
			t.paced = append(t.paced, c)
		}
	}
	for len(t.paced) > 0 && m.room() && t.budget >= 1 {
		c := t.paced[0]
		if m.reconcile(c, now, true) {
			break // the budget is spent
		}
		c.paced = false
		t.paced = t.paced[1:]
	}
	return t.wait(now)
}

// room tells whether all that a connection may need fits into the batch.
func (m *Manager) room() bool { return m.batch.Len() <= BatchMost-2*MaxPaths }

// refill lets the budget grow with the time.
func (t *todo) refill(now time.Duration) {
	t.budget = min(t.budget+(now-t.metered).Seconds()*pace, burst)
	t.metered = now
}

// wait returns how long nothing will have to be done.
func (t *todo) wait(now time.Duration) time.Duration {
	wait := time.Hour
	if len(t.later) > 0 {
		wait = t.later[0].at - now
	}
	if len(t.paced) > 0 {
		wait = min(wait, time.Second*burst/4/pace) // for a quarter of a burst
	}
	if len(t.growing) > 0 {
		wait = min(wait, t.grown+t.growingEvery()-now)
	}
	return max(wait, 0)
}

// sweepEvery is how often connections that nobody tracks are looked for.
const sweepEvery = time.Minute

// sweep forgets the connections that nobody has tracked since the last sweep. The
// kernel does not tell of the end of one that its peer has reset, and may tell of the
// beginning after the box has seen the end.
func (m *Manager) sweep(now time.Duration) {
	if now < m.swept+sweepEvery {
		return
	}
	m.swept = now
	for _, c := range m.conns {
		switch {
		case c.tracked:
		case c.orphan:
			m.drop(c)
		default:
			c.orphan = true
		}
	}
}

// rouse queues the connections whose time has come.
func (m *Manager) rouse(now time.Duration) {
	t := &m.todo
	for len(t.later) > 0 && t.later[0].at <= now {
		w := heap.Pop(&t.later).(wake)
		if w.c.wake == w.at {
			w.c.wake = 0
			m.queue(w.c)
		}
	}
}

// growingEvery is how often to ask connections how much they have carried. Each
// answer costs some 0.1 µs: many of them are asked less often, for 1 % of a core.
func (t *todo) growingEvery() time.Duration {
	return max(50*time.Millisecond, time.Duration(len(t.growing))*10*time.Microsecond)
}

// askGrowing queues the connections that have carried enough for further subflows.
func (m *Manager) askGrowing(now time.Duration) {
	t := &m.todo
	if now < t.grown+t.growingEvery() {
		return
	}
	t.grown = now
	kept := t.growing[:0]
	for _, c := range t.growing {
		switch {
		case c.gone || !c.small:
		case c.traffic.BytesUp()+c.traffic.BytesDown() < c.terms.After:
			kept = append(kept, c)
		default:
			c.small = false
			m.queue(c)
		}
	}
	clear(t.growing[len(kept):])
	t.growing = kept
}

// reconcile asks for what the connection is to have and has not. It reports
// whether it left something for the pace to allow; it asks for nothing that is
// paced unless it may.
//
// A subflow that is not wanted is closed only once one is open that is: a
// connection for which nothing is wanted keeps what it has.
func (m *Manager) reconcile(c *conn, now time.Duration, may bool) (more bool) {
	if c.gone {
		return false
	}
	for i := range c.subflows {
		if s := &c.subflows[i]; (s.phase == opening || s.phase == leaving) && now >= s.at {
			m.enter(c, i, absent, 0) // the kernel's word was lost
		}
	}
	if c.ripe != 0 && now >= c.ripe {
		c.small, c.ripe = false, 0
	}
	covered := c.covered(m.uses)
	for i := range c.subflows {
		s, want := &c.subflows[i], c.wanted(i, m.uses)
		switch {
		case want == Closed:
			if s.phase == open && covered {
				m.destroy(c, i, now)
			}
		case s.phase == absent && now < s.at:
			m.wakeAt(c, s.at)
		case s.phase == absent, s.phase == open && s.told != want:
			if !may || m.todo.budget < 1 {
				more = true
				continue
			}
			m.todo.budget--
			m.bring(c, i, want, now)
		}
	}
	c.fresh = c.fresh && c.small
	return more
}

// bring opens the subflow of path i, or tells the peer what it is for now.
func (m *Manager) bring(c *conn, i int, want Use, now time.Duration) {
	s := &c.subflows[i]
	if s.phase == open {
		m.ask(c, i, askPrefer)
		m.batch.SetBackup(c.token, s.local, s.remote, want == Backup)
		s.told = want
		return
	}
	local, remote, err := m.set.ends(c, i)
	if err != nil {
		m.failed(c, i, err)
		return
	}
	if s.id == local.ID && s.local.Addr() != local.Addr() {
		m.ask(c, i, askRelease)
		m.batch.Remove(c.token, s.id)
	}
	if want == Backup {
		local.Flags = flagBackup
	}
	m.ask(c, i, askCreate)
	m.batch.Create(c.token, local, remote)
	m.enter(c, i, opening, now+patience)
	s.local, s.id, s.told = local.AddrPort, local.ID, want
	c.small = c.small && i == c.first
}

// destroy closes the subflow of path i.
func (m *Manager) destroy(c *conn, i int, now time.Duration) {
	s := &c.subflows[i]
	m.ask(c, i, askDestroy)
	m.batch.Destroy(c.token, s.local, s.remote)
	m.enter(c, i, leaving, now+parting)
	s.tries = 0
	m.wakeAt(c, s.at)
}

// ask notes a request, which is the next one in the batch.
func (m *Manager) ask(c *conn, i int, a action) {
	m.asked = append(m.asked, request{a, i, c})
}

// conclude takes the outcome of the requests: an error of each, or of all. What
// the kernel accepted will be told by its events.
func (m *Manager) conclude(errs []error, all error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, r := range m.asked {
		err := all
		if all == nil {
			err = errs[n]
		}
		if err == nil || r.c.gone || r.action == askRelease {
			continue
		}
		s := &r.c.subflows[r.path]
		switch {
		case r.action == askCreate && s.phase == opening:
			m.failed(r.c, r.path, err)
		case r.action == askPrefer && s.phase == open:
			m.log.Debug("subflow is gone", "path", m.set.Paths[r.path].Name, "token", r.c.token, "err", err)
			m.counters[r.path].Lost++
			m.retry(r.c, r.path)
		case r.action == askDestroy && s.phase == leaving:
			m.enter(r.c, r.path, absent, 0)
			m.queue(r.c)
		}
	}
}

// failed notes that a subflow could not be asked for. That the connection is
// not ready for it (ENOTCONN) is no failure.
func (m *Manager) failed(c *conn, i int, err error) {
	if !errors.Is(err, unix.ENOTCONN) {
		m.counters[i].Failed++
		m.log.Debug("join", "path", m.set.Paths[i].Name, "token", c.token, "err", err)
	}
	m.retry(c, i)
}
