package paths

import (
	"errors"
	"net/netip"
	"slices"
	"time"
)

// connection is the planner's knowledge of one MPTCP connection.
type connection struct {
	token         uint32
	local, remote netip.AddrPort // of its first subflow

	noJoin      bool // the peer takes no joins at remote
	tracked     bool // the box relays it
	established bool // the kernel lets it have further subflows
	gone        bool // it has been forgotten
	orphan      bool // it was not tracked at the last sweep
	fresh       bool // it never was given a subflow
	single      bool // it shall have no further subflows yet, see [SubflowPolicy]
	large       bool // it carries a large transfer
	queued      bool // it is in queues.urgent
	paced       bool // it is in queues.paced

	awaits    bool // it waits for the announcement of a join address
	announced bool // the peer has announced an address

	heardOf uint32        // join addresses that the peer has announced: see [Set.joinBit]
	since   time.Duration // when it was established

	policy  SubflowPolicy
	traffic Traffic
	seen    uint64        // bytes that it had carried at the last look
	wake    time.Duration // its time in queues.later, 0 for none
	// furtherAt is when single ends, whatever the connection carries; 0 for never.
	furtherAt time.Duration
	// bereft is when a connection that has lost its last subflow needs another way; 0 for never.
	bereft time.Duration
	robbed bool // a middlebox has reset a subflow

	idle      idleness
	direction Direction // in which it carries more, if it is large
	meter     meter

	first    int              // path of its first subflow
	subflows []plannedSubflow // by path; nil until it is tracked and established
}

// phase is the phase of a planned subflow's life.
type phase uint8

const (
	absent  phase = iota // may be requested from at on
	opening              // requested, and expected to be open by at
	open                 // since at
	closing              // its end was requested, and is expected by at
)

// plannedSubflow is the subflow of a connection on one path.
type plannedSubflow struct {
	local, remote netip.AddrPort // when it was last open
	at            time.Duration  // see phase
	phase         phase
	id            uint8         // address ID of the last request; 0 is the first subflow's
	dev           int           // interface index of the last request, 0 for the first subflow
	told          DesiredState  // as the peer was told; Closed if that is not known
	failures      uint8         // since it last was open for a while
	atJoin        bool          // it was requested to a join address
	other         bool          // the next attempt prefers the other family's join address
	overdue       bool          // the attempt has waited long for its answer
	encapsulated  bool          // it goes the path's encapsulated way: see [Encapsulation]
	detour        detour        // which way to go while no other subflow is open
	dead          bool          // it has ended, and the kernel has not said so
	missed        uint8         // looks in a row that did not see it
	onTrial       bool          // it is open, and yet to be accepted: see [Planner.review]
	judged        time.Duration // when its failure counts as a refusal; 0 for never
	why           Refusal       // the reason of that
	blamed        bool          // that way was the encapsulated one
	// renew: it is to be closed, and opened again. The kernel sends what a subflow has not
	// delivered over the others only when the subflow ends.
	renew bool
}

// backoff returns the delay after that number of failures: 50 ms at first, a minute
// at most. The first requests may just be too early: a connection that is
// established refuses subflows for a moment (ENOTCONN).
func backoff(failures uint8) time.Duration {
	return min(25*time.Millisecond<<failures, time.Minute)
}

const (
	// settledAfter is the time open after which a subflow's failures are forgotten.
	settledAfter = 10 * time.Second
	// openTimeout is the longest time for which an attempt may take: a SYN is repeated
	// for some 130 s (net.ipv4.tcp_syn_retries).
	openTimeout = 150 * time.Second
	// closeTimeout is the longest time after which the kernel reports a subflow closed
	// whose end was requested.
	closeTimeout = time.Second
)

// bytes returns the bytes that the connection has carried.
func (c *connection) bytes() uint64 {
	if c.traffic == nil {
		return 0
	}
	return c.traffic.BytesUp() + c.traffic.BytesDown()
}

// unacknowledged returns the bytes that the connection has in flight.
func (c *connection) unacknowledged() int {
	if c.traffic == nil {
		return 0
	}
	return c.traffic.Unacknowledged()
}

// ending reports whether an end of the connection has sent all that it has to send.
func (c *connection) ending() bool { return c.traffic != nil && c.traffic.Ending() }

// alive reports whether a subflow is open.
func (c *connection) alive() bool {
	return slices.ContainsFunc(c.subflows, func(s plannedSubflow) bool { return s.phase == open && !s.dead })
}

// joinsAtHAG reports whether the next subflow on path i goes to a join address. Kernels
// that do not report the C flag leave it to the first attempt to find out.
func (c *connection) joinsAtHAG(i int) bool { return c.noJoin || c.subflows[i].failures > 0 }

// newBytes returns the bytes that the connection has carried since the last call.
func (c *connection) newBytes() uint64 {
	before := c.seen
	c.seen = c.bytes()
	return c.seen - before
}

// find returns the path of the subflow that the report of an end is about, or -1.
func (c *connection) find(ev SubflowEvent) int {
	return c.match(ev, func(s *plannedSubflow) bool {
		return s.phase == opening || s.phase != absent && s.local == ev.Local && s.remote == ev.Remote
	})
}

// match returns the path of the subflow that a report is about and that fulfils ok, or -1.
// Paths with the same address share its ID: the interface tells them apart.
func (c *connection) match(ev SubflowEvent, ok func(*plannedSubflow) bool) int {
	if c == nil {
		return -1
	}
	for i := range c.subflows {
		s := &c.subflows[i]
		if s.id == ev.LocalID && (s.dev == ev.Interface || ev.Interface == 0 || s.id == 0) && ok(s) {
			return i
		}
	}
	return -1
}

// desired returns the desired state of the connection's subflow on path i.
func (c *connection) desired(i int, all []DesiredState) DesiredState {
	switch {
	case c.policy.Paths != 0 && c.policy.Paths>>i&1 == 0:
		return Closed
	case c.single && i != c.first && all[c.first] != Closed && c.subflows[c.first].phase == open:
		return Closed
	case c.rests(i, all):
		return Closed
	}
	return all[i]
}

// covered reports whether a subflow is open whose desired state is not Closed.
func (c *connection) covered(all []DesiredState) bool {
	for i := range c.subflows {
		if c.subflows[i].phase == open && !c.subflows[i].dead && c.desired(i, all) != Closed {
			return true
		}
	}
	return false
}

// announceTimeout is the longest wait for an announcement, since the connection was established.
const announceTimeout = 100 * time.Millisecond

// early reports whether a join to an address of the HAG would come too early. The HAG
// announces one address after the other, and resets joins to those that it has not
// announced yet. IPv6 announcements often have no room in a packet beside timestamps; the
// HAG puts them before those of IPv4, so any announcement does for them.
func (c *connection) early(now time.Duration, set *Set, to netip.AddrPort) bool {
	switch {
	case to == c.remote, now >= c.since+announceTimeout:
		return false
	case to.Addr().Is4():
		return c.heardOf&set.joinBit(to) == 0
	}
	return !c.announced
}

// errNoAddress means that a path has no address, or no join address, of a family in common.
var errNoAddress = errors.New("no usable address")

// ends returns the two ends of a new subflow of c on path i. Remote is the server
// itself if it takes joins there, else a join address of the path. In the latter
// case an IPv6 connection may use an IPv4 path (kernel: mptcp_pm_addr_families_match),
// never the other way round: it does after a refusal, while it is not known that the HAG has
// announced the IPv6 address. The HAG announces the next address when the peer has confirmed
// the last one, and both wait in the queue of a slow first path.
func (s *Set) ends(c *connection, i int) (local Endpoint, remote netip.AddrPort, err error) {
	p := &s.Paths[i]
	at := s.machine.Link(p.Interface).Index
	is4 := c.remote.Addr().Is4()
	candidates := [3]netip.AddrPort{1: PickJoin(p.Join, is4), 2: PickJoin(p.Join, true)}
	if !c.joinsAtHAG(i) || !c.noJoin && len(p.Join) == 0 {
		candidates[0] = c.remote
	}
	if c.subflows[i].other && c.heardOf&s.joinBit(candidates[1]) == 0 {
		candidates[1], candidates[2] = candidates[2], candidates[1]
	}
	for _, to := range candidates {
		if at == 0 || !to.IsValid() {
			continue
		}
		if from := s.machine.Source(to.Addr(), at); from.Usable() {
			return Endpoint{netip.AddrPortFrom(from.Addr, 0), c.addressID(i, from.Addr), at}, to, nil
		}
	}
	return Endpoint{}, netip.AddrPort{}, errNoAddress
}

// addressID returns the ID of an address of path i, by which the peer knows the address.
// ID 0 is that of the first subflow. The kernel keeps one ID for each address, also where
// two paths have the same, and one address for each ID (kernel:
// mptcp_userspace_pm_append_new_local_addr).
func (c *connection) addressID(i int, a netip.Addr) uint8 {
	taken := uint32(0)
	for j := range c.subflows {
		switch s := &c.subflows[j]; {
		case s.id == 0:
		case s.local.Addr() == a:
			return s.id
		case j != i:
			taken |= 1 << s.id
		}
	}
	id := uint8(2*i + 1)
	if a.Is4() {
		id++
	}
	for n := uint8(1); taken>>id&1 != 0; n++ {
		id = n
	}
	return id
}
