//go:build linux

package host

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// egressCache remembers for a moment by which interface packets leave, because a
// lookup by netlink costs some 20 µs and destinations repeat.
type egressCache struct {
	mu    sync.Mutex
	since time.Time
	index map[netip.Addr]int
}

// Limits of the cache: its age, after which all of it is dropped, and its entries.
const (
	egressMaxAge     = 100 * time.Millisecond
	egressMaxEntries = 4096
)

// clear drops the whole cache.
func (r *egressCache) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.index)
}

// Egress returns the index of the interface by which packets to dst leave, 0 if
// there is no route. The answer may be 100 ms old.
func (m *Machine) Egress(dst netip.Addr) int {
	r := &m.egress
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.since) > egressMaxAge || len(r.index) >= egressMaxEntries {
		clear(r.index)
		r.since = now
	}
	index, known := r.index[dst]
	if !known {
		index = egress(dst)
		r.index[dst] = index
	}
	return index
}

func egress(dst netip.Addr) int {
	routes, err := netlink.RouteGet(net.IP(dst.AsSlice()))
	if err != nil || len(routes) == 0 {
		return 0
	}
	return routes[0].LinkIndex
}

// Routed reports whether packets from src to dst can leave by the interface with
// that index.
func (m *Machine) Routed(dst, src netip.Addr, index int) bool {
	// With a source address the kernel applies the policy rules for that source, but
	// may return a better IPv6 route by another interface (kernel: ip6_route_output_flags).
	for _, from := range []net.IP{src.AsSlice(), nil} {
		routes, err := netlink.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{
			OifIndex: index, SrcAddr: from,
			// Without a route the kernel takes any IPv4 address for a neighbour on the
			// interface. With FIBMatch it returns real routes only.
			FIBMatch: true,
		})
		if err == nil && len(routes) > 0 && routes[0].LinkIndex == index {
			return true
		}
	}
	return false
}

// NextHop returns the neighbour to which packets to dst are sent: dst itself on
// a directly connected network, the zero Addr if there is no route.
func NextHop(dst netip.Addr) netip.Addr {
	routes, err := netlink.RouteGet(net.IP(dst.AsSlice()))
	if err != nil || len(routes) == 0 {
		return netip.Addr{}
	}
	if gateway, ok := netip.AddrFromSlice(routes[0].Gw); ok {
		return gateway.Unmap()
	}
	return dst
}
