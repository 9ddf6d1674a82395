package paths

import (
	"errors"
	"net/netip"
	"time"
)

// conn is what is known of one connection.
type conn struct {
	token         uint32
	local, remote netip.AddrPort // of its first subflow

	elsewhere   bool // the peer takes no joins at remote
	tracked     bool // the box relays it
	established bool // the kernel lets it have subflows
	gone        bool // it has been forgotten
	orphan      bool // nobody tracked it when that was last looked at
	fresh       bool // it never was given a subflow
	small       bool // it has no need of further subflows yet, see [Terms]
	grown       bool // it has carried much
	queued      bool // it is in todo.urgent
	paced       bool // it is in todo.paced

	terms   Terms
	traffic Traffic
	seen    uint64        // bytes that it had carried when it was last asked
	wake    time.Duration // when todo.later has it, 0 for never
	ripe    time.Duration // when it is small no more, however little it carries; 0 for never

	first    int       // path of its first subflow
	subflows []subflow // by path; nil until it is tracked and established
}

// phase is how far a subflow has come.
type phase uint8

const (
	absent  phase = iota // may be asked for from at on
	opening              // was asked for, and should be open by at
	open                 // since at
	leaving              // was asked to go, and should have by at
)

// subflow is what a connection has on one path.
type subflow struct {
	local, remote netip.AddrPort // when it was last open
	at            time.Duration  // since the manager was made; see phase
	phase         phase
	id            uint8 // address ID under which it was asked for; 0 is the first subflow's
	told          Use   // what the peer takes it for; Closed if that is not known
	tries         uint8 // how often it failed of late
}

// backoff is how long to wait after so many failures: 50 ms at first, a minute at
// most. The first ones may just have come too early: a connection that is
// established refuses subflows for a moment (ENOTCONN), and a HAG announces one
// address after the other and refuses joins to those whose turn has not come.
func backoff(tries uint8) time.Duration { return min(25*time.Millisecond<<tries, time.Minute) }

const (
	// settled is how long a subflow must have been open for its failures to be forgotten.
	settled = 10 * time.Second
	// patience is how long an attempt may take: a SYN is repeated for some
	// 130 s (net.ipv4.tcp_syn_retries).
	patience = 150 * time.Second
	// parting is how long the kernel may take to report a subflow closed that it was asked to close.
	parting = time.Second
)

// newBytes returns how much the connection has carried since it was last asked.
func (c *conn) newBytes() uint64 {
	if c.traffic == nil {
		return 0
	}
	before := c.seen
	c.seen = c.traffic.BytesUp() + c.traffic.BytesDown()
	return c.seen - before
}

// find returns the path whose subflow an event of its end means, or -1.
func (c *conn) find(ev Event) int {
	if c == nil || c.subflows == nil {
		return -1
	}
	i := c.first
	if ev.LocalID != 0 {
		i = pathOf(ev.LocalID)
	}
	if i < 0 || i >= len(c.subflows) || c.subflows[i].phase == absent {
		return -1
	}
	s := &c.subflows[i]
	if s.id != ev.LocalID || s.phase != opening && (s.local != ev.Local || s.remote != ev.Remote) {
		return -1
	}
	return i
}

// wanted returns what the connection's subflow on path i is wanted for.
func (c *conn) wanted(i int, uses []Use) Use {
	switch {
	case c.terms.Paths != 0 && c.terms.Paths>>i&1 == 0:
		return Closed
	case c.small && i != c.first && uses[c.first] != Closed && c.subflows[c.first].phase == open:
		return Closed
	}
	return uses[i]
}

// covered tells whether a subflow is open that is wanted.
func (c *conn) covered(uses []Use) bool {
	for i := range c.subflows {
		if c.subflows[i].phase == open && c.wanted(i, uses) != Closed {
			return true
		}
	}
	return false
}

// errNoAddress means that a path has no address, or no join address, of a family in common.
var errNoAddress = errors.New("no usable address")

// ends returns the two ends of a subflow of c on path i: to the server itself if
// it takes joins there, else to a join address of the path. There an IPv6
// connection may use an IPv4 path (kernel: mptcp_pm_addr_families_match), never
// the other way round.
func (s *Set) ends(c *conn, i int) (local, remote Address, err error) {
	p := &s.Paths[i]
	at := s.links.get(p.Interface)
	is4 := c.remote.Addr().Is4()
	from, to := at.addr(is4), c.remote
	// Kernels that do not tell the C flag leave it to the first attempt to find out.
	elsewhere := c.elsewhere || c.subflows[i].tries > 0 && len(p.Join) > 0
	if elsewhere || !from.IsValid() {
		to = pick(p.Join, is4)
	}
	if !is4 && (!from.IsValid() || !to.IsValid()) {
		from, to = at.addr(true), pick(p.Join, true)
	}
	if !from.IsValid() || !to.IsValid() {
		return Address{}, Address{}, errNoAddress
	}
	local = Address{AddrPort: netip.AddrPortFrom(from, 0), ID: localID(i, from), Interface: at.index}
	return local, Address{AddrPort: to}, nil
}

// localID is the address ID of path i: the peer knows the address by it (0 is
// the address of the first subflow).
func localID(i int, a netip.Addr) uint8 {
	id := uint8(2*i + 1)
	if a.Is4() {
		id++
	}
	return id
}

// pathOf returns the path whose address has that ID, or -1.
func pathOf(id uint8) int {
	if id == 0 || id > 2*MaxPaths {
		return -1
	}
	return int(id-1) / 2
}
