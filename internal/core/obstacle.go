package core

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/synbond/synbond/state"
)

// This file has what is done about dials that fail because of MPTCP, or because of the
// place of the box in the network:
//
//	the dial offers MPTCP, and no such handshake was lately answered on its path, by the
//	network of its server
//	  · reset, or a prompt ICMP error    → dial without MP_CAPABLE before the client hears
//	  · the client repeats its SYN       → dial without MP_CAPABLE, after a round trip
//	no dial to the server was lately answered
//	  · the client repeats its SYN twice → it passes
//	a dial was lately answered
//	  · the client repeats its SYN twice → dial without MP_CAPABLE
//	the other box repeats its SYN without MP_CAPABLE → it passes
//
// What fails is an obstacle for later flows (reach.go): they pass, or are dialed without
// MP_CAPABLE if only the box's own address leads over their path. From time to time one
// flow tries again, for about a round trip.

const (
	// leastRepeat is the time in which a client repeats no SYN: what comes earlier has been
	// doubled on its way (RFC 6298, section 2: 1 s).
	leastRepeat = 500 * time.Millisecond
	// grace is the time after the client's repeat for the kernel's own repeat of the SYN with
	// MP_CAPABLE: one SYN may be lost by chance.
	grace = 250 * time.Millisecond
	// fallbackAfter is the time after which a connection without MPTCP shows that SYNs with
	// MP_CAPABLE were dropped, as the kernel has repeated its SYN without the option meanwhile
	// (net.mptcp.syn_retrans_before_tcp_fallback). One that is there sooner shows that a server
	// without MPTCP has answered.
	fallbackAfter = 900 * time.Millisecond
	// promptError is the longest time in which a filter answers a SYN with an ICMP error. A router
	// that looks for a host takes 3 s to find none (net.ipv4.neigh.*.mcast_solicit, retrans_time_ms).
	promptError = 2 * time.Second
)

// try is a dial that waits for its answer for a limited time: one of a flow that tries again
// whether an obstacle is still there, or one whose client has repeated its SYN.
type try struct {
	flow state.ID
	at   time.Duration // when it is given up
}

// tryFor gives the dial of a flow so much time.
func (c *Core) tryFor(acts []Action, now time.Duration, id state.ID, wait time.Duration) []Action {
	c.tries = append(c.tries, try{id, now + wait})
	return append(acts, Action{Kind: Wake, At: now + wait})
}

// way returns the path of a flow's dial.
func (h *handshake) way() uint8 {
	switch {
	case !h.dial.Multipath:
		return plainSide
	case h.dial.From != (Source{}):
		return h.dial.From.Path
	}
	return h.path
}

// avoid changes a flow that is about to begin if earlier dials to its server have failed.
// It returns the time for which a flow that tries again may wait.
func (c *Core) avoid(now time.Duration, f *state.Flow, h *handshake) (wait time.Duration) {
	if f.Action != state.Relay {
		return 0
	}
	last, _ := c.table.Last(f.Key)
	if wasLost(&last, f) {
		c.deliveries.of(f).loses(now)
		f.Action, f.Reason, f.Rule = state.Strip, state.NotDelivered, ""
		return 0
	}
	if h.through != nil {
		return 0 // each way to an upstream has its own memory
	}
	o := c.reach.look(now, h.way(), h.dial.Server)
	if last.State == state.Passed && last.ISN == f.ISN {
		o.due = false // the SYN is repeated: its flow has passed already
	}
	switch elsewhere := h.dial.From != (Source{}); {
	case o.why == state.None:
	case o.due && !elsewhere:
		h.obstacle = o.why
		return o.wait
	case !elsewhere:
		f.Action, f.Reason, f.Rule = state.Strip, o.why, "" // it has MP_CAPABLE only from the other box
	case o.why == state.MPTCPBlocked: // the SYN itself would take another way
		h.dial.Plain, f.Reason = true, o.why
	}
	return 0
}

// begins notes that a flow is dialed, for so long if it tries again.
func (c *Core) begins(acts []Action, now time.Duration, id state.ID, h *handshake, wait time.Duration) []Action {
	h.dialed, h.last = now, now
	if wait == 0 {
		return acts
	}
	c.reach.trying(now, h.way(), h.dial.Server)
	return c.tryFor(acts, now, id, wait)
}

// giveUp ends the dials whose time has come.
func (c *Core) giveUp(acts []Action, now time.Duration) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tries) == 0 {
		return acts
	}
	var over []state.ID
	c.tries = slices.DeleteFunc(c.tries, func(t try) bool {
		if t.at <= now {
			over = append(over, t.flow)
		}
		return t.at <= now
	})
	for _, id := range over {
		h := c.handshakes[id]
		switch f, live := c.table.ByID(id); {
		case !live || h == nil || f.State != state.Dialing:
		case h.race != nil:
			acts = c.goOn(acts, now, id, h)
		case h.through != nil:
			acts = c.goOnThrough(acts, now, id, h)
		case h.obstacle != state.None: // is still there
			acts = c.failed(acts, now, h, h.obstacle, 0)
			acts = c.passHeld(acts, now, id, h.obstacle)
		default:
			acts = c.dialPlain(acts, now, id, h, false)
		}
	}
	return acts
}

// passHeld gives up the dial of a flow and lets its SYN pass.
func (c *Core) passHeld(acts []Action, now time.Duration, id state.ID, why state.Reason) []Action {
	acts, f, held := c.passes(acts, now, id, why)
	if !held {
		return acts
	}
	return append(acts, settled(now, f, Accept, why))
}

// passes gives up the dial of a flow whose SYN is to pass. held reports whether one is held.
func (c *Core) passes(acts []Action, now time.Duration, id state.ID, why state.Reason) (_ []Action, f state.Flow, held bool) {
	acts = c.abandon(acts, id)
	f, held = c.table.Move(now, id, state.Passed, why)
	return acts, f, held
}

// dialOtherwise gives up the dial of a flow, unless it has ended, and dials once more as h
// says by now.
func (c *Core) dialOtherwise(acts []Action, now time.Duration, id state.ID, h *handshake, ended bool) []Action {
	if !ended {
		acts = c.abandon(acts, id)
	}
	delete(c.handshakes, id)
	f, live := c.table.Move(now, id, state.Dialing, state.None)
	if !live {
		return acts
	}
	h.until, h.dialed, h.tracked = now+patience, now, false
	c.handshakes[f.ID] = h
	return append(acts, Action{Kind: Connect, Flow: f.ID, Dial: h.dial})
}

// givenUp reports whether the other box repeats the SYN of a flow without MP_CAPABLE: nothing
// is left to be bonded. It may have got no SYN+ACK, if a middlebox drops those with MP_CAPABLE.
func (c *Core) givenUp(id state.ID, s *heldSYN) bool {
	f, live := c.table.ByID(id)
	return live && f.Side == state.Multipath && f.Capable && !s.mptcp.Capable
}

// repeated takes the event that the client of a flow that is being dialed repeats its SYN.
// A reason says why that SYN passes; [state.None] has it held.
func (c *Core) repeated(acts []Action, now time.Duration, b state.Begun, s *heldSYN) (_ []Action, why state.Reason) {
	h := c.handshakes[b.ID]
	switch {
	case h == nil || h.through != nil:
		return acts, state.None
	case c.givenUp(b.ID, s):
		acts = c.failed(acts, now, h, state.Unanswered, 0)
		why = state.PlainTCP
	case now-h.last < leastRepeat:
		return acts, state.None
	default:
		acts, why = c.repeatedInTime(acts, now, b.ID, h)
	}
	if why != state.None {
		acts, _, _ = c.passes(acts, now, b.ID, why)
	}
	return acts, why
}

// repeatedInTime is repeated for a SYN that comes when a client would repeat it.
func (c *Core) repeatedInTime(acts []Action, now time.Duration, id state.ID, h *handshake) (_ []Action, why state.Reason) {
	h.repeats++
	h.last = now
	server := h.dial.Server
	switch {
	case h.obstacle != state.None:
		return c.failed(acts, now, h, h.obstacle, 0), h.obstacle
	case h.dial.offers() && !c.reach.proved(now, h.way(), server, networkLevel):
		return c.tryFor(acts, now, id, grace), state.None
	case h.repeats > 1 && h.dial.From == (Source{}) && !c.reach.proved(now, h.way(), server, serverLevel):
		return c.failed(acts, now, h, state.Unanswered, 0), state.Unanswered
	case h.repeats > 1 && h.dial.offers(): // the kernel would go on with MP_CAPABLE for some time
		return c.dialPlain(acts, now, id, h, false), state.None
	}
	return acts, state.None
}

// otherwise takes the end of a dial that is not to be the end of its flow, and reports
// whether it is one.
func (c *Core) otherwise(acts []Action, now time.Duration, id state.ID, h *handshake, err error) (out []Action, again bool) {
	asClient := h.dial.From == (Source{})
	switch {
	case errors.Is(err, syscall.EADDRINUSE) && asClient && !h.dial.OtherPort:
		h.dial.OtherPort = true
	case !rejected(err, now-h.dialed) || !h.dial.offers():
		return acts, false
	case h.obstacle != state.None && asClient:
		acts = c.failed(acts, now, h, h.obstacle, 0)
		return c.passHeld(acts, now, id, h.obstacle), true
	case c.reach.proved(now, h.way(), h.dial.Server, networkLevel) && !c.reach.proved(now, h.way(), h.dial.Server, serverLevel):
		return acts, false
	default:
		return c.dialPlain(acts, now, id, h, true), true
	}
	return c.dialOtherwise(acts, now, id, h, true), true
}

// rejected reports whether a filter may have answered a SYN by this error after that time: by
// a reset or an ICMP error.
func rejected(err error, took time.Duration) bool {
	switch o := outcomeOf(err); o.state {
	case state.Refused:
		return true
	case state.Unreachable:
		return took < promptError
	}
	return false
}

// dialPlain dials once more, without MP_CAPABLE.
func (c *Core) dialPlain(acts []Action, now time.Duration, id state.ID, h *handshake, ended bool) []Action {
	h.dial.Plain, h.doubt = true, true
	return c.dialOtherwise(acts, now, id, h, ended)
}

// note remembers how a dial has ended. It returns the reason for its flow to be relayed in
// another way than policy asks for.
func (c *Core) note(acts []Action, now time.Duration, h *handshake, end Dialed) ([]Action, state.Reason) {
	if h.doubt && end.Err != nil && rejected(end.Err, 0) {
		c.reach.doubt(h.way(), h.dial.Server)
	}
	took := now - h.dialed
	answered := end.Err == nil || errors.Is(end.Err, syscall.ECONNREFUSED) && !h.dial.Multipath
	switch {
	case !answered:
		return acts, state.None
	case h.doubt, h.dial.offers() && !end.MPTCP && took >= fallbackAfter:
		if !h.doubt {
			took = 0 // until when the kernel tried with the option is not known
		}
		return c.failed(acts, now, h, state.MPTCPBlocked, took), state.MPTCPBlocked
	case h.dial.Plain:
		return acts, state.None
	}
	if h.dial.offers() && end.Err == nil {
		c.unbonded.note(h.way(), end.MPTCP)
	}
	why := state.None
	if h.dial.OtherPort {
		why = state.PortInUse
	}
	for _, n := range c.reach.answer(now, h.way(), h.dial.Server) {
		acts = append(acts, Action{Kind: Tell, Notice: &n})
	}
	return acts, why
}

// failed remembers that a dial has failed.
func (c *Core) failed(acts []Action, now time.Duration, h *handshake, why state.Reason, trip time.Duration) []Action {
	for _, n := range c.reach.fail(now, h.way(), h.dial.Server, why, trip) {
		acts = append(acts, Action{Kind: Tell, Notice: &n})
	}
	return acts
}
