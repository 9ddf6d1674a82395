package paths

import (
	"context"
	"net/netip"
	"slices"
)

// Path is one way between CPE and HAG.
type Path struct {
	Name      string
	Interface string
	Join      []netip.AddrPort // where the HAG takes joins, at most one per address family

	Mode  Mode   // when a CPE uses it; empty is [Always]
	Busy  Busy   // for mode [Overflow]
	Quota Quota  // what a CPE may use of it
	Rate  uint64 // bit/s that it may carry each way, 0 for as many as it can
}

// Set is the paths of a box, with the interfaces and addresses that they have now.
type Set struct {
	Paths  []Path
	joins  []netip.AddrPort // every join address that is named
	links  links
	routes routes
}

// NewSet looks up the interfaces of the paths. A HAG's own join addresses come
// beside them; paths of a CPE without a join address of a family share the one
// that another path names.
func NewSet(all []Path, own ...netip.AddrPort) (*Set, error) {
	s := &Set{joins: slices.Clone(own)}
	for _, p := range all {
		s.joins = append(s.joins, p.Join...)
	}
	for _, p := range all {
		choice := slices.Concat(p.Join, s.joins)
		p.Join = nil
		for _, is4 := range []bool{false, true} {
			if j := pick(choice, is4); j.IsValid() {
				p.Join = append(p.Join, j)
			}
		}
		s.Paths = append(s.Paths, p)
	}
	s.routes.init()
	return s, s.links.read()
}

// pick returns the first address of a family, or the zero AddrPort.
func pick(addrs []netip.AddrPort, is4 bool) netip.AddrPort {
	for _, a := range addrs {
		if a.Addr().Is4() == is4 {
			return a
		}
	}
	return netip.AddrPort{}
}

// Watch keeps the set up to date until ctx ends.
func (s *Set) Watch(ctx context.Context) error { return s.links.watch(ctx, s.routes.clear) }

// Of returns the path that a subflow uses, or nil. A subflow from an address of
// a path's interface uses that path. Otherwise the routing table tells: for a
// client's address, and for a join that a HAG accepted.
func (s *Set) Of(local, remote netip.AddrPort) *Path {
	if i := s.index(local, remote); i >= 0 {
		return &s.Paths[i]
	}
	return nil
}

// index returns which path a subflow uses, or -1.
func (s *Set) index(local, remote netip.AddrPort) int {
	if !slices.Contains(s.joins, local) {
		if i := s.at(s.links.owner(local.Addr())); i >= 0 {
			return i
		}
	}
	return s.towards(remote.Addr())
}

// towards returns which path the routing table uses to reach dst, or -1.
func (s *Set) towards(dst netip.Addr) int { return s.at(s.routes.egress(dst)) }

// at returns the path on the interface with that index, or -1.
func (s *Set) at(index int) int {
	if index == 0 {
		return -1 // no interface has it, nor has a path whose interface is away
	}
	return slices.IndexFunc(s.Paths, func(p Path) bool { return s.links.get(p.Interface).index == index })
}
