package paths

import (
	"cmp"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// Planner decides which subflows the connections of a CPE get. It compares the
// desired state of each path with the subflows that each connection has, as the
// kernel's events report them, and returns requests for the difference. It makes no
// system call except through the Set's [Machine] and has no clock: times count from
// anywhere, and never go back. It is not safe for concurrent use.
//
// A subflow that fails, or that the kernel or the peer closes, is requested again,
// later each time. A path that refuses the subflows of all connections gets one attempt
// at a time. A connection is never left without a subflow that it has.
type Planner struct {
	set *Set
	log *slog.Logger

	conns    map[uint32]*connection
	desired  []DesiredState // by path
	counters []SubflowCounters
	queues   queues

	lags      [][directions]lag          // by path
	effective [directions][]DesiredState // desired, with the paths that lag as backups
	watched   []*connection              // those with large transfers

	translated []Translation // by path
	forgetful  []forgetful   // by path
	refusals   []refusals    // by path
	ways       []way         // by path, the encapsulated ones
	swept      time.Duration // last sweep
	sooner     bool          // there is something to do before the last Plan said

	requests []Request     // of the last Plan
	about    []*connection // the connections of these requests
}

// SubflowPolicy is the part of a box's policy that a connection's subflows obey.
type SubflowPolicy struct {
	// Paths are the paths that the connection may use, as a bit each; 0 is all of them.
	Paths uint8
	// After is the number of bytes that the connection must have carried before it gets
	// a further subflow. With 0 it gets them when it carries a large transfer
	// ([Planner.SetLarge]), or after furtherDelay: most connections are over before a
	// further subflow would help, and one costs more than all the rest of a short
	// connection.
	After uint64
}

// furtherDelay is the age at which connections get their further subflows however
// little they carry, so that they survive the failure of a path.
const furtherDelay = 200 * time.Millisecond

// Traffic is the number of bytes that a connection has carried. Its methods are
// called often, and must not block.
type Traffic interface {
	BytesUp() uint64
	BytesDown() uint64
	// Unacknowledged returns the bytes that the peer has not acknowledged yet.
	Unacknowledged() int
	// Ending reports whether an end of the connection has sent all that it has to send. The
	// peer takes no further subflows then.
	Ending() bool
}

// SubflowCounters count the subflows of a path, or of all paths.
type SubflowCounters struct {
	Open   int    `json:"open"`   // now, first ones of connections too
	Opened uint64 `json:"opened"` // at the planner's request
	Failed uint64 `json:"failed"` // attempts
	Lost   uint64 `json:"lost"`   // closed by the peer or the kernel
	Closed uint64 `json:"closed"` // at the planner's request
}

// SubflowLimits are the kernel's limits of a connection: the numbers of subflows and of
// accepted announcements (ADD_ADDR), at most 8 each.
type SubflowLimits struct {
	Subflows      uint32 `json:"subflows"`
	Announcements uint32 `json:"announcements"`
}

// SubflowEvent is the kernel's report of an established connection's first subflow,
// or that a subflow was opened or closed.
type SubflowEvent struct {
	Token         uint32
	Local, Remote netip.AddrPort
	LocalID       uint8         // address ID, RFC 8684, section 3.2
	Interface     int           // index of the interface to which it is bound, 0 for none
	NoJoin        bool          // the peer takes no joins at Remote
	Err           syscall.Errno // why a subflow closed, 0 for an orderly close
}

// NewPlanner returns a planner for the paths in set, whose desired states are those
// of idle paths that are up.
func NewPlanner(set *Set, log *slog.Logger) *Planner {
	p := &Planner{
		set: set, log: log, conns: make(map[uint32]*connection),
		desired: set.initial(), counters: make([]SubflowCounters, len(set.Paths)),
		translated: make([]Translation, len(set.Paths)), forgetful: make([]forgetful, len(set.Paths)),
		refusals: make([]refusals, len(set.Paths)), ways: make([]way, len(set.Paths)),
		lags: make([][directions]lag, len(set.Paths)),
	}
	for i := range p.refusals {
		p.refusals[i] = newRefusals()
		p.ways[i].refusals = newRefusals()
	}
	p.effect()
	return p
}

// Sooner reports whether [Planner.Plan] has to be called before the time that it
// returned last. It reports that once.
func (p *Planner) Sooner() bool {
	sooner := p.sooner
	p.sooner = false
	return sooner
}

// Track says that the box relays the connection with that token, under this policy.
// Traffic may be nil if the policy sets no After.
func (p *Planner) Track(now time.Duration, token uint32, policy SubflowPolicy, traffic Traffic) {
	c := p.connection(token)
	c.tracked, c.policy, c.traffic = true, policy, traffic
	p.begin(now, c)
}

// Forget ends what Track began. The kernel's report that a connection has closed
// does, too.
func (p *Planner) Forget(token uint32) {
	if c := p.conns[token]; c != nil {
		p.drop(c)
	}
}

// SetLarge says that a connection carries a large transfer: it gets its further
// subflows unless its policy waits for a number of bytes.
func (p *Planner) SetLarge(token uint32) {
	c := p.conns[token]
	if c == nil || c.large || c.policy.After > 0 {
		return
	}
	c.large, c.single = true, false
	p.measure(c)
	p.queue(c)
}

// measure has a connection measured from now on.
func (p *Planner) measure(c *connection) {
	if c.traffic == nil {
		return
	}
	c.direction = Received
	if c.traffic.BytesUp() > c.traffic.BytesDown() {
		c.direction = Sent
	}
	p.watched = append(p.watched, c)
	p.leaveSlow(c)
}

// SetDesired takes the desired state of each path. The connections that carried most
// since the last change get their subflows first.
//
// Subflows whose path is to be closed are closed in an orderly way, each once
// another one is open that is to stay. Subflows of a path that is down are better
// ended at once, before this call.
func (p *Planner) SetDesired(desired []DesiredState) {
	if slices.Equal(desired, p.desired) {
		return
	}
	before := p.desired
	p.desired = slices.Clone(desired)
	for i := range desired {
		if before[i] == Closed && desired[i] != Closed {
			p.acquit(i) // the path has changed since
			p.lags[i] = [directions]lag{}
		}
	}
	p.effect()
	type busy struct {
		c     *connection
		bytes uint64
	}
	order := make([]busy, 0, len(p.conns))
	for _, c := range p.conns {
		if c.subflows == nil {
			continue
		}
		for i := range c.subflows {
			if before[i] == Closed && desired[i] != Closed {
				c.subflows[i].failures, c.subflows[i].at = 0, 0 // the path has changed since
			}
			c.idle.fallen = c.idle.fallen || before[i] != Closed && desired[i] == Closed
		}
		order = append(order, busy{c, c.newBytes()})
	}
	slices.SortFunc(order, func(a, b busy) int { return cmp.Compare(b.bytes, a.bytes) })
	for _, b := range order {
		p.queue(b.c)
	}
}

// Counters returns the counters of each path.
func (p *Planner) Counters() []SubflowCounters { return slices.Clone(p.counters) }

// Established takes the report that a connection is established, with the path of
// its first subflow (see [Set.Index]).
func (p *Planner) Established(now time.Duration, ev SubflowEvent, first int) {
	c := p.connection(ev.Token)
	c.established, c.noJoin, c.since = true, ev.NoJoin, now
	c.local, c.remote, c.first = ev.Local, ev.Remote, first
	p.begin(now, c)
}

// Announced takes the report that the peer of a connection takes joins at an address.
func (p *Planner) Announced(token uint32, at netip.AddrPort) {
	c := p.conns[token]
	if c == nil {
		return // it is reported after the connection
	}
	c.announced = true
	c.heardOf |= p.set.joinBit(at)
	if c.awaits {
		p.queue(c)
	}
}

// SubflowOpened takes the report that a subflow is open.
func (p *Planner) SubflowOpened(now time.Duration, ev SubflowEvent) {
	c := p.conns[ev.Token]
	i := c.match(ev, func(s *plannedSubflow) bool { return s.phase == opening && s.local.Addr() == ev.Local.Addr() })
	if i < 0 {
		return // of a connection, or a subflow, that the planner does not manage
	}
	s := &c.subflows[i]
	p.enter(c, i, open, now)
	s.local, s.remote, s.other = ev.Local, ev.Remote, false
	p.counters[i].Opened++
	if r := p.answers(i, s.encapsulated); s.atJoin {
		r.opened = now
		if s.onTrial = r.row > 0; s.onTrial {
			p.wakeAt(c, now+provenAfter)
		}
	}
	p.queue(c) // another subflow may be dispensable now
}

// AtHAG reports whether the other end of a connection is a HAG, as far as is known: it takes
// no joins at the server's address, or has taken one at a join address.
func (p *Planner) AtHAG(token uint32) bool {
	c := p.conns[token]
	return c != nil && (c.noJoin || slices.ContainsFunc(c.subflows, func(s plannedSubflow) bool { return s.atJoin && s.phase == open }))
}

// SubflowClosed takes the report that a subflow has ended or could not be opened.
func (p *Planner) SubflowClosed(now time.Duration, ev SubflowEvent) {
	c := p.conns[ev.Token]
	i := c.find(ev)
	if i < 0 {
		return
	}
	s := &c.subflows[i]
	p.log.Debug("subflow closed", "token", ev.Token, "path", p.set.Paths[i].Name, "err", ev.Err)
	switch s.phase {
	case opening:
		p.failed(now, c, i, ev.Err)
	case open:
		p.ended(now, c, i, now-s.at, ev.Err)
	case closing:
		if s.dead {
			p.ended(now, c, i, settledAfter, syscall.EBADMSG)
			return
		}
		p.counters[i].Closed++
		p.enter(c, i, absent, 0)
		p.queue(c)
	}
}

// ended takes note that a subflow has ended which had been open for that time.
func (p *Planner) ended(now time.Duration, c *connection, i int, age time.Duration, err syscall.Errno) {
	s := &c.subflows[i]
	p.counters[i].Lost++
	p.forgotten(now, c, i, err)
	if age >= settledAfter {
		s.failures = 0
	}
	p.retry(now, c, i)
	p.meddled(now, c, i, err)
	if s.atJoin && age < provenAfter { // the kernel reports no error of it
		p.suspect(now, c, i, stripped)
	}
}

// EventsLost says that some of the kernel's reports were lost. The planner then sets
// the state of all subflows once more, so that those which are gone are noticed, and
// forgets the connections that are not tracked: they may have ended.
func (p *Planner) EventsLost(now time.Duration) {
	for _, c := range p.conns {
		if !c.tracked {
			p.drop(c)
			continue
		}
		for i := range c.subflows {
			c.subflows[i].told = Closed
		}
		p.queue(c)
		p.wakeAt(c, now+openTimeout) // no attempt waits forever
	}
}

// connection returns the connection with that token, a new one if there is none.
func (p *Planner) connection(token uint32) *connection {
	c := p.conns[token]
	if c == nil {
		c = &connection{token: token}
		p.conns[token] = c
	}
	return c
}

// begin gives a connection its subflows once the box relays it and the kernel lets
// it have some.
func (p *Planner) begin(now time.Duration, c *connection) {
	if !c.tracked || !c.established || c.subflows != nil {
		return
	}
	c.subflows = make([]plannedSubflow, len(p.set.Paths))
	c.subflows[c.first] = plannedSubflow{local: c.local, remote: c.remote, told: Normal}
	p.enter(c, c.first, open, now)
	c.fresh = true
	p.leaveSlow(c)
	p.watch(now, c)
	switch {
	case c.policy.After > 0:
		c.single = true
		p.queues.counting = append(p.queues.counting, c)
		p.sooner = true // nothing else may be due for long
	case !c.large:
		c.single, c.furtherAt = true, now+furtherDelay
		p.wakeAt(c, c.furtherAt)
	}
	if !c.single || p.effective[c.direction][c.first] != Normal {
		p.queue(c)
	}
}

// drop forgets a connection.
func (p *Planner) drop(c *connection) {
	for i := range c.subflows {
		p.enter(c, i, absent, 0)
	}
	p.undecided(c)
	c.gone = true
	delete(p.conns, c.token)
}

// enter changes the phase of a subflow. For the meaning of at see phase.
func (p *Planner) enter(c *connection, i int, to phase, at time.Duration) {
	s := &c.subflows[i]
	s.dead = s.dead && to == closing
	for _, change := range []struct {
		is bool
		by int
	}{{s.phase == open, -1}, {to == open, 1}} {
		if !change.is {
			continue
		}
		p.counters[i].Open += change.by
		if s.encapsulated {
			p.ways[i].open += change.by
		}
	}
	s.phase, s.at = to, at
}

// retry makes a subflow absent that is to be requested again after its backoff.
func (p *Planner) retry(now time.Duration, c *connection, i int) {
	s := &c.subflows[i]
	s.failures = min(s.failures+1, 32)
	p.enter(c, i, absent, now+backoff(s.failures))
	p.queue(c) // another path may have to replace it
}
