package paths

import (
	"container/heap"
	"time"
)

// Requests for connections that have had subflows before are paced: when a path
// comes back, thousands of connections need one at once.
const (
	pace  = 2000        // requests per second
	burst = MaxRequests // requests at once after a pause
)

// queues hold the connections that the planner has to look at.
type queues struct {
	urgent   []*connection // now
	paced    []*connection // as fast as the pace allows
	later    wakes         // at a time
	counting []*connection // single ones, until they have carried enough bytes

	watched []*connection // whose pauses matter

	counted time.Duration // last look at counting
	looked  time.Duration // last look at watched
	budget  float64       // requests that the pace allows now
	metered time.Duration // time for which budget holds
}

// wake is the time to look at a connection.
type wake struct {
	at time.Duration
	c  *connection
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

// queue makes the next Plan look at a connection.
func (p *Planner) queue(c *connection) {
	if c.queued || c.subflows == nil {
		return
	}
	c.queued = true
	p.queues.urgent = append(p.queues.urgent, c)
	p.sooner = true
}

// wakeAt makes Plan look at a connection at that time, or earlier.
func (p *Planner) wakeAt(c *connection, at time.Duration) {
	if c.wake == 0 || at < c.wake {
		c.wake = at
		heap.Push(&p.queues.later, wake{at, c})
		p.sooner = p.sooner || p.queues.later[0].c == c
	}
}

// refill adds to the budget for the time that has passed.
func (q *queues) refill(now time.Duration) {
	q.budget = min(q.budget+(now-q.metered).Seconds()*pace, burst)
	q.metered = now
}

// wait returns the time until there is something to do.
func (q *queues) wait(now time.Duration) time.Duration {
	wait := time.Hour
	if len(q.later) > 0 {
		wait = q.later[0].at - now
	}
	if len(q.paced) > 0 {
		wait = min(wait, time.Second*burst/4/pace) // for a quarter of a burst
	}
	if len(q.counting) > 0 {
		wait = min(wait, q.counted+q.countInterval()-now)
	}
	if len(q.watched) > 0 {
		wait = min(wait, q.looked+q.lookInterval()-now)
	}
	return max(wait, 0)
}

// countInterval is the time between two looks at the bytes of single connections. A
// look costs some 0.1 µs: many connections are looked at less often, for 1 % of a core.
func (q *queues) countInterval() time.Duration {
	return max(50*time.Millisecond, time.Duration(len(q.counting))*10*time.Microsecond)
}

// sweepInterval is the time between two sweeps.
const sweepInterval = time.Minute

// sweep forgets the connections that were not tracked at the last sweep, nor now.
// The kernel does not report the end of a connection that its peer has reset, and
// may report the beginning after the box has seen the end.
func (p *Planner) sweep(now time.Duration) {
	if now < p.swept+sweepInterval {
		return
	}
	p.swept = now
	for _, c := range p.conns {
		switch {
		case c.tracked:
		case c.orphan:
			p.drop(c)
		default:
			c.orphan = true
		}
	}
}

// wakeUp queues the connections whose time has come.
func (p *Planner) wakeUp(now time.Duration) {
	q := &p.queues
	for len(q.later) > 0 && q.later[0].at <= now {
		w := heap.Pop(&q.later).(wake)
		if w.c.wake == w.at {
			w.c.wake = 0
			p.queue(w.c)
		}
	}
}

// countBytes queues the connections that have carried enough for further subflows.
func (p *Planner) countBytes(now time.Duration) {
	q := &p.queues
	if now < q.counted+q.countInterval() {
		return
	}
	q.counted = now
	kept := q.counting[:0]
	for _, c := range q.counting {
		switch {
		case c.gone || !c.single:
		case c.traffic.BytesUp()+c.traffic.BytesDown() < c.policy.After:
			kept = append(kept, c)
		default:
			c.single = false
			p.measure(c)
			p.queue(c)
		}
	}
	clear(q.counting[len(kept):])
	q.counting = kept
}
