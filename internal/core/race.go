package core

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/synbond/synbond/state"
)

// A client that has asked for a name waits for the first of its addresses that answers. They
// are dialed one after the other, by family in turn, IPv6 first, without waiting for the
// outcome of those before (RFC 8305, section 4 and 5).
const (
	// attemptDelay is the Connection Attempt Delay of RFC 8305, section 5.
	attemptDelay = 250 * time.Millisecond
	// mostCandidates bounds the addresses of a name that are dialed.
	mostCandidates = 8
)

// race is the dials for a request.
type race struct {
	request  Request
	waiting  []candidate
	dials    []rival
	tried    int
	last6    bool // the last dial was one of IPv6
	next     time.Duration
	resolved bool    // no further addresses come
	denied   *Choice // of an address that policy does not permit
	err      error   // of a dial that has failed
}

// candidate is an address of the destination.
type candidate struct {
	server netip.AddrPort
	rule   string // that permits it
}

// rival is a candidate that is dialed.
type rival struct {
	id state.ID
	candidate
}

// add enters a candidate.
func (r *race) add(c candidate) {
	if r.tried+len(r.waiting) < mostCandidates {
		r.waiting = append(r.waiting, c)
	}
}

// take takes the next candidate: of the other family than the last one, if there is one.
func (r *race) take() candidate {
	want6 := !r.last6
	i := max(0, slices.IndexFunc(r.waiting, func(c candidate) bool { return c.server.Addr().Is6() == want6 }))
	next := r.waiting[i]
	r.waiting = slices.Delete(r.waiting, i, i+1)
	r.last6, r.tried = next.server.Addr().Is6(), r.tried+1
	return next
}

// goOn begins the dial that is due, or ends a race in which no more can come.
func (c *Core) goOn(acts []Action, now time.Duration, id state.ID, h *handshake) []Action {
	r := h.race
	switch {
	case len(r.waiting) > 0 && (len(r.dials) == 0 || now >= r.next):
		next := rival{c.table.Mint(id), r.take()}
		r.dials = append(r.dials, next)
		c.rivals[next.id] = id
		acts = append(acts, Action{Kind: Connect, Flow: next.id, Dial: Dial{Client: r.request.Client, Server: next.server, Asked: true}})
		r.next = now + attemptDelay
		return c.tryFor(acts, now, id, attemptDelay)
	case len(r.waiting) == 0 && len(r.dials) == 0 && r.resolved:
		return c.raceLost(acts, now, id, r)
	}
	return acts
}

// raced takes the end of a dial of a race.
func (c *Core) raced(acts []Action, now time.Duration, flow, id state.ID, err error) []Action {
	h := c.handshakes[flow]
	r := h.race
	i := slices.IndexFunc(r.dials, func(d rival) bool { return d.id == id })
	ended := r.dials[i]
	r.dials = slices.Delete(r.dials, i, i+1)
	delete(c.rivals, id)
	if err != nil {
		r.note(err)
		r.next = now
		return c.goOn(acts, now, flow, h)
	}
	acts = c.abortRivals(acts, r)
	delete(c.handshakes, flow)
	c.table.Adopt(flow, id)
	asked := &state.Asked{User: r.request.User, Name: r.request.Name, Server: ended.server}
	c.table.Amend(id, asked, ended.rule)
	f, live := c.table.Move(now, id, state.Released, state.None)
	if !live {
		return append(acts, Action{Kind: Abort, Flow: id})
	}
	return append(acts, settled(now, f, Deliver, state.None))
}

// note remembers the error of a dial. A refusal says more than silence, and that more than
// that this machine has no way to a family of addresses.
func (r *race) note(err error) {
	if r.err == nil || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(r.err, syscall.ENETUNREACH) {
		r.err = err
	}
}

// raceLost refuses a client to whose destination no dial has led.
func (c *Core) raceLost(acts []Action, now time.Duration, id state.ID, r *race) []Action {
	delete(c.handshakes, id)
	o := outcome{state: state.Rejected, verdict: HostUnreachable, reason: state.NoAddress}
	switch {
	case r.err != nil:
		o = outcomeOf(r.err)
	case r.denied != nil:
		o.verdict, o.reason = Prohibited, r.denied.Reason
		if f, live := c.table.ByID(id); live {
			c.table.Amend(id, f.Asked, r.denied.Rule)
		}
	}
	f, live := c.table.Move(now, id, o.state, o.reason)
	if !live {
		return acts
	}
	return append(acts, settled(now, f, o.verdict, o.reason))
}

// abortRivals gives up the dials of a race.
func (c *Core) abortRivals(acts []Action, r *race) []Action {
	for _, d := range r.dials {
		delete(c.rivals, d.id)
		acts = append(acts, Action{Kind: Abort, Flow: d.id})
	}
	r.dials = nil
	return acts
}
