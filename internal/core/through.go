package core

import (
	"slices"
	"time"

	"github.com/synbond/synbond/state"
)

// This file has the dials of a flow that goes through an upstream:
//
//	an upstream answers the greeting        → other upstreams are given up
//	it answers for the server               → the table of outcomes applies, as to a dial
//	it cannot say, or serve                 → the next upstream
//	it says nothing that is SOCKS, refuses
//	the user, or ends in the middle         → once more step by step, then the next upstream
//	it is silent on early messages          → beside them on a new connection, step by step
//	no answer to SYN or greeting            → beside it, the next path or upstream
//	refused or unreachable                  → without MP_CAPABLE, then the next path or upstream
//	none is left                            → the SYN passes, or is rejected

// startThrough begins an attempt of a flow.
func (c *Core) startThrough(acts []Action, now time.Duration, flow state.ID, h *handshake, a attempt) []Action {
	t := h.through
	a.id, a.began, a.reached = c.table.Mint(flow), now, 0
	c.rivals[a.id] = flow
	t.dials = append(t.dials, a)
	if s := c.upstreams.way(a.wayTo); s.failed {
		s.retry = now + s.pause // others wait for its outcome
	}
	acts = append(acts, Action{Kind: Connect, Flow: a.id, Dial: c.dialThrough(h, a)})
	t.next = now + a.wait
	if len(t.waiting) == 0 {
		t.until = now + lastWait
	}
	return c.tryFor(acts, now, flow, a.wait)
}

// dialThrough returns the dial of an attempt.
func (c *Core) dialThrough(h *handshake, a attempt) Dial {
	d := Dial{
		Client: h.dial.Client, Server: h.dial.Server, Via: a.at, Early: a.early, Multipath: true, Plain: a.plain, From: a.from,
	}
	d.Traits.DSCP = h.dial.Traits.DSCP
	return d
}

// goOnThrough does what is due for a flow.
func (c *Core) goOnThrough(acts []Action, now time.Duration, flow state.ID, h *handshake) []Action {
	t := h.through
	switch {
	case t.reached && t.swallowed != 0 && now >= t.swallowed:
		again := t.dials[0]
		again.early, t.swallowed, t.doubted = false, 0, true
		return c.startThrough(acts, now, flow, h, again)
	case t.reached || now < t.next && len(t.dials) > 0:
		return acts
	case len(t.waiting) > 0:
		next := t.waiting[0]
		t.waiting = t.waiting[1:]
		return c.startThrough(acts, now, flow, h, next)
	case len(t.dials) == 0:
		return c.noneLeft(acts, now, flow, state.NoUpstream)
	case now < t.until:
		return c.tryFor(acts, now, flow, t.until-now)
	}
	for _, a := range t.dials {
		c.silent(a, now)
	}
	return c.noneLeft(acts, now, flow, state.NoUpstream)
}

// silent notes that an upstream does not answer over a path. What is silent with MP_CAPABLE
// may only be so for that.
func (c *Core) silent(a attempt, now time.Duration) {
	if now-a.began >= a.wait {
		c.upstreams.way(a.wayTo).fails(now, nil)
	}
}

// noneLeft ends the wait of a flow that no upstream can serve.
func (c *Core) noneLeft(acts []Action, now time.Duration, flow state.ID, why state.Reason) []Action {
	if !c.upstreams.Reject {
		return c.passHeld(acts, now, flow, why)
	}
	acts = c.abandon(acts, flow)
	f, held := c.table.Move(now, flow, state.Rejected, why)
	if !held {
		return acts
	}
	return append(acts, settled(now, f, Prohibited, why))
}

// UpstreamReached takes the event that the upstream of a dial has given its first answer, to
// the greeting: it takes the connection.
func (c *Core) UpstreamReached(acts []Action, now time.Duration, id state.ID) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	flow, races := c.rivals[id]
	h := c.handshakes[flow]
	if !races || h == nil || h.through == nil {
		return acts
	}
	t := h.through
	i := slices.IndexFunc(t.dials, func(a attempt) bool { return a.id == id })
	t.dials[i].reached = now
	a := t.dials[i]
	c.upstreams.way(a.wayTo).works(now, now-a.began)
	if t.reached {
		return acts // it is asked once more, step by step
	}
	t.reached = true
	acts = c.notePlain(acts, now, h, a)
	for _, o := range t.dials {
		if o.id != id {
			acts = c.endAttempt(acts, o)
			if o.wayTo != a.wayTo {
				c.silent(o, now)
			}
		}
	}
	t.dials = []attempt{a}
	if a.early && c.upstreams.early[a.at] == earlyUnknown {
		wait := max(leastSwallowed, 4*(now-a.began))
		t.swallowed = now + wait
		acts = c.tryFor(acts, now, flow, wait)
	}
	return acts
}

// notePlain remembers that a way lets SYNs through only without MP_CAPABLE.
func (c *Core) notePlain(acts []Action, now time.Duration, h *handshake, a attempt) []Action {
	with := slices.IndexFunc(h.through.dials, func(o attempt) bool { return o.wayTo == a.wayTo && !o.plain })
	if !a.plain || with < 0 && !a.doubts {
		return acts
	}
	for _, n := range c.reach.fail(now, a.path, a.at, state.MPTCPBlocked, now-a.began) {
		acts = append(acts, Action{Kind: Tell, Notice: &n})
	}
	return acts
}

// endAttempt gives an attempt up.
func (c *Core) endAttempt(acts []Action, a attempt) []Action {
	delete(c.rivals, a.id)
	return append(acts, Action{Kind: Abort, Flow: a.id})
}

// endAttempts gives all attempts of a flow up.
func (c *Core) endAttempts(acts []Action, t *through) []Action {
	for _, a := range t.dials {
		acts = c.endAttempt(acts, a)
	}
	t.dials = nil
	return acts
}

// throughEnded takes the end of an attempt.
func (c *Core) throughEnded(acts []Action, now time.Duration, flow, id state.ID, end Dialed) []Action {
	h := c.handshakes[flow]
	t := h.through
	i := slices.IndexFunc(t.dials, func(a attempt) bool { return a.id == id })
	a := t.dials[i]
	t.dials = slices.Delete(t.dials, i, i+1)
	delete(c.rivals, id)
	o := outcomeOf(end.Err)
	switch {
	case end.Err == nil:
		return c.throughDone(acts, now, flow, h, a, end)
	case end.Stage == Answered:
		c.answeredThrough(t, a)
		if o.state != state.Failed {
			return c.settleThrough(acts, now, flow, o)
		}
		t.drop(func(w attempt) bool { return w.server == a.server }) // nor would it by another address
	case end.Stage == NotReached && o.state == state.Failed:
		return c.noneLeft(acts, now, flow, o.reason) // this machine lacks something
	case end.Stage == NotReached && !a.plain && rejected(end.Err, now-a.began) && !c.reach.proved(now, a.path, a.at, networkLevel):
		a.plain, a.doubts = true, true
		return c.startThrough(acts, now, flow, h, a)
	case end.Stage == NotReached:
		c.upstreams.way(a.wayTo).fails(now, end.Err)
		t.drop(func(w attempt) bool { return w.wayTo == a.wayTo })
	case end.StepByStep && a.early && !t.doubted:
		a.early, t.doubted, t.swallowed, t.reached = false, true, 0, len(t.dials) > 0
		return c.startThrough(acts, now, flow, h, a)
	case len(t.dials) == 0:
		c.failAt(now, a, end.Err)
		t.drop(func(w attempt) bool { return w.at == a.at })
	}
	t.reached = len(t.dials) > 0 && t.reached
	if !t.reached {
		t.next, t.swallowed, t.doubted = now, 0, false
	}
	return c.goOnThrough(acts, now, flow, h)
}

// drop drops attempts that have not begun.
func (t *through) drop(which func(attempt) bool) { t.waiting = slices.DeleteFunc(t.waiting, which) }

// failAt notes that an upstream itself has failed, over all paths.
func (c *Core) failAt(now time.Duration, a attempt, err error) {
	c.upstreams.way(a.wayTo).fails(now, err)
	for w, s := range c.upstreams.ways {
		if w.at == a.at && w != a.wayTo {
			s.fails(now, err)
		}
	}
}

// answeredThrough notes that an upstream has answered for a server.
func (c *Core) answeredThrough(t *through, a attempt) {
	switch {
	case a.early:
		c.upstreams.early[a.at] = earlyTaken
	case t.doubted:
		c.upstreams.early[a.at] = earlyRefused
	}
}

// throughDone takes the success of an attempt: the flow goes on with its connection.
func (c *Core) throughDone(acts []Action, now time.Duration, flow state.ID, h *handshake, a attempt, end Dialed) []Action {
	c.answeredThrough(h.through, a)
	acts = c.endAttempts(acts, h.through)
	delete(c.handshakes, flow)
	h.dial, h.dialed, h.repeats, h.last = c.dialThrough(h, a), a.began, 0, now
	h.through = nil
	c.table.Adopt(flow, a.id)
	why := state.None
	switch slow := a.reached-a.began >= fallbackAfter; {
	case a.plain:
		why = state.MPTCPBlocked
	case end.MPTCP || !slow:
		for _, n := range c.reach.answer(now, a.path, a.at) {
			acts = append(acts, Action{Kind: Tell, Notice: &n})
		}
	}
	f, live := c.table.Move(now, a.id, state.Released, why)
	if !live {
		return append(acts, Action{Kind: Abort, Flow: a.id})
	}
	c.handshakes[a.id] = h
	return append(c.track(acts, a.id, h), settled(now, f, Deliver, why))
}

// settleThrough ends a flow as its server, or what is before it, has answered the upstream.
func (c *Core) settleThrough(acts []Action, now time.Duration, flow state.ID, o outcome) []Action {
	acts = c.endAttempts(acts, c.handshakes[flow].through)
	delete(c.handshakes, flow)
	f, held := c.table.Move(now, flow, o.state, o.reason)
	if !held {
		return acts
	}
	return append(acts, settled(now, f, o.verdict, o.reason))
}

// leavePaths gives the attempts of a flow up that use a path which has fallen, and goes on.
func (c *Core) leavePaths(acts []Action, now time.Duration, flow state.ID, h *handshake, fallen PathSet) []Action {
	t := h.through
	t.drop(func(a attempt) bool { return fallen.Has(a.path) })
	before := len(t.dials)
	t.dials = slices.DeleteFunc(t.dials, func(a attempt) bool {
		if fallen.Has(a.path) {
			acts = c.endAttempt(acts, a)
		}
		return fallen.Has(a.path)
	})
	if len(t.dials) == before {
		return acts
	}
	t.waiting = append(t.waiting, c.attempts(now, c.dialPolicy.Ways)...)
	if len(t.dials) == 0 {
		t.reached, t.swallowed, t.next = false, 0, now
	}
	return c.goOnThrough(acts, now, flow, h)
}
