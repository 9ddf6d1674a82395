//go:build linux

package host

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	rtnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

// struct ndmsg (uapi linux/neighbour.h): family u8, padding, interface s32, state
// u16, flags u8, type u8, then attributes.
const (
	neighbourState = 8
	neighbourSize  = 12
)

// WatchNeighbours calls failed with the address of each neighbour that does not
// answer ARP or neighbour solicitations (NUD_FAILED), until ctx ends.
func WatchNeighbours(ctx context.Context, failed func(netip.Addr)) error {
	err := nl.Watch(ctx, unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_NEIGH}, func(messages []rtnetlink.Message) {
		for _, m := range messages {
			if a, ok := failedNeighbour(m); ok {
				failed(a)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("watch neighbours: %w", err)
	}
	return nil
}

// failedNeighbour returns the address of the neighbour whose failure a message reports.
func failedNeighbour(m rtnetlink.Message) (netip.Addr, bool) {
	if m.Header.Type != unix.RTM_NEWNEIGH || len(m.Data) < neighbourSize ||
		binary.NativeEndian.Uint16(m.Data[neighbourState:]) != unix.NUD_FAILED {
		return netip.Addr{}, false
	}
	for kind, value := range nl.Attributes(m.Data[neighbourSize:]) {
		if kind == unix.NDA_DST {
			a, ok := netip.AddrFromSlice(value)
			return a.Unmap(), ok
		}
	}
	return netip.Addr{}, false
}
