package paths

import (
	"net/netip"
	"slices"
	"time"
)

// MaxPaths is the largest number of paths of a box, and of subflows of a connection
// (kernel: MPTCP_PM_ADDR_MAX).
const MaxPaths = 8

// Path is one way between CPE and HAG.
type Path struct {
	Name      string
	Interface string
	Join      []netip.AddrPort // where the HAG takes joins, at most one per address family

	Mode  Mode   // when a CPE uses the path; empty is [Always]
	Busy  Busy   // for mode [Overflow]
	Quota Quota  // of a CPE
	Rate  uint64 // bit/s that the path may carry each way, 0 without a limit
	// Keepalive is the time between keepalives of idle subflows, 0 for the default: the
	// box's, and behind a NAT the planner's choice.
	Keepalive time.Duration
	// RejectQUIC has QUIC over the path refused, so that browsers use TCP.
	RejectQUIC bool
}

// Machine gives the deciders access to interfaces, addresses and routes. It is safe for
// concurrent use; all of them may change between two calls.
type Machine interface {
	// Link returns the interface of that name, or the zero Link.
	Link(name string) Link
	// Owners returns the indices of the interfaces that have address a. Lines with modems of
	// one kind may have the same address.
	Owners(a netip.Addr) []int
	// Exists reports whether there is an interface with that index.
	Exists(index int) bool
	// Source returns the local end of packets to dst by the interface with that index.
	Source(dst netip.Addr, index int) Source
	// Egress returns the index of the interface by which packets to dst leave, 0 if
	// there is no route.
	Egress(dst netip.Addr) int
}

// Set is the paths of a box on its machine.
type Set struct {
	Paths   []Path
	joins   []netip.AddrPort // all join addresses
	inner   func(netip.Addr) (path int, ok bool)
	machine Machine
}

// NewSet returns the set of these paths. A HAG adds its own join addresses. Paths of
// a CPE without a join address of a family share that of another path.
func NewSet(machine Machine, all []Path, own ...netip.AddrPort) *Set {
	s := &Set{machine: machine, joins: slices.Clone(own)}
	for _, p := range all {
		s.joins = append(s.joins, p.Join...)
	}
	for _, p := range all {
		choice := slices.Concat(p.Join, s.joins)
		p.Join = nil
		for _, is4 := range []bool{false, true} {
			if j := PickJoin(choice, is4); j.IsValid() {
				p.Join = append(p.Join, j)
			}
		}
		s.Paths = append(s.Paths, p)
	}
	return s
}

// SetInner sets the function that returns the index of the path on which the subflows of an inner
// address are encapsulated, -1 if it is none of the set's, and reports whether it is an inner address. It
// is called before the set is used, and the function by several goroutines.
func (s *Set) SetInner(inner func(netip.Addr) (path int, ok bool)) { s.inner = inner }

// Encapsulated reports whether a subflow between these addresses is encapsulated, and returns the index of
// its path.
func (s *Set) Encapsulated(local, remote netip.Addr) (path int, yes bool) {
	if s.inner == nil {
		return -1, false
	}
	if path, yes = s.inner(local); !yes {
		path, yes = s.inner(remote)
	}
	return path, yes
}

// On returns the index of the path on the interface with that index, or -1.
func (s *Set) On(index int) int { return s.at(index) }

// joinBit returns the bit of a join address in a set of them, 0 if it is unknown.
func (s *Set) joinBit(a netip.AddrPort) uint32 {
	if i := slices.Index(s.joins, a); i >= 0 && i < 32 {
		return 1 << i
	}
	return 0
}

// PickJoin returns the first address of a family, or the zero AddrPort.
func PickJoin(addrs []netip.AddrPort, is4 bool) netip.AddrPort {
	for _, a := range addrs {
		if a.Addr().Is4() == is4 {
			return a
		}
	}
	return netip.AddrPort{}
}

// Of returns the path of a subflow, or nil. A subflow that is bound to a path's interface, whose
// index is given if it is known, or that starts from an address of it, uses that path. For other local addresses, a client's or the join
// address of a HAG, the route to the remote address decides.
func (s *Set) Of(local, remote netip.AddrPort, bound int) *Path {
	i := s.at(bound)
	if i < 0 {
		i = s.Index(local, remote)
	}
	if i < 0 {
		return nil
	}
	return &s.Paths[i]
}

// Shared reports whether more than one interface has an address, so that the address does not
// tell the path.
func (s *Set) Shared(a netip.Addr) bool { return len(s.machine.Owners(a)) > 1 }

// Index returns the index of the path of a subflow that is not known to be bound, or -1. It may ask the kernel for a route.
func (s *Set) Index(local, remote netip.AddrPort) int {
	if i, is := s.Encapsulated(local.Addr(), remote.Addr()); is {
		return i
	}
	var owners []int
	if !slices.Contains(s.joins, local) {
		owners = s.machine.Owners(local.Addr())
	}
	if len(owners) == 1 {
		if i := s.at(owners[0]); i >= 0 {
			return i
		}
	}
	egress := s.machine.Egress(remote.Addr())
	if len(owners) > 1 && !slices.Contains(owners, egress) {
		egress = owners[0]
	}
	return s.at(egress)
}

// at returns the path on the interface with that index, or -1.
func (s *Set) at(index int) int {
	if index == 0 {
		return -1 // the Link of a path without an interface has index 0, too
	}
	return slices.IndexFunc(s.Paths, func(p Path) bool { return s.machine.Link(p.Interface).Index == index })
}
