package core

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/state"
)

// Upstream is an address of a server through which flows are relayed: the box connects to the
// upstream, and asks there for the flow's server.
type Upstream struct {
	Server int // its place in the configuration; a server with several addresses has several upstreams
	At     netip.AddrPort
}

// UpstreamPolicy has the upstreams, and how to use them.
type UpstreamPolicy struct {
	All []Upstream // in the order of preference
	// Fastest prefers the upstream with the least round trip to the order.
	Fastest bool
	// Reject rejects flows while no upstream can be used; else they pass.
	Reject bool
}

// wayTo is one way to an upstream: over one path.
type wayTo struct {
	at   netip.AddrPort
	path uint8
}

// wayState is what is known of a way to an upstream.
type wayState struct {
	failed       bool
	err          error // the last failure; nil for silence
	retry, pause time.Duration
	since        time.Duration // of the last change of failed
	trip         time.Duration // until its first answer, two round trips; smoothed, 0 if unknown
}

// earliness is what is known of an upstream's handling of messages that come before it has
// asked for them.
type earliness uint8

const (
	earlyUnknown earliness = iota
	earlyTaken
	earlyRefused
)

// upstreams is the memory about upstreams.
type upstreams struct {
	UpstreamPolicy
	ways  map[wayTo]*wayState
	early map[netip.AddrPort]earliness
}

func newUpstreams() upstreams {
	return upstreams{ways: make(map[wayTo]*wayState), early: make(map[netip.AddrPort]earliness)}
}

const (
	// firstUpstreamPause and longestUpstreamPause bound the time for which a way to an upstream
	// that has failed is left alone. It doubles with each failure.
	firstUpstreamPause, longestUpstreamPause = time.Second, 30 * time.Second
	// lastWait is the time for an answer after the last way has been tried.
	lastWait = 3 * time.Second
	// leastSwallowed is the least time without an answer after which early messages may have been
	// swallowed.
	leastSwallowed = time.Second
)

// SetUpstreams replaces the upstreams, for SYNs to come. What is known of those that stay is kept.
func (c *Core) SetUpstreams(p UpstreamPolicy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &c.upstreams
	u.UpstreamPolicy = p
	gone := func(at netip.AddrPort) bool {
		return !slices.ContainsFunc(p.All, func(o Upstream) bool { return o.At == at })
	}
	maps.DeleteFunc(u.ways, func(w wayTo, _ *wayState) bool { return gone(w.at) })
	maps.DeleteFunc(u.early, func(at netip.AddrPort, _ earliness) bool { return gone(at) })
}

// copied returns a copy of the memory.
func (u *upstreams) copied() upstreams {
	out := upstreams{UpstreamPolicy: u.UpstreamPolicy, ways: make(map[wayTo]*wayState), early: maps.Clone(u.early)}
	for w, s := range u.ways {
		out.ways[w] = new(*s)
	}
	return out
}

// way returns what is known of a way.
func (u *upstreams) way(w wayTo) *wayState {
	s := u.ways[w]
	if s == nil {
		s = new(wayState)
		u.ways[w] = s
	}
	return s
}

// has reports whether an address is one of an upstream.
func (u *upstreams) has(a netip.Addr) bool {
	return slices.ContainsFunc(u.All, func(o Upstream) bool { return o.At.Addr() == a })
}

// works notes that a way has been used with success, and the time until the first answer.
func (s *wayState) works(now, trip time.Duration) {
	if s.failed {
		s.since = now
	}
	s.failed, s.pause = false, 0
	if s.trip == 0 {
		s.trip = trip
	}
	s.trip += (trip - s.trip) / 8
}

// fails notes that a way has failed. An error of nil is silence.
func (s *wayState) fails(now time.Duration, err error) {
	if !s.failed {
		s.since = now
	}
	s.failed, s.err = true, err
	s.pause = min(max(2*s.pause, firstUpstreamPause), longestUpstreamPause)
	s.retry = now + s.pause
}

// attempt is a dial to an upstream.
type attempt struct {
	id     state.ID
	server int
	wayTo
	from    Source
	plain   bool // without MP_CAPABLE
	doubts  bool // because with it the upstream was refused, or unreachable
	early   bool // all messages at once
	began   time.Duration
	wait    time.Duration // for the first answer, until the next attempt begins beside it
	reached time.Duration // when that came; 0 before
}

// through is the dials of a flow to upstreams.
type through struct {
	waiting []attempt // not begun yet
	dials   []attempt
	next    time.Duration // when the next one is due
	until   time.Duration // when all are given up, once the last one has begun
	reached bool          // an upstream has answered: no other one is tried before it has failed
	// swallowed is when early messages count as lost, and are sent again step by step; 0 for never.
	swallowed time.Duration
	doubted   bool // early messages may have been the cause of a failure
}

// attempts returns the dials for a flow that begins now: all ways that have not failed, in the
// order of upstreams and then of paths; then those whose pause is over; then without
// MP_CAPABLE, in case that it is dropped.
func (c *Core) attempts(now time.Duration, sources [][2]Source) []attempt {
	u := &c.upstreams
	var good, due, plain []attempt
	for _, up := range u.ordered() {
		for _, by := range sources {
			from := by[0]
			if up.At.Addr().Is4() {
				from = by[1]
			}
			if !from.Addr.IsValid() {
				continue
			}
			a := attempt{server: up.Server, wayTo: wayTo{up.At, from.Path}, from: from, early: u.early[up.At] != earlyRefused}
			s := u.way(a.wayTo)
			a.wait = tryFor(s.trip)
			blocked := c.reach.look(now, from.Path, up.At)
			a.plain = blocked.why == state.MPTCPBlocked && !blocked.due
			switch {
			case !s.failed:
				good = append(good, a)
			case now >= s.retry:
				due = append(due, a)
			}
			if !s.failed && !a.plain && !c.reach.proved(now, from.Path, up.At, networkLevel) {
				a.plain = true
				plain = append(plain, a)
			}
		}
	}
	return slices.Concat(good, due, plain)
}

// ordered returns the upstreams in the order in which to try them.
func (u *upstreams) ordered() []Upstream {
	if !u.Fastest {
		return u.All
	}
	trip := func(up Upstream) (least time.Duration) {
		for w, s := range u.ways {
			if w.at == up.At && s.trip > 0 && (least == 0 || s.trip < least) {
				least = s.trip
			}
		}
		return cmp.Or(least, time.Hour) // one that is not known is no fast one
	}
	all := slices.Clone(u.All)
	slices.SortStableFunc(all, func(a, b Upstream) int { return cmp.Compare(trip(a), trip(b)) })
	return all
}

// goThrough has a flow that is about to begin go through an upstream, if flows do. It has the
// flow pass, or be rejected, if no upstream can be used.
func (c *Core) goThrough(now time.Duration, f *state.Flow) *through {
	if c.dialPolicy.Mode != ThroughUpstream || f.Side != state.Plain || f.Action != state.Relay {
		return nil
	}
	u := &c.upstreams
	if u.has(f.Key.Server().Addr()) || u.has(f.Key.Client().Addr()) {
		f.Action, f.Reason, f.Rule = state.Pass, state.IsUpstream, ""
		return nil
	}
	t := &through{waiting: c.attempts(now, c.dialPolicy.Ways)}
	if len(t.waiting) == 0 {
		f.Action, f.Reason, f.Rule = state.Pass, state.NoUpstream, ""
		if u.Reject {
			f.Action = state.Reject
		}
		return nil
	}
	return t
}

// UpstreamWay is a way to an upstream, for people and for checks.
type UpstreamWay struct {
	Upstream
	Path   uint8
	Failed bool
	Err    error         // of the last failure; nil for silence
	Since  time.Duration // of the last change of Failed, 0 for none
	Retry  time.Duration // when a flow would try it again
	Trip   time.Duration // until its first answer, two round trips; 0 if unknown
	// Early reports whether the upstream takes messages before it has asked for them, as far as is
	// known; Doubt is set if it is not.
	Early, Doubt bool
}

// UpstreamWays returns the ways to all upstreams over the paths that can be used, in order.
func (c *Core) UpstreamWays() (all []UpstreamWay) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &c.upstreams
	for _, up := range u.All {
		for _, by := range c.dialPolicy.Ways {
			from := by[0]
			if up.At.Addr().Is4() {
				from = by[1]
			}
			if !from.Addr.IsValid() {
				continue
			}
			s := u.way(wayTo{up.At, from.Path})
			all = append(all, UpstreamWay{
				Upstream: up, Path: from.Path, Failed: s.failed, Err: s.err, Since: s.since, Retry: s.retry, Trip: s.trip,
				Early: u.early[up.At] != earlyRefused, Doubt: u.early[up.At] == earlyUnknown,
			})
		}
	}
	return all
}

// UpstreamTakesEarly takes the outcome of a check whether an upstream takes messages before it
// has asked for them.
func (c *Core) UpstreamTakesEarly(at netip.AddrPort, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.upstreams.early[at] == earlyUnknown && c.upstreams.has(at.Addr()) {
		c.upstreams.early[at] = map[bool]earliness{true: earlyTaken, false: earlyRefused}[yes]
	}
}

// UpstreamChecked takes the outcome of a check of a way to an upstream, and the time until its
// first answer.
func (c *Core) UpstreamChecked(now time.Duration, at netip.AddrPort, path uint8, err error, trip time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.upstreams.has(at.Addr()) {
		return // it has been replaced
	}
	if s := c.upstreams.way(wayTo{at, path}); err != nil {
		s.fails(now, err)
	} else {
		s.works(now, trip)
	}
}
