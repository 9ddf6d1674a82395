package core

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/synbond/synbond/state"
)

// outcome is one end of a dial.
type outcome struct {
	errno   syscall.Errno
	state   state.State
	verdict Verdict
	reason  state.Reason
}

// outcomes of connect(2): the client is to see what the box saw. RFC 1122,
// section 4.2.3.9, and the kernel's icmp_err_convert say which error means what.
var outcomes = []outcome{
	{0, state.Released, Deliver, state.None},
	{syscall.ECONNREFUSED, state.Refused, Reset, state.WasRefused},
	{syscall.ENETUNREACH, state.Unreachable, NoRoute, state.NoRoute},
	{syscall.EHOSTUNREACH, state.Unreachable, HostUnreachable, state.HostUnreachable},
	{syscall.EHOSTDOWN, state.Unreachable, HostUnreachable, state.HostUnreachable},
	{syscall.EACCES, state.Unreachable, Prohibited, state.Prohibited},
	{syscall.ETIMEDOUT, state.TimedOut, Drop, state.NoAnswer},
	// The 5-tuple is in use, or was a moment ago: passing the SYN on would have
	// its answer delivered to the old socket.
	{syscall.EADDRNOTAVAIL, state.Failed, Drop, state.TupleBusy},
	// A listener of this machine has the client's port.
	{syscall.EADDRINUSE, state.Failed, Accept, state.PortInUse},
	{syscall.EMFILE, state.Failed, Accept, state.FilesFull},
	{syscall.ENFILE, state.Failed, Accept, state.FilesFull},
	{syscall.ENOBUFS, state.Failed, Accept, state.MemoryFull},
	{syscall.ENOMEM, state.Failed, Accept, state.MemoryFull},
}

// outcomeOf finds the outcome for an error. An unknown one passes the SYN on.
func outcomeOf(err error) outcome {
	var errno syscall.Errno
	errors.As(err, &errno)
	for _, o := range outcomes {
		if o.errno == errno && (err == nil) == (errno == 0) {
			return o
		}
	}
	return outcome{errno, state.Failed, Accept, state.DialFailed}
}

// errHere stands for a dial that this machine's own routing has refused. The router has
// decided to forward the client's SYN, so the refusal concerns the box's socket only.
var errHere = errors.New("the machine refuses the dial")

// RefusedHere reports whether a dial that has ended before anything was sent was refused by
// this machine's routing.
func RefusedHere(err error) bool { return outcomeOf(err).state == state.Unreachable }

// DialEnded takes the end of a dial.
func (c *Core) DialEnded(acts []Action, now time.Duration, id state.ID, end Dialed) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	if flow, races := c.rivals[id]; races {
		if h := c.handshakes[flow]; h != nil && h.through != nil {
			return c.throughEnded(acts, now, flow, id, end)
		}
		return c.raced(acts, now, flow, id, end.Err)
	}
	h := c.handshakes[id]
	if h != nil && end.Here && RefusedHere(end.Err) && h.dial.From == (Source{}) {
		end.Err = errHere
	}
	o := outcomeOf(end.Err)
	if h != nil {
		if o.errno == syscall.EADDRNOTAVAIL && now < h.until {
			return c.retryLater(acts, now, retry{dial: id})
		}
		var again bool
		if acts, again = c.otherwise(acts, now, id, h, end.Err); again {
			return acts
		}
		var why state.Reason
		if acts, why = c.note(acts, now, h, end); why != state.None && end.Err == nil {
			o.reason = why
		}
		if end.Err == nil {
			h.repeats, h.last = 0, now // from now on: of the SYN that is released
		}
	}
	f, held := c.table.Move(now, id, o.state, o.reason)
	switch {
	case !held && end.Err == nil: // the flow has been given up meanwhile
		return c.abandon(acts, id)
	case !held:
		return acts
	case end.Err != nil:
		delete(c.handshakes, id)
	case h.dial.Multipath:
		acts = c.track(acts, id, h) // before the client can carry anything
	}
	return append(acts, settled(now, f, o.verdict, o.reason))
}

// NeighbourFailed takes the event that the next hop of dials does not answer. The
// kernel sends the ICMP error about a packet to the address that it bears: to the
// client, not to the box's socket.
func (c *Core) NeighbourFailed(acts []Action, now time.Duration, dials ...state.ID) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := outcomeOf(syscall.EHOSTUNREACH)
	for _, id := range dials {
		if f, held := c.table.Move(now, id, o.state, o.reason); held {
			acts = c.abandon(append(acts, settled(now, f, o.verdict, o.reason)), id)
		}
	}
	return acts
}

// settled is the decision about the SYN that was held for a flow until now.
func settled(now time.Duration, f state.Flow, v Verdict, why state.Reason) Action {
	return Action{Kind: Decide, Flow: f.ID, Decision: Decision{
		Packet: Packet{ID: f.Held, Side: f.Side}, Verdict: v, Reason: why, Key: f.Key, Settles: true, Held: now - f.Began,
		Reuses: v == Accept && f.Asked == nil, Asked: f.Asked,
	}}
}

// SetDialPolicy replaces the dial policy, for SYNs to come. What is being dialed
// over a path that is down now, and was not before, would only time out: it is
// given up, and its SYN is decided on again.
func (c *Core) SetDialPolicy(acts []Action, now time.Duration, p DialPolicy) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	fallen := p.Down &^ c.dialPolicy.Down
	c.dialPolicy = p
	if fallen == 0 {
		return acts
	}
	var lost []state.ID
	for id, h := range c.handshakes {
		if h.side == state.Plain && (h.through != nil || fallen.Has(h.dial.From.Path)) {
			lost = append(lost, id)
		}
	}
	slices.Sort(lost) // the oldest first, as maps have no order
	for _, id := range lost {
		if h := c.handshakes[id]; h != nil && h.through != nil {
			acts = c.leavePaths(acts, now, id, h, fallen)
			continue
		}
		acts = c.redial(acts, now, id, c.handshakes[id])
	}
	return acts
}

// redial gives up the dial of a flow and decides again about the SYN that is held
// for it.
func (c *Core) redial(acts []Action, now time.Duration, id state.ID, h *handshake) []Action {
	f, ok := c.table.ByID(id)
	if !ok || f.State != state.Dialing {
		return acts // released: the client's ACK is awaited
	}
	acts = c.abandon(acts, id)
	next := state.Flow{Key: f.Key, Side: f.Side, Action: state.Relay, Reason: state.None}
	from := c.dialPolicy.apply(&next)
	at := beginnings[next.Action]
	f, _ = c.table.Move(now, id, at.state, next.Reason)
	if at.verdict != Hold {
		return append(acts, settled(now, f, at.verdict, next.Reason))
	}
	h.dial.leave(from)
	h.dial.Plain, h.dial.OtherPort, h.doubt, h.obstacle = false, false, false, state.None
	h.until, h.dialed, h.tracked = now+patience, now, false
	c.handshakes[f.ID] = h
	return append(acts, Action{Kind: Connect, Flow: f.ID, Dial: h.dial})
}
