package paths

import (
	"net/netip"
	"sync"
	"time"
)

// routes remembers for a moment by which interface packets leave, because a
// lookup through netlink costs some 20 µs and destinations repeat.
type routes struct {
	mu    sync.Mutex
	since time.Time
	index map[netip.Addr]int
}

const (
	routesFresh = 2 * time.Second
	routesMost  = 4096
)

func (r *routes) init() { r.index = make(map[netip.Addr]int) }

// egress returns the index of the interface by which packets to dst leave, 0 if there is no route.
func (r *routes) egress(dst netip.Addr) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.since) > routesFresh || len(r.index) >= routesMost {
		clear(r.index)
		r.since = now
	}
	index, known := r.index[dst]
	if !known {
		index, _ = egress(dst)
		r.index[dst] = index
	}
	return index
}
