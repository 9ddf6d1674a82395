//go:build linux

package nl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Watch subscribes to multicast groups of a netlink family in the caller's network
// namespace and calls handle with the messages that arrive, until ctx ends. It
// calls handle with nil first, once it is subscribed, and again each time messages
// were lost (ENOBUFS): then the handler has to read the whole state anew. Handle is
// called from Watch's own goroutine and may keep nothing of the messages.
//
// Watch starts no goroutine, and its socket is closed when it returns.
func Watch(ctx context.Context, family int, groups []uint32, handle func([]netlink.Message)) error {
	conn, err := netlink.Dial(family, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, g := range groups {
		if err := conn.JoinGroup(g); err != nil {
			return fmt.Errorf("join netlink group %d: %w", g, err)
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for handle(nil); ; {
		messages, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			handle(nil)
		case err != nil:
			return err
		case len(messages) > 0:
			handle(messages)
		}
	}
}
