//go:build linux

package host

import (
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"

	"github.com/synbond/synbond/internal/paths"
)

// sourceQuestion is the question for a [paths.Source].
type sourceQuestion struct {
	dst   netip.Addr
	index int
}

// Source returns the local end of packets to dst by the interface with that index. The
// answer may be 100 ms old.
func (m *Machine) Source(dst netip.Addr, index int) paths.Source {
	return m.sources.get(sourceQuestion{dst, index}, func() (s paths.Source) {
		for name, at := range *m.byName.Load() {
			if at.Index != index {
				continue
			}
			if s.Addr = source(dst, at); s.Addr.IsValid() {
				s.Filter, s.FilterRemedy, s.MarkMatters = reversePathFilter(dst, s.Addr, name, index)
			}
		}
		return s
	})
}

// Drops implements [Network].
func (m *Machine) Drops(remote, local netip.Addr, ifname string) (filter, remedy string) {
	filter, remedy, markMatters := reversePathFilter(remote, local, ifname, m.Link(ifname).Index)
	if markMatters {
		return "", ""
	}
	return filter, remedy
}

// source returns the address from which the kernel would send to dst by an interface.
//
// Where only the policy rules for a source lead there, those addresses are candidates that
// have such a rule, and the kernel chooses among them as far as it says.
func source(dst netip.Addr, at paths.Link) netip.Addr {
	usable := slices.DeleteFunc(slices.Clone(at.Usable), func(a netip.Addr) bool { return a.Is4() != dst.Is4() })
	if _, ok := route(dst, netip.Addr{}, at.Index, true); ok {
		if r, ok := route(dst, netip.Addr{}, at.Index, false); ok && slices.Contains(usable, sourceOf(r)) {
			return sourceOf(r)
		}
	}
	var candidates []netip.Addr
	var by netlink.Route
	for _, a := range usable {
		r, ok := route(dst, a, at.Index, true)
		if !ok {
			continue
		}
		if candidates = append(candidates, a); len(candidates) == 1 {
			by = r
		}
	}
	if len(candidates) == 0 {
		return netip.Addr{}
	}
	if choice := preferred(dst, candidates[0], at.Index, by); slices.Contains(candidates, choice) {
		return choice
	}
	return candidates[0]
}

// preferred returns the source that the kernel takes on a route that packets from a
// candidate have: that of the route, for IPv6 that of RFC 6724 (kernel:
// ip6_route_get_saddr), and for IPv4 one of the gateway's network (kernel:
// inet_select_addr).
func preferred(dst, candidate netip.Addr, index int, by netlink.Route) netip.Addr {
	if a := sourceOf(by); a.IsValid() {
		return a
	}
	if !dst.Is4() {
		r, _ := route(dst, candidate, index, false)
		return sourceOf(r)
	}
	on, err := netlink.AddrList(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: index}}, netlink.FAMILY_V4)
	if err != nil || by.Gw == nil {
		return netip.Addr{}
	}
	for _, a := range on {
		if a.Contains(by.Gw) {
			ip, _ := netip.AddrFromSlice(a.IP)
			return ip.Unmap()
		}
	}
	return netip.Addr{}
}

// sourceOf returns the source that a route names, or the zero Addr.
func sourceOf(r netlink.Route) netip.Addr {
	a, _ := netip.AddrFromSlice(r.Src)
	return a.Unmap()
}

// route returns the route of packets to dst, and from src if that is valid, by the
// interface with that index. Without a route the kernel takes any IPv4 address for a
// neighbour on the interface; with fib set only real routes count, without their source.
func route(dst, src netip.Addr, index int, fib bool) (netlink.Route, bool) {
	routes, err := netlink.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{
		OifIndex: index, SrcAddr: src.AsSlice(), FIBMatch: fib,
	})
	// With a source the kernel may return a better IPv6 route by another interface (kernel:
	// ip6_route_output_flags).
	if err != nil || len(routes) == 0 || !uses(routes[0], index) {
		return netlink.Route{}, false
	}
	return routes[0], true
}

// uses reports whether a route leads to the interface with that index, perhaps among
// others.
func uses(r netlink.Route, index int) bool {
	return r.LinkIndex == index || slices.ContainsFunc(r.MultiPath, func(hop *netlink.NexthopInfo) bool { return hop.LinkIndex == index })
}
