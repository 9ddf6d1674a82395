//go:build linux

package host

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
)

// lookups remember for a moment what the kernel said about routes, because a lookup by
// netlink costs some 20 µs and destinations repeat.
type lookups[K comparable, V any] struct {
	mu    sync.Mutex
	since time.Time
	known map[K]V
}

// Limits of what is remembered: its age, after which all of it is dropped, and its entries.
const (
	lookupMaxAge     = 100 * time.Millisecond
	lookupMaxEntries = 4096
)

// clear drops all that is remembered.
func (l *lookups[K, V]) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.known)
}

// get returns the answer to a question, which look finds if it is not remembered.
func (l *lookups[K, V]) get(k K, look func() V) V {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.known == nil || now.Sub(l.since) > lookupMaxAge || len(l.known) >= lookupMaxEntries {
		l.known, l.since = make(map[K]V), now
	}
	v, known := l.known[k]
	if !known {
		v = look()
		l.known[k] = v
	}
	return v
}

// Egress returns the index of the interface by which packets to dst leave, 0 if
// there is no route. The answer may be 100 ms old.
func (m *Machine) Egress(dst netip.Addr) int {
	return m.egress.get(dst, func() int { return egress(dst) })
}

func egress(dst netip.Addr) int {
	routes, err := netlink.RouteGet(net.IP(dst.AsSlice()))
	if err != nil || len(routes) == 0 {
		return 0
	}
	return routes[0].LinkIndex
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
