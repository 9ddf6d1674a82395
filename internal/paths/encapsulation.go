package paths

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"
)

// A path may have an encapsulated way beside the plain one: there subflows travel in UDP datagrams,
// which middleboxes cannot read. It is used on a path that refuses plain subflows, and by
// connections all of whose subflows a middlebox has reset: MPTCP then sends over any new
// subflow what the others had not delivered.

// Offer is what the HAG offers for encapsulated subflows on a path. The zero Offer is none yet.
type Offer struct {
	Inner  netip.Addr // from which they start
	Key    uint64
	Denial string // why there is none
}

// Encapsulation is the encapsulated way of a path on this machine. The zero value is none.
type Encapsulation struct {
	Index  int            // of the interface to which its subflows are bound
	Local  netip.Addr     // of the interface
	Remote netip.AddrPort // the HAG, as the interface shows it
}

// Usable reports whether subflows can go this way.
func (e Encapsulation) Usable() bool { return e.Index != 0 }

// EncapsulationStatus is the state of the encapsulated way of a path.
type EncapsulationStatus struct {
	Wanted  bool
	Open    int     // subflows now
	Refusal Refusal // why connections do not use it although they could
}

// way is the encapsulated way of a path.
type way struct {
	Encapsulation
	refusals
	wanted bool
	open   int // subflows
}

// takes reports whether subflows can be expected to be accepted.
func (w *way) takes() bool { return w.Usable() && w.level == 0 }

// detour is the way that a connection without any subflow tries next on a path.
type detour uint8

const (
	undecidedWay detour = iota // as others do
	byPlain
	byEncapsulation
)

// encapsulatedID is the address ID of the inner address of the first path. Those of the
// paths' own addresses are lower: see [connection.addressID].
const encapsulatedID = 2*MaxPaths + 1

// answers returns the answers to joins on path i, by the one way or the other.
func (p *Planner) answers(i int, encapsulated bool) *refusals {
	if encapsulated {
		return &p.ways[i].refusals
	}
	return &p.refusals[i]
}

// Encapsulations returns the state of the encapsulated way of each path.
func (p *Planner) Encapsulations() []EncapsulationStatus {
	out := make([]EncapsulationStatus, len(p.ways))
	for i := range p.ways {
		w := &p.ways[i]
		out[i] = EncapsulationStatus{Wanted: w.wanted, Open: w.open}
		if w.level > 0 {
			out[i].Refusal = w.why
		}
	}
	return out
}

// want says that the encapsulated way of path i is needed.
func (p *Planner) want(i int) { p.ways[i].wanted = true }

// SetEncapsulation takes the encapsulated way of path i. Subflows of an earlier one are replaced.
func (p *Planner) SetEncapsulation(i int, e Encapsulation) {
	w := &p.ways[i]
	if w.Encapsulation == e {
		return
	}
	w.Encapsulation, w.refusals = e, newRefusals()
	for _, c := range p.conns {
		if c.subflows == nil {
			continue
		}
		switch s := &c.subflows[i]; {
		case s.phase == open && s.encapsulated:
			s.dead = true
		case !e.Usable():
			continue
		case s.phase == opening && s.overdue && !s.encapsulated:
			p.enter(c, i, absent, 0) // its late answer would be that of an unknown subflow
		case s.phase == absent && (c.robbed || !c.alive() || p.refusals[i].level > 0):
			s.failures, s.at = 0, 0
		default:
			continue
		}
		p.queue(c)
	}
}

// ends returns the two ends of a new subflow of c on path i, by the way that it is to go.
func (p *Planner) ends(c *connection, i int) (local Endpoint, remote netip.AddrPort, err error) {
	if w := &p.ways[i]; c.subflows[i].encapsulated {
		return Endpoint{netip.AddrPortFrom(w.Local, 0), encapsulatedID + uint8(i), w.Index}, w.Remote, nil
	}
	return p.set.ends(c, i)
}

// hesitates reports whether a connection shall wait until it has little in flight, because the
// next attempt on path i may cost a repeat of that.
func (p *Planner) hesitates(now time.Duration, c *connection, i int) bool {
	r, w := &p.refusals[i], &p.ways[i]
	if r.level > 0 && w.Usable() {
		return w.hesitates(now, c)
	}
	return r.hesitates(now, c)
}

// giveUp ends the wait of an attempt on path i that is overdue, if there is another way. The kernel
// repeats its SYN for two minutes.
func (p *Planner) giveUp(now time.Duration, c *connection, i int) {
	if s := &c.subflows[i]; !s.encapsulated && p.refusals[i].level > 0 && p.ways[i].takes() {
		p.enter(c, i, absent, now)
		p.queue(c)
	}
}

// otherWay has a connection without any subflow try the other way on path i next.
func (p *Planner) otherWay(c *connection, i int) {
	s := &c.subflows[i]
	if s.detour = byEncapsulation; s.encapsulated {
		s.detour = byPlain
	}
}

// meddled takes note that a subflow on path i has ended with that error. If a middlebox has
// reset the last one, all paths where that has happened get encapsulated subflows at once.
//
// The kernel resets a subflow whose segments lack their options, with EBADMSG, if it cannot fall
// back to TCP any more (subflow_check_data_avail); the other end sees ECONNRESET.
func (p *Planner) meddled(now time.Duration, c *connection, i int, err syscall.Errno) {
	if !errors.Is(err, syscall.EBADMSG) && !errors.Is(err, syscall.ECONNRESET) {
		return
	}
	s := &c.subflows[i]
	if s.detour = byEncapsulation; s.encapsulated {
		s.detour = byPlain
	}
	c.robbed = true
	if c.carried(now) {
		return
	}
	c.bereft = now + outliveAfter // until then the connection may end, as those that a host resets
	p.wakeAt(c, c.bereft)
	for j := range c.subflows {
		if at := &c.subflows[j]; at.phase == absent && at.detour == byEncapsulation && p.ways[j].Usable() {
			at.failures, at.at = 0, now
		}
	}
}

// bypass wants encapsulated ways for a connection that has lost its last subflow to a middlebox.
func (p *Planner) bypass(now time.Duration, c *connection) {
	if c.bereft == 0 || now < c.bereft {
		return
	}
	c.bereft = 0
	if c.carried(now) || c.ending() {
		return
	}
	for i := range c.subflows {
		if c.subflows[i].detour == byEncapsulation {
			p.want(i)
		}
	}
}

// carried reports whether a subflow is open that counts. Where a middlebox has reset one, the next
// ones open as well, and are reset with their first segment.
func (c *connection) carried(now time.Duration) bool {
	return slices.ContainsFunc(c.subflows, func(s plannedSubflow) bool {
		return s.phase == open && !s.dead && (!c.robbed || now-s.at >= provenAfter)
	})
}

// missingLooks is the number of looks in a row that must miss a subflow before it counts as dead.
const missingLooks = 2

// Stranded says that no subflow of a connection lives. The kernel does not always report the
// end of a subflow that it resets itself: the subflow is closed, but kept until something else
// happens on the connection (subflow_check_data_avail schedules no work).
func (p *Planner) Stranded(token uint32) {
	c := p.conns[token]
	if c == nil {
		return
	}
	for i := range c.subflows {
		c.subflows[i].dead = c.subflows[i].phase == open
	}
	p.queue(c)
}

// miss looks for subflows of a connection that a snapshot does not show: they are dead, too.
func (p *Planner) miss(now time.Duration, c *connection, pr *Progress) {
	for i := range c.subflows {
		s := &c.subflows[i]
		shown := slices.ContainsFunc(pr.Subflows, func(o SubflowProgress) bool { return o.Local == s.local })
		switch {
		case s.phase != open || s.dead || shown:
			s.missed = 0
		case now-s.at < provenAfter: // the snapshot may be older
		default:
			if s.missed++; s.missed >= missingLooks {
				s.dead = true
				p.queue(c)
			}
		}
	}
}
