package nfq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Watch calls changed once at the start, and then after each change of nftables rules in
// this network namespace, until ctx ends. Several changes may cause one call.
func Watch(ctx context.Context, changed func()) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	defer conn.Close()
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for changed(); ; {
		msgs, err := conn.Receive()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS): // the kernel has dropped messages
			changed()
		case err != nil:
			return fmt.Errorf("watch nftables: %w", err)
		case slices.ContainsFunc(msgs, endsTransaction):
			changed()
		}
	}
}

// endsTransaction reports whether a message is the last one of a transaction (kernel:
// nf_tables_gen_notify).
func endsTransaction(m netlink.Message) bool {
	return m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN
}
