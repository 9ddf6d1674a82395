package paths

import (
	"errors"
	"net/netip"
	"syscall"
	"time"
)

// MaxRequests is the largest number of requests of one [Planner.Plan].
const MaxRequests = 64

// Operation is the kind of a [Request].
type Operation uint8

const (
	// CreateSubflow opens a subflow from Local to Remote.
	CreateSubflow Operation = iota
	// SetBackup makes a subflow a backup or a normal one, and tells the peer.
	SetBackup
	// DestroySubflow closes a subflow.
	DestroySubflow
	// RemoveAddress frees an address ID. Its failure does not matter.
	RemoveAddress
)

// Endpoint is the local end of a subflow.
type Endpoint struct {
	netip.AddrPort       // with port 0 for a new subflow: the kernel chooses
	ID             uint8 // address ID, RFC 8684, section 3.2
	Interface      int   // index, 0 for any
}

// Request asks the kernel to change a subflow of a connection.
type Request struct {
	Operation Operation
	Token     uint32
	Path      int
	Local     Endpoint
	Remote    netip.AddrPort
	Backup    bool // of CreateSubflow and SetBackup
}

// Plan returns the requests that bring the connections' subflows closer to their
// desired states, at most [MaxRequests], and the time after which Plan has more to
// do. The requests are valid until the next Plan. The caller sends them and hands
// the outcome to [Planner.Conclude]; while there are requests, it calls Plan again
// at once.
func (p *Planner) Plan(now time.Duration) ([]Request, time.Duration) {
	p.requests, p.about = p.requests[:0], p.about[:0]
	q := &p.queues
	q.refill(now)
	p.sweep(now)
	p.release(now)
	p.wakeUp(now)
	p.countBytes(now)
	p.lookForIdle(now)
	again := p.tryAgain(now)
	for len(q.urgent) > 0 && p.room() {
		c := q.urgent[0]
		q.urgent = q.urgent[1:]
		c.queued = false
		if p.reconcile(c, now, c.fresh) && !c.paced {
			c.paced = true
			q.paced = append(q.paced, c)
		}
	}
	for len(q.paced) > 0 && p.room() && q.budget >= 1 {
		c := q.paced[0]
		if p.reconcile(c, now, true) {
			break // the budget is spent
		}
		c.paced = false
		q.paced = q.paced[1:]
	}
	return p.requests, min(q.wait(now), again-now, p.nextRelease(now))
}

// room reports whether there is room for all requests that a connection may need.
func (p *Planner) room() bool { return len(p.requests) <= MaxRequests-2*MaxPaths }

// reconcile requests what brings a connection's subflows to their desired states. It
// makes paced requests only if paced is set and the budget allows, and reports
// whether some are left.
//
// A subflow that is to be closed is closed only once one is open that is to stay: a
// connection whose paths shall all be closed keeps its subflows.
func (p *Planner) reconcile(c *connection, now time.Duration, paced bool) (more bool) {
	if c.gone {
		return false
	}
	for i := range c.subflows {
		if s := &c.subflows[i]; (s.phase == opening || s.phase == closing) && now >= s.at {
			p.enter(c, i, absent, 0) // the kernel's report was lost
		}
		p.review(now, c, i)
	}
	p.bypass(now, c)
	if c.furtherAt != 0 && now >= c.furtherAt {
		c.single, c.furtherAt = false, 0
	}
	want := p.effective[c.direction]
	covered := c.covered(want)
	for i := range c.subflows {
		s, desired := &c.subflows[i], c.desired(i, want)
		switch {
		case s.dead && s.phase == open:
			p.destroy(c, i, now)
		case desired == Closed, s.renew && s.phase == open:
			if s.phase == open && covered && (desired == Closed || c.open() > 1) {
				p.destroy(c, i, now)
			}
		case s.phase == absent && now < s.at:
			p.wakeAt(c, s.at)
		case s.phase == absent && p.hesitates(now, c, i):
			p.wakeAt(c, now+lookAgain)
		case s.phase == absent && !p.admit(now, c, i):
		case s.phase == absent, s.phase == open && s.told != desired:
			if !paced || p.queues.budget < 1 {
				more = true
				continue
			}
			p.queues.budget--
			p.bring(c, i, desired, now)
		}
	}
	c.fresh = c.fresh && c.single
	return more
}

// bring opens the subflow of path i, or tells the peer its new state.
func (p *Planner) bring(c *connection, i int, desired DesiredState, now time.Duration) {
	s := &c.subflows[i]
	if s.phase == open {
		p.request(c, Request{
			Operation: SetBackup, Path: i,
			Local: Endpoint{AddrPort: s.local}, Remote: s.remote, Backup: desired == Backup,
		})
		s.told = desired
		return
	}
	local, remote, err := p.ends(c, i)
	if err != nil {
		p.failed(now, c, i, err)
		return
	}
	announced := remote
	if s.encapsulated {
		announced = PickJoin(p.set.Paths[i].Join, true)
	}
	if c.early(now, p.set, announced) {
		c.awaits = true
		p.wakeAt(c, c.since+announceTimeout)
		return
	}
	// The kernel binds an ID to one address until it is removed.
	if s.id == local.ID && s.local.Addr() != local.Addr() {
		p.request(c, Request{Operation: RemoveAddress, Path: i, Local: Endpoint{ID: s.id}})
	}
	p.request(c, Request{Operation: CreateSubflow, Path: i, Local: local, Remote: remote, Backup: desired == Backup})
	p.enter(c, i, opening, now+openTimeout)
	s.local, s.id, s.dev, s.told = local.AddrPort, local.ID, local.Interface, desired
	s.atJoin, s.overdue, s.judged = remote != c.remote, false, 0
	if now >= p.answers(i, s.encapsulated).opened+overdueAfter { // else others get answers
		p.wakeAt(c, now+overdueAfter)
	}
	c.single = c.single && i == c.first
}

// destroy closes the subflow of path i.
func (p *Planner) destroy(c *connection, i int, now time.Duration) {
	s := &c.subflows[i]
	p.request(c, Request{Operation: DestroySubflow, Path: i, Local: Endpoint{AddrPort: s.local}, Remote: s.remote})
	p.enter(c, i, closing, now+closeTimeout)
	s.failures, s.renew = 0, false
	p.wakeAt(c, s.at)
}

// request adds a request about a connection.
func (p *Planner) request(c *connection, r Request) {
	r.Token = c.token
	p.requests = append(p.requests, r)
	p.about = append(p.about, c)
}

// Conclude takes the outcome of the last Plan's requests: an error of each, or of
// all of them. The kernel's events report what became of requests without an error.
func (p *Planner) Conclude(now time.Duration, errs []error, all error) {
	for n, r := range p.requests {
		c, err := p.about[n], all
		if all == nil {
			err = errs[n]
		}
		if err == nil || c.gone || r.Operation == RemoveAddress {
			continue
		}
		s := &c.subflows[r.Path]
		switch {
		case r.Operation == CreateSubflow && s.phase == opening:
			p.failed(now, c, r.Path, err)
		case r.Operation == SetBackup && s.phase == open:
			p.log.Debug("subflow is gone", "path", p.set.Paths[r.Path].Name, "token", c.token, "err", err)
			p.counters[r.Path].Lost++
			p.retry(now, c, r.Path)
		case r.Operation == DestroySubflow && s.phase == closing && s.dead:
			p.ended(now, c, r.Path, settledAfter, syscall.EBADMSG)
		case r.Operation == DestroySubflow && s.phase == closing:
			p.enter(c, r.Path, absent, 0)
			p.queue(c)
		}
	}
}

// failed takes note that a subflow could not be opened. ENOTCONN, which means
// that the connection is not ready for it, is no failure.
func (p *Planner) failed(now time.Duration, c *connection, i int, err error) {
	if !errors.Is(err, syscall.ENOTCONN) {
		p.counters[i].Failed++
		p.log.Debug("join", "path", p.set.Paths[i].Name, "token", c.token, "err", err)
	}
	if s := &c.subflows[i]; s.atJoin && !s.encapsulated && errors.Is(err, syscall.ECONNREFUSED) {
		s.other = !s.other
	}
	p.retry(now, c, i)
	if why, refused := refusalOf(err); refused {
		p.otherWay(c, i)
		p.suspect(now, c, i, why)
	} else {
		p.undecided(c)
	}
}
