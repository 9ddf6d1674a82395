package core

import (
	"time"

	"github.com/synbond/synbond/state"
)

const (
	// ExpireEvery is the time between two looks at what has waited too long. The
	// driver of a core calls Tick as often while [Core.Waits] reports true, beside the times
	// that it is asked for.
	ExpireEvery = 250 * time.Millisecond
	// mostExpired bounds what one look ends, and with it the time that it takes.
	mostExpired = 1000
	// askAfter is the age at which the driver is first asked about a released flow that
	// waits for its client; then it is asked each time that age has doubled.
	askAfter = time.Second
)

// retry is a packet, or else a dial, to be tried again.
type retry struct {
	at     time.Duration
	packet Packet
	until  time.Duration // of a packet
	dial   state.ID
}

// retryLater queues a retry. As all wait equally long, the oldest is always due first.
func (c *Core) retryLater(acts []Action, now time.Duration, r retry) []Action {
	r.at = now + retryEvery
	c.retries = append(c.retries, r)
	return append(acts, Action{Kind: Wake, At: r.at})
}

// Tick takes the event that time has passed. It tries again what is due, and ends
// what has waited too long.
func (c *Core) Tick(acts []Action, now time.Duration) []Action {
	for _, r := range c.due(now) {
		if r.dial == 0 {
			acts = c.packet(acts, now, r.packet, r.until)
		} else {
			acts = c.dialAgain(acts, now, r.dial)
		}
	}
	return c.expire(c.giveUp(acts, now), now)
}

// due takes the retries out of the queue whose time has come.
func (c *Core) due(now time.Duration) []retry {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for n < len(c.retries) && c.retries[n].at <= now {
		n++
	}
	due := c.retries[:n:n]
	if c.retries = c.retries[n:]; len(c.retries) == 0 {
		c.retries = nil
	}
	return due
}

// dialAgain repeats a dial whose address was busy, unless its flow has ended.
func (c *Core) dialAgain(acts []Action, now time.Duration, id state.ID) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.handshakes[id]; h != nil {
		h.dialed = now
		acts = append(acts, Action{Kind: Connect, Flow: id, Dial: h.dial})
	}
	return acts
}

// expire ends what has waited too long, and asks about clients that let the box wait.
func (c *Core) expire(acts []Action, now time.Duration) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.expired
	if now-last < ExpireEvery {
		return acts
	}
	c.expired = now
	for _, f := range c.table.Expire(now, mostExpired) {
		acts = append(acts, Action{Kind: Expired, Flow: f.ID, Key: f.Key})
		if f.Action != state.Relay {
			continue
		}
		if f.State == state.TimedOut { // its SYN is held
			acts = append(acts, settled(now, f, Drop, f.Reason))
			if h := c.handshakes[f.ID]; h != nil && h.race == nil && h.through == nil {
				acts = c.failed(acts, now, h, state.Unanswered, 0)
			}
		}
		acts = c.abandon(acts, f.ID)
	}
	for _, f := range c.table.Waiting(state.Released, askAfter, last, now) {
		if f.Asked != nil {
			continue // the client is there already
		}
		acts = append(acts, Action{Kind: Ask, Flow: f.ID, Key: f.Key})
		c.waits(now, &f)
	}
	return acts
}
