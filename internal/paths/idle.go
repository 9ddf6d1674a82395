package paths

import (
	"errors"
	"syscall"
	"time"
)

// A NAT forgets a mapping that is idle. A subflow through it then looks alive to both
// ends, and loses all that it is given. So the planner
//
//   - ends the subflows of a quiet connection on paths behind a NAT, while the NAT still
//     knows them, if the connection has a subflow elsewhere (they rest). They are opened
//     again when the connection carries a large transfer, or its other paths fall;
//   - keeps the others alive. The time between two keepalives grows with the time for
//     which the connection is idle, so that a NAT that forgets soon is found out, and a
//     connection that is idle for long costs little. A subflow that the NAT has forgotten
//     nevertheless ends with its next keepalive, and is replaced.
//
// A path with a keepalive of its own ([Path]) never rests, and has that time.

// Keeper is a [Traffic] whose subflows can be kept alive.
type Keeper interface {
	// SetKeepalive sets the idle time after which the connection's subflows are probed;
	// 0 is the box's default. A subflow that does not answer for a few seconds ends.
	SetKeepalive(idle time.Duration)
}

// Translation reports for each address family of a path whether a NAT translates its
// address.
type Translation struct{ V6, V4 bool }

const (
	// quietTime and quietBytes: a connection that carries less than quietBytes within
	// quietTime is quiet. NATs that forget connections sooner are not known.
	quietTime  = 8 * time.Second
	quietBytes = 32 << 10
	// idleInterval is the shortest time between two looks at the bytes of connections.
	idleInterval = 100 * time.Millisecond
	// forgetfulFor is the time for which a path's shorter keepalive is remembered.
	forgetfulFor = time.Hour
	// checkTime: after the fall of a path the subflows that are left are probed every
	// checkInterval for that time. Those that the NAT has forgotten end within it.
	checkTime     = 6 * time.Second
	checkInterval = time.Second
	// minKeepalive is the shortest time between keepalives that the planner chooses.
	minKeepalive = 5 * time.Second
)

// keepaliveSteps are the times between keepalives behind a NAT, by the time for which a
// connection has been idle. Keepalives are sent after 5, 15, 35, 75 and 135 s, and every
// 60 s from then on. Each step begins some seconds after the keepalive before, when that
// has been answered or the subflow has ended.
var keepaliveSteps = []struct{ idle, gap time.Duration }{
	{80 * time.Second, time.Minute},
	{40 * time.Second, 40 * time.Second},
	{20 * time.Second, 20 * time.Second},
	{9500 * time.Millisecond, 10 * time.Second},
	{0, minKeepalive},
}

// idleness is the planner's knowledge of a connection's pauses.
type idleness struct {
	watched   bool          // the connection is in queues.watched
	resting   uint8         // paths without a subflow while it is quiet, a bit each
	since     time.Duration // begin of the present quietTime
	bytes     uint64        // that it had carried then
	seen      uint64        // that it had carried at the last look
	moved     time.Duration // when it was last seen to carry bytes
	keepalive time.Duration // as set
	fallen    bool          // a path has fallen since the last look
	checked   time.Duration // until when the subflows must answer at once
}

// forgetful is what ended subflows have taught about the NAT of a path.
type forgetful struct {
	gap    time.Duration // the time between keepalives that it allows, 0 for any
	learnt time.Duration
}

// SetTranslated says which paths are behind a NAT.
func (p *Planner) SetTranslated(now time.Duration, all []Translation) {
	copy(p.translated, all)
	for _, c := range p.conns {
		p.watch(now, c)
	}
}

// watch begins to look at the bytes of a connection, if a path asks for that.
func (p *Planner) watch(now time.Duration, c *connection) {
	if c.idle.watched || c.subflows == nil || c.traffic == nil {
		return
	}
	for i := range p.set.Paths {
		if p.set.Paths[i].Keepalive > 0 || p.translated[i] != (Translation{}) {
			c.idle = idleness{watched: true, since: now, moved: now}
			p.queues.watched = append(p.queues.watched, c)
			p.sooner = true
			return
		}
	}
}

// lookInterval is the time between two looks at the bytes of watched connections, see
// countInterval.
func (q *queues) lookInterval() time.Duration {
	return max(idleInterval, time.Duration(len(q.watched))*10*time.Microsecond)
}

// lookForIdle looks at all watched connections, if it is time.
func (p *Planner) lookForIdle(now time.Duration) {
	q := &p.queues
	if len(q.watched) == 0 || now < q.looked+q.lookInterval() {
		return
	}
	q.looked = now
	kept := q.watched[:0]
	for _, c := range q.watched {
		if !c.gone {
			kept = append(kept, c)
			p.look(now, c)
		}
	}
	clear(q.watched[len(kept):])
	q.watched = kept
}

// look lets a connection rest that has been quiet, wakes one that is quiet no longer, and
// keeps its subflows alive.
func (p *Planner) look(now time.Duration, c *connection) {
	at, bytes := &c.idle, c.traffic.BytesUp()+c.traffic.BytesDown()
	if at.fallen {
		at.fallen, at.checked = false, now+checkTime
	}
	if bytes != at.seen || now < at.checked {
		at.seen, at.moved = bytes, now
	}
	busy := bytes-at.bytes >= quietBytes
	if busy || now-at.since >= quietTime {
		at.since, at.bytes = now, bytes
		resting := at.resting
		if at.resting = 0; !busy {
			at.resting = p.mayRest(c)
		}
		if at.resting != resting {
			p.queue(c)
		}
	}
	if gap := p.keepalive(now, c); gap != at.keepalive {
		at.keepalive = gap
		if k, ok := c.traffic.(Keeper); ok {
			k.SetKeepalive(gap)
		}
	}
}

// mayRest returns the paths that may rest, a bit each.
func (p *Planner) mayRest(c *connection) (all uint8) {
	for i := range c.subflows {
		if p.isTranslated(c, i) && p.set.Paths[i].Keepalive == 0 {
			all |= 1 << i
		}
	}
	return all
}

// isTranslated reports whether the connection's subflow on path i, or the last one that
// it had there, goes through a NAT.
func (p *Planner) isTranslated(c *connection, i int) bool {
	if c.subflows[i].encapsulated {
		return false // probes keep the NAT's mapping
	}
	if c.subflows[i].local.Addr().Is4() {
		return p.translated[i].V4
	}
	return p.translated[i].V6
}

// rests reports whether path i rests and another one, of no lesser use, serves the
// connection meanwhile.
func (c *connection) rests(i int, all []DesiredState) bool {
	if c.idle.resting>>i&1 == 0 {
		return false
	}
	for j := range c.subflows {
		if c.idle.resting>>j&1 == 0 && c.subflows[j].phase == open && all[j] >= max(all[i], Backup) {
			return true
		}
	}
	return false
}

// keepalive returns the time between keepalives that the connection's subflows need, 0
// for the box's default.
func (p *Planner) keepalive(now time.Duration, c *connection) (gap time.Duration) {
	for i := range c.subflows {
		if c.subflows[i].phase != open || c.desired(i, p.desired) == Closed {
			continue
		}
		own := p.set.Paths[i].Keepalive
		if own == 0 && p.isTranslated(c, i) {
			own = p.natKeepalive(now, i, now-c.idle.moved)
			if now < c.idle.checked {
				own = checkInterval
			}
		}
		if own > 0 && (gap == 0 || own < gap) {
			gap = own
		}
	}
	return gap
}

// natKeepalive returns the time between keepalives through the NAT of path i, for a
// connection that has been idle for that time.
func (p *Planner) natKeepalive(now time.Duration, i int, idle time.Duration) time.Duration {
	limit := time.Hour
	if f := p.forgetful[i]; f.gap > 0 && now-f.learnt < forgetfulFor {
		limit = f.gap
	}
	for _, step := range keepaliveSteps {
		if idle >= step.idle {
			return min(step.gap, limit)
		}
	}
	return minKeepalive
}

// forgotten learns from a subflow that has ended whether the NAT of path i forgets
// connections sooner than they are kept alive.
func (p *Planner) forgotten(now time.Duration, c *connection, i int, err syscall.Errno) {
	gap := c.idle.keepalive
	if !c.idle.watched || !p.isTranslated(c, i) || p.set.Paths[i].Keepalive > 0 || gap < minKeepalive || now-c.idle.moved < gap ||
		!errors.Is(err, syscall.ETIMEDOUT) && !errors.Is(err, syscall.ECONNRESET) {
		return
	}
	f := &p.forgetful[i]
	known := f.gap > 0 && now-f.learnt < forgetfulFor
	if next := max(gap/2, minKeepalive); !known || next < f.gap {
		f.gap = next
		p.log.Info("the NAT on a path forgets idle connections soon: the box keeps them alive",
			"path", p.set.Paths[i].Name, "forgets_within", gap, "keepalive", next)
	}
	f.learnt = now
}
