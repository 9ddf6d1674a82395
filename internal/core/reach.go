package core

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/synbond/synbond/state"
)

// Some networks drop SYNs with MP_CAPABLE, or answer them with a reset; and some servers
// answer by another way than that of the box. A box knows neither before its first dial.
// reach remembers how dials have ended, by path and destination, so that only one
// connection pays for each lesson.

const (
	// provedFor is the time for which a handshake proves that others will be answered, too.
	provedFor = time.Minute
	// enoughMisses dials that are not answered end that sooner.
	enoughMisses = 2
	// A blocked place is tried again by a new flow after firstPause, and after a pause twice as
	// long each time that it is still blocked.
	firstPause, longestPause = 5 * time.Second, 10 * time.Minute
	// blockedFor is the time after which a place to which no flow has gone meanwhile counts as
	// blocked no longer.
	blockedFor = time.Hour
	// mostPlaces bounds the places that are remembered.
	mostPlaces = 8192
	// plainSide stands for a path in a place: the way to the hosts of the plain side.
	plainSide uint8 = 0xff
)

// Levels of a place.
const (
	serverLevel  = iota // the server itself, with its port
	networkLevel        // its prefix
	pathLevel           // the path as a whole, for an address family
)

// levels has the lengths of the prefixes by which a destination is remembered, by level.
// IPv4 addresses are mapped to IPv6.
var levels = map[bool][3]uint8{true: {128, 96 + 24, 96}, false: {128, 48, 0}}

// enough has, by level, the number of narrower places that must fail before the wider
// one counts as blocked. A dial that is answered only without MPTCP proves something;
// one that nobody answers may only mean that a host is down.
var enough = map[state.Reason][3]int{
	state.MPTCPBlocked: {1, 1, 4},
	state.Unanswered:   {1, 4, 8},
}

// place is a destination prefix over a path.
type place struct {
	path, bits uint8
	is4        bool
	port       uint16 // of a server
	addr       [16]byte
}

// placeAt returns the place of a level to which a server belongs.
func placeAt(path uint8, to netip.AddrPort, level int) place {
	a := to.Addr()
	p := place{path: path, bits: levels[a.Is4()][level], is4: a.Is4(), addr: a.As16()}
	if level == serverLevel {
		p.port = to.Port()
	}
	clear(p.addr[(p.bits+7)/8:]) // all lengths are multiples of 8
	return p
}

// prefix returns the place's prefix.
func (p place) prefix() netip.Prefix {
	a, bits := netip.AddrFrom16(p.addr), int(p.bits)
	if p.is4 {
		return netip.PrefixFrom(a.Unmap(), bits-96)
	}
	return netip.PrefixFrom(a, bits)
}

// answers is what is known of a place.
type answers struct {
	proved   time.Duration // when a dial was last answered, if ever
	answered bool
	misses   int          // dials since then that were not answered
	why      state.Reason // of being blocked; None: not blocked
	failed   int          // narrower places that were blocked since the last answer
	retry    time.Duration
	pause    time.Duration
	trip     time.Duration // that the answer to a SYN without MP_CAPABLE took, 0 if unknown
}

// isProved reports whether a dial has lately been answered, and others after it, too.
func (a *answers) isProved(now time.Duration) bool {
	return a != nil && a.answered && a.misses < enoughMisses && now-a.proved < provedFor
}

// reach remembers places, the ones asked about most recently: when there are mostPlaces/2
// young ones, the old ones are forgotten and the young ones become old.
type reach struct{ young, old map[place]*answers }

func newReach() reach { return reach{young: make(map[place]*answers)} }

// at returns what is known of a place, nil if nothing is.
func (r *reach) at(p place) *answers {
	a := r.young[p]
	if a == nil && r.old != nil {
		if a = r.old[p]; a != nil {
			delete(r.old, p)
			r.put(p, a)
		}
	}
	return a
}

// enter returns what is known of a place, to be added to.
func (r *reach) enter(p place) *answers {
	a := r.at(p)
	if a == nil {
		a = new(answers)
		r.put(p, a)
	}
	return a
}

func (r *reach) put(p place, a *answers) {
	if len(r.young) >= mostPlaces/2 {
		r.young, r.old = make(map[place]*answers), r.young
	}
	r.young[p] = a
}

// proved reports whether a dial to the place of that level has lately been answered.
func (r *reach) proved(now time.Duration, path uint8, to netip.AddrPort, level int) bool {
	return r.at(placeAt(path, to, level)).isProved(now)
}

// about returns a copy of what is known of a server, over all paths.
func (r *reach) about(to netip.AddrPort) reach {
	out := newReach()
	for path := range int(plainSide) + 1 {
		for level := range pathLevel + 1 {
			p := placeAt(uint8(path), to, level)
			for _, generation := range []map[place]*answers{r.old, r.young} {
				if a := generation[p]; a != nil {
					out.young[p] = new(*a)
				}
			}
		}
	}
	return out
}

// obstacle is the reason not to dial to a destination as usual.
type obstacle struct {
	why  state.Reason  // None if there is no obstacle
	due  bool          // it is time for one flow to try again
	wait time.Duration // for the answer to that try
}

// look returns the obstacle on the way to a destination.
func (r *reach) look(now time.Duration, path uint8, to netip.AddrPort) (o obstacle) {
	for level := pathLevel; level >= serverLevel; level-- {
		a := r.at(placeAt(path, to, level))
		if a == nil || a.why == state.None {
			continue
		}
		if now >= a.retry+blockedFor {
			*a = answers{}
			continue
		}
		if o.why == state.None {
			o = obstacle{why: a.why, due: true, wait: tryFor(a.trip)}
		}
		o.due = o.due && now >= a.retry
	}
	return o
}

// tryFor returns how long a new try may wait for its answer where an answer has taken
// trip before: about a round trip, and no longer than a client waits before it repeats
// its SYN (RFC 6298, section 2).
func tryFor(trip time.Duration) time.Duration {
	const least, unknown, most = 200 * time.Millisecond, 500 * time.Millisecond, 900 * time.Millisecond
	if trip == 0 {
		return unknown
	}
	return max(least, min(2*trip+least/4, most))
}

// trying has other flows wait for the outcome of a flow that tries again.
func (r *reach) trying(now time.Duration, path uint8, to netip.AddrPort) {
	for level := range pathLevel + 1 {
		if a := r.at(placeAt(path, to, level)); a != nil && a.why != state.None {
			a.retry = now + a.pause
		}
	}
}

// answer notes that a dial has been answered. It returns what is blocked no longer.
func (r *reach) answer(now time.Duration, path uint8, to netip.AddrPort) (over []Notice) {
	for level := range pathLevel + 1 {
		p := placeAt(path, to, level)
		a := r.enter(p)
		if a.why != state.None && level > serverLevel {
			over = append(over, Notice{Path: path, Prefix: p.prefix(), Reason: a.why, Over: true})
		}
		*a = answers{proved: now, answered: true}
	}
	return over
}

// doubt forgets that dials to a server itself have been answered.
func (r *reach) doubt(path uint8, to netip.AddrPort) {
	if a := r.at(placeAt(path, to, serverLevel)); a != nil {
		a.answered = false
	}
}

// fail notes that a dial has failed for a reason, while a SYN without MP_CAPABLE was
// answered within trip if that is not 0. It returns what is blocked from now on.
func (r *reach) fail(now time.Duration, path uint8, to netip.AddrPort, why state.Reason, trip time.Duration) (begun []Notice) {
	more := true // one more of the narrower places is blocked
	for level := range pathLevel + 1 {
		p := placeAt(path, to, level)
		a := r.enter(p)
		if level > serverLevel && a.isProved(now) {
			a.misses++ // but others there are answered
			more = false
			continue
		}
		if a.why != state.None {
			more = false
		} else {
			if !more {
				continue
			}
			a.failed++
			if more = a.failed >= enough[why][level]; !more {
				continue
			}
			if a.pause = firstPause / 2; level > serverLevel {
				begun = append(begun, Notice{Path: path, Prefix: p.prefix(), Reason: why})
			}
		}
		a.why, a.answered, a.trip = why, false, cmp.Or(trip, a.trip)
		a.pause = min(2*a.pause, longestPause)
		a.retry = now + a.pause
	}
	return begun
}

// Notice tells of a destination prefix over a path that begins, or ceases, to be an
// obstacle for dials.
type Notice struct {
	Path   uint8        // index of the path; [PlainSide] for the hosts of the plain side
	Prefix netip.Prefix // of length 0: all destinations of that family
	Reason state.Reason
	Over   bool
}

// PlainSide is the Path of a [Notice] or an [Obstacle] about hosts of the plain side.
const PlainSide = plainSide

// Obstacle is a destination prefix over a path to which dials have failed, so that flows
// pass, or are dialed without MP_CAPABLE.
type Obstacle struct {
	Path   uint8
	Prefix netip.Prefix
	Reason state.Reason
	Retry  time.Duration // from when on a new flow tries again
}

// Obstacles returns what is known of obstacles, in no order.
func (c *Core) Obstacles() (all []Obstacle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, generation := range []map[place]*answers{c.reach.young, c.reach.old} {
		for p, a := range generation {
			if a.why != state.None {
				all = append(all, Obstacle{p.path, p.prefix(), a.why, a.retry})
			}
		}
	}
	return all
}
