//go:build linux

package host

import (
	"context"
	"fmt"

	rtnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

// WatchQueues calls gone once at the start, and then each time that a queueing discipline of
// an interface goes or is replaced, until ctx ends. By is the netlink port of the program behind
// that, in most cases its process ID, 0 if unknown.
func WatchQueues(ctx context.Context, gone func(by uint32)) error {
	err := nl.Watch(ctx, unix.NETLINK_ROUTE, []uint32{unix.RTNLGRP_TC}, func(messages []rtnetlink.Message) {
		if messages == nil {
			gone(0)
		}
		for _, m := range messages {
			if m.Header.Type == unix.RTM_DELQDISC {
				gone(m.Header.PID)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("watch queueing disciplines: %w", err)
	}
	return nil
}
