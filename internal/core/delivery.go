package core

import (
	"time"

	"github.com/synbond/synbond/state"
)

// A released SYN goes to a listener of this machine, whose answer goes to the client, whose ACK
// completes the handshake. Another program on the machine may drop any of the three. The box
// notices by the SYNs that clients repeat, and by handshakes that never end:
//
//	the client repeats its SYN, and the kernel has no half-open connection → it passes
//	the client repeats its SYN twice                                       → it passes
//	the first handshake since the start, or later three, wait for 2 s      → others pass
//
// What is lost twice, or waits, is no accident: unless a handshake has been completed lately on
// the same side, new flows then pass, too, and one tries again from time to time.

const (
	// stuckAfter is the age of a handshake that a client would have completed.
	stuckAfter = 2 * askAfter
	// enoughStuck handshakes, none of them completed, are more than hosts that scan ports.
	enoughStuck = 3
	// enoughLost SYNs, without a handshake that is completed between them, are no accident.
	enoughLost = 2
	// deliveryTry is the time for which others pass while a flow tries again.
	deliveryTry = 2 * time.Second
	// longestUndelivered bounds the pause between two tries: a flood may look the same.
	longestUndelivered = time.Minute
)

// delivery remembers whether handshakes with the clients of a side are completed.
type delivery struct {
	proved time.Duration // when one was last completed, if ever
	isGood bool
	lost   int           // flows since then whose clients have repeated their SYNs
	stuck  int           // handshakes since then that have waited for stuckAfter
	until  time.Duration // new flows pass, while pause is not 0
	pause  time.Duration
}

// deliveries has the memory by side and address family.
type deliveries [2][2]delivery

// of returns the memory for a flow.
func (d *deliveries) of(f *state.Flow) *delivery {
	family := 0
	if f.Key.Server().Addr().Is4() {
		family = 1
	}
	return &d[f.Side][family]
}

// completed notes that a client has completed its handshake.
func (d *delivery) completed(now time.Duration) { *d = delivery{proved: now, isGood: true} }

// loses notes a SYN that was released in vain.
func (d *delivery) loses(now time.Duration) {
	if d.lost++; d.lost >= enoughLost || d.pause != 0 {
		d.fails(now)
	}
}

// fails has new flows pass for a while, unless a handshake was completed lately.
func (d *delivery) fails(now time.Duration) {
	if d.isGood && now-d.proved < provedFor {
		return
	}
	d.pause = min(max(firstPause, 2*d.pause), longestUndelivered)
	d.until, d.stuck = now+d.pause, 0
}

// apply has a flow pass that is about to begin, unless it is to try again.
func (d *delivery) apply(now time.Duration, f *state.Flow) {
	switch {
	case f.Action != state.Relay || d.pause == 0:
	case now < d.until:
		f.Action, f.Reason, f.Rule = state.Strip, state.NotDelivered, ""
	default:
		d.until = now + deliveryTry
	}
}

// undelivered reports whether the SYN of a flow that has been released, and is repeated by its
// client, had better pass.
func (c *Core) undelivered(now time.Duration, s *heldSYN, b state.Begun) bool {
	h := c.handshakes[b.ID]
	if b.Other || h == nil || now-h.last < leastRepeat {
		return false
	}
	h.last = now
	h.repeats++
	return h.repeats > 1 || c.over(b.ID)
}

// wasLost reports whether a SYN is one that was released for a flow, of which the kernel had
// no half-open connection when the box asked: a client that has reset it would not repeat it.
func wasLost(last, f *state.Flow) bool {
	return last.State == state.Abandoned && last.Reason == state.Reset && last.ISN == f.ISN && last.Side == f.Side
}

// waits notes a handshake that waits for its client.
func (c *Core) waits(now time.Duration, f *state.Flow) {
	if age := now - f.Changed; age < stuckAfter || age >= 2*stuckAfter {
		return // it is counted once
	}
	d := c.deliveries.of(f)
	if d.stuck++; d.stuck >= enoughStuck || !d.isGood {
		d.fails(now)
	}
}

// Undelivered returns the address families over which flows pass since handshakes with clients
// are not completed.
func (c *Core) Undelivered() (s Stopped) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, side := range c.deliveries {
		s.IPv6 = s.IPv6 || side[0].pause != 0
		s.IPv4 = s.IPv4 || side[1].pause != 0
	}
	return s
}
