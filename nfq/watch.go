//go:build linux

package nfq

import (
	"context"
	"fmt"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

// Watch calls changed once at the start, and then after each change of nftables rules in
// this network namespace, until ctx ends. Several changes may cause one call.
func Watch(ctx context.Context, changed func()) error {
	err := nl.Watch(ctx, unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}, func(messages []netlink.Message) {
		if messages == nil || slices.ContainsFunc(messages, endsTransaction) {
			changed()
		}
	})
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	return nil
}

// endsTransaction reports whether a message is the last one of a transaction (kernel:
// nf_tables_gen_notify).
func endsTransaction(m netlink.Message) bool {
	return m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN
}
