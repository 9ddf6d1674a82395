package paths

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	rtnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes remembers for a moment by which interface packets leave, because a
// lookup through netlink costs some 20 µs and destinations repeat.
type routes struct {
	mu    sync.Mutex
	since time.Time
	index map[netip.Addr]int
}

const (
	routesFresh = 100 * time.Millisecond
	routesMost  = 4096
)

// clear forgets what was looked up.
func (r *routes) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.index)
}

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
		index = egress(dst)
		r.index[dst] = index
	}
	return index
}

// egress returns the index of the interface by which packets to dst leave, 0 if there is no route.
func egress(dst netip.Addr) int {
	routes, err := netlink.RouteGet(net.IP(dst.AsSlice()))
	if err != nil || len(routes) == 0 {
		return 0
	}
	return routes[0].LinkIndex
}

// routed tells whether packets from src to dst can leave by the interface with
// that index.
func routed(dst, src netip.Addr, index int) bool {
	// Asked with a source, the kernel heeds rules for it, but may name a better
	// IPv6 route by another interface (kernel: ip6_route_output_flags).
	for _, from := range []net.IP{src.AsSlice(), nil} {
		routes, err := netlink.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{
			OifIndex: index, SrcAddr: from,
			// Without a route it takes any IPv4 address for a neighbour on the
			// interface; it does not pretend to have an entry for that.
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

// routeWatch reports that routes have changed.
type routeWatch struct{ conn *rtnetlink.Conn }

func openRouteWatch() (*routeWatch, error) {
	c, err := rtnetlink.Dial(unix.NETLINK_ROUTE, &rtnetlink.Config{Groups: unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE})
	if err != nil {
		return nil, fmt.Errorf("watch routes: %w", err)
	}
	return &routeWatch{c}, nil
}

func (w *routeWatch) close() error { return w.conn.Close() }

// run calls changed for each change, until ctx ends.
func (w *routeWatch) run(ctx context.Context, changed func()) error {
	stop := context.AfterFunc(ctx, func() { _ = w.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		_, err := w.conn.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // more of them than fit is a change, too
			return fmt.Errorf("watch routes: %w", err)
		}
		changed()
	}
}

// WatchNeighbours calls failed for each neighbour that does not answer, until ctx ends.
func WatchNeighbours(ctx context.Context, failed func(netip.Addr)) error {
	for ctx.Err() == nil {
		if err := followNeighbours(ctx, failed); err != nil {
			return err
		}
	}
	return nil
}

// followNeighbours is WatchNeighbours for as long as one subscription lasts.
func followNeighbours(ctx context.Context, failed func(netip.Addr)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	updates := make(chan netlink.NeighUpdate, 64)
	if err := netlink.NeighSubscribe(updates, ctx.Done()); err != nil {
		return fmt.Errorf("watch neighbours: %w", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, more := <-updates:
			if !more {
				return nil
			}
			if n, ok := netip.AddrFromSlice(u.IP); ok && u.State == netlink.NUD_FAILED {
				failed(n.Unmap())
			}
		}
	}
}
