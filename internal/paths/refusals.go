package paths

import (
	"errors"
	"slices"
	"syscall"
	"time"
)

// A subflow that fails costs more than its own packets: whenever a subflow ends, the
// kernel sends again by the others all that the connection has in flight (kernel:
// __mptcp_retransmit_pending_data). So a path that only refuses subflows is left alone,
// by all connections together, for longer each time.
const (
	// tolerated is the number of refusals in a row that say nothing about a path: a HAG
	// refuses joins at an address before it has announced it, and knows nothing of a
	// connection that has ended or fallen back to TCP.
	tolerated = 3
	// minPause and maxPause limit the time between two attempts on a path that refuses
	// subflows. It doubles with each further connection that is refused.
	minPause = time.Second
	maxPause = time.Minute
	// overdueAfter is the time after which an attempt counts as unanswered: time for two
	// repeats of the SYN.
	overdueAfter = 3 * time.Second
	// provenAfter is the time open after which a subflow counts as accepted. A peer that
	// misses the MPTCP options resets the subflow after one round trip.
	provenAfter = 500 * time.Millisecond
	// littleInFlight (bytes) may be sent again for an attempt on a path that lately refused
	// one. A connection with more in flight waits up to hesitation for less, and looks
	// again after lookAgain.
	littleInFlight = 512 << 10
	hesitation     = 10 * time.Second
	lookAgain      = 100 * time.Millisecond
	// manyFailures is the least number of failures of a connection that was refused after
	// a pause: see [backoff].
	manyFailures = 7
	// outliveAfter is the time after a failed attempt for which the connection must live on,
	// outliveLoss that after the loss of a new subflow, which may be the end of the connection:
	// the end of the other subflows may still be on a slow path, behind a full queue.
	outliveAfter = 50 * time.Millisecond
	outliveLoss  = time.Second
	// fewWaiting is the number of waiting connections that are compared for the next attempt.
	fewWaiting = 64
)

// Refusal is the reason for which a path gets no subflows now.
type Refusal struct {
	Reason string // "" if the path takes subflows
	Likely string // the most common cause
}

// refusals are a path's answers to joins. Joins to a server's own address do not count:
// they say more about the server.
type refusals struct {
	row     int           // refusals since the last subflow that was accepted
	level   uint8         // pauses since then; with 0 every connection may try
	until   time.Duration // end of the pause
	opened  time.Duration // last time that a subflow was opened
	last    uint32        // token of the connection that was refused last
	trial   *connection   // makes the one attempt after a pause
	waiting map[*connection]struct{}
	why     Refusal
	at      time.Duration // of the last refusal
}

func newRefusals() refusals {
	return refusals{opened: -overdueAfter, waiting: make(map[*connection]struct{})}
}

// pause returns the length of the present pause.
func (r *refusals) pause() time.Duration {
	if r.level == 0 {
		return 0
	}
	return min(minPause<<(r.level-1), maxPause)
}

// hesitates reports whether a connection on a path that lately refused a subflow shall wait
// until it has little in flight.
func (r *refusals) hesitates(now time.Duration, c *connection) bool {
	return r.row > 0 && now < r.at+r.pause()+hesitation && c.alive() && c.unacknowledged() > littleInFlight
}

// Refusals returns for each path why it gets no subflows.
func (p *Planner) Refusals() []Refusal {
	out := make([]Refusal, len(p.refusals))
	for i := range p.refusals {
		if r := &p.refusals[i]; r.level > 0 {
			out[i] = r.why
		}
	}
	return out
}

// Renew forgets what was refused: the HAG has changed.
func (p *Planner) Renew() {
	for i := range p.refusals {
		p.acquit(i)
		p.ways[i].refusals, p.ways[i].wanted = newRefusals(), false
	}
	for _, c := range p.conns {
		for i := range c.subflows {
			c.subflows[i].failures = 0
			if c.subflows[i].phase == absent {
				c.subflows[i].at = 0
			}
		}
		p.queue(c)
	}
}

// admit reports whether a connection may attempt a subflow on path i now, and chooses its way.
// If not, the connection waits for its turn. One without any subflow may always.
func (p *Planner) admit(now time.Duration, c *connection, i int) bool {
	r, s, w := &p.refusals[i], &c.subflows[i], &p.ways[i]
	s.encapsulated = false
	switch {
	case !c.carried(now):
		s.encapsulated = w.Usable() && (s.detour == byEncapsulation || s.detour == undecidedWay && r.level > 0)
		return true
	case r.level == 0, !c.joinsAtHAG(i):
		return true
	case r.mayTry(now, c) && !r.hesitates(now, c):
		r.trial = c
		delete(r.waiting, c)
		return true
	case w.Usable() && (w.level == 0 || w.mayTry(now, c)):
		if w.level > 0 {
			w.trial = c
		}
		s.encapsulated = true
		delete(r.waiting, c)
		return true
	}
	r.waiting[c] = struct{}{}
	return false
}

// mayTry reports whether a connection may make the one attempt after a pause.
func (r *refusals) mayTry(now time.Duration, c *connection) bool {
	return now >= r.until && (r.trial == nil || r.trial == c)
}

// refused takes note that a connection's attempt on path i, by the one way or the other, has
// failed.
func (p *Planner) refused(now time.Duration, c *connection, i int, encapsulated bool, why Refusal) {
	r, s := p.answers(i, encapsulated), &c.subflows[i]
	if !s.atJoin {
		return
	}
	another := c.token != r.last
	r.at, r.last = now, c.token
	switch {
	case why == unanswered:
		r.row += tolerated // that is more than a bad moment
	case another || p.counters[i].Open == 0: // else the path works for others
		r.row++
	}
	switch {
	case r.level == 0 && r.row < tolerated:
		return
	case r.level == 0:
		p.log.Debug("subflows are refused", "path", p.set.Paths[i].Name, "encapsulated", encapsulated, "reason", why.Reason)
		r.level = 1
		p.want(i)
	case r.trial != c:
		return // an attempt from before the pause
	case another && r.pause() < maxPause:
		r.level++
	}
	r.why, r.trial, r.until = why, nil, now+r.pause()
	if encapsulated || p.ways[i].takes() {
		p.queue(c)
		return // there is another way, or a third one to wait for
	}
	// This connection lets others go first, if there are some.
	s.failures = max(s.failures, manyFailures)
	s.at = max(s.at, now+backoff(s.failures))
	r.waiting[c] = struct{}{}
}

// accepted takes note that path i takes subflows by the one way or the other.
func (p *Planner) accepted(i int, encapsulated bool) {
	if encapsulated {
		r := &p.ways[i].refusals
		r.row, r.level, r.trial = 0, 0, nil
		return
	}
	if p.refusals[i].level > 0 {
		p.log.Debug("subflows are accepted again", "path", p.set.Paths[i].Name)
	}
	p.acquit(i)
}

// acquit forgets the refusals of path i.
func (p *Planner) acquit(i int) {
	r := &p.refusals[i]
	for c := range r.waiting {
		if s := &c.subflows[i]; s.phase == absent {
			s.failures, s.at = 0, 0
		}
		p.queue(c)
	}
	clear(r.waiting)
	r.row, r.level, r.trial = 0, 0, nil
}

// undecided takes note that an attempt has ended for another reason than the path.
func (p *Planner) undecided(c *connection) {
	for i := range p.refusals {
		for _, r := range []*refusals{&p.refusals[i], &p.ways[i].refusals} {
			if r.trial == c {
				r.trial = nil
				p.sooner = true
			}
			delete(r.waiting, c)
		}
	}
}

// tryAgain queues one of the connections that wait for each path whose pause is over. It
// returns the time of the next pause's end.
func (p *Planner) tryAgain(now time.Duration) (next time.Duration) {
	next = now + time.Hour
	for i := range p.refusals {
		r := &p.refusals[i]
		switch {
		case r.level == 0 || r.trial != nil || len(r.waiting) == 0:
		case now < r.until:
			next = min(next, r.until)
		default:
			chosen, later := r.choose(now, i)
			next = min(next, later)
			if chosen != nil {
				delete(r.waiting, chosen)
				p.queue(chosen)
			}
		}
	}
	return next
}

// choose returns the connection for the next attempt on path i, one that was refused
// seldom and has little in flight: the attempt may cost it a repeat of that. Nil stands for
// none before the time that is returned.
func (r *refusals) choose(now time.Duration, i int) (chosen *connection, later time.Duration) {
	later = now + time.Hour
	var least [2]int // failures, bytes in flight
	n := 0
	for c := range r.waiting {
		if at := c.subflows[i].at; now < at {
			later = min(later, at)
		} else if cost := [2]int{int(c.subflows[i].failures), c.unacknowledged()}; chosen == nil || slices.Compare(cost[:], least[:]) < 0 {
			chosen, least = c, cost
		}
		if n++; n == fewWaiting {
			break
		}
	}
	return chosen, later
}

// review looks at a connection's attempts on path i: one that is overdue, one that was
// accepted, and one that has failed.
func (p *Planner) review(now time.Duration, c *connection, i int) {
	s := &c.subflows[i]
	switch {
	case s.phase == opening && !s.overdue:
		if began := s.at - openTimeout; now >= began+overdueAfter {
			s.overdue = true
			if p.answers(i, s.encapsulated).opened < began {
				p.refused(now, c, i, s.encapsulated, unanswered)
			}
			p.giveUp(now, c, i)
		}
	case s.phase == open && s.onTrial && now >= s.at+provenAfter:
		s.onTrial = false
		p.accepted(i, s.encapsulated)
	case s.judged != 0 && now >= s.judged:
		s.judged = 0
		if c.alive() && !c.ending() && c.desired(i, p.desired) != Closed {
			p.refused(now, c, i, s.blamed, s.why)
		} else {
			p.undecided(c)
		}
	}
}

// suspect takes note that an attempt on path i has failed. It counts as a refusal if the
// connection outlives it: a HAG refuses those that have just ended.
func (p *Planner) suspect(now time.Duration, c *connection, i int, why Refusal) {
	s := &c.subflows[i]
	s.why, s.blamed, s.judged = why, s.encapsulated, now+outliveAfter
	if why == stripped {
		s.judged = now + outliveLoss
		if c.alive() {
			s.at = max(s.at, s.judged)
		}
	}
	p.wakeAt(c, s.judged)
}

var (
	unanswered = Refusal{"subflows are refused: no answer", "something on the path drops SYNs with MP_JOIN, or TCP to the join port"}
	wrong      = Refusal{"subflows are refused: the answer is not the HAG's", "something on the path removes or changes MPTCP options, or answers at the join port in the HAG's place"}
	stripped   = Refusal{"subflows are refused: reset after the handshake", "something on the path removes MPTCP options"}
)

// refusalOf returns what the error of an attempt says about its path. It reports false
// for an error that says something about the connection: ENOTCONN means that it is not
// ready for subflows, ESRCH and EINVAL that it has ended. The kernel closes a subflow without
// an error if the SYN+ACK has no MP_JOIN, or one with a wrong HMAC (subflow_finish_connect).
func refusalOf(err error) (Refusal, bool) {
	switch {
	case errors.Is(err, syscall.ENOTCONN), errors.Is(err, syscall.ESRCH), errors.Is(err, syscall.EINVAL), errors.Is(err, errNoAddress):
		return Refusal{}, false
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return Refusal{"subflows are refused: reset", "a firewall on the path resets SYNs with MP_JOIN, or the HAG takes none at the join port"}, true
	case errors.Is(err, syscall.ETIMEDOUT):
		return unanswered, true
	case errors.Is(err, syscall.Errno(0)):
		return wrong, true
	}
	return Refusal{"subflows are refused: " + err.Error(), "a filter on the path, or a missing route, keeps TCP from the join port"}, true
}
