//go:build linux

package nfq

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

func beUint32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// Watch calls changed once at the start, and then after each change of nftables rules in
// this network namespace, until ctx ends. It names the program that has made the change, ""
// if that is not known, and reports whether the change matters to the box of a role: it is
// about its tables, or may begin or end a translation of destinations.
func Watch(ctx context.Context, role string, changed func(by string, matters bool)) error {
	matters := false // the transaction that is being reported
	err := nl.Watch(ctx, unix.NETLINK_NETFILTER, []uint32{unix.NFNLGRP_NFTABLES}, func(messages []netlink.Message) {
		if messages == nil {
			matters = false
			changed("", true)
		}
		for _, m := range messages {
			if m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN {
				// The last message of a transaction (kernel: nf_tables_gen_notify).
				changed(text(m, attrGenerationName), matters)
				matters = false
				continue
			}
			matters = matters || concernsTables(m, tableName(role))
		}
	})
	if err != nil {
		return fmt.Errorf("watch nftables: %w", err)
	}
	return nil
}

// concernsTables reports whether a message is about a table of that name, or may be about
// a chain that translates addresses.
func concernsTables(m netlink.Message, called string) bool {
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_DELCHAIN, unix.NFT_MSG_DELTABLE: // they do not say of which type
		return true
	case unix.NFT_MSG_NEWCHAIN:
		return text(m, attrTable) == called || text(m, attrChainType) == "nat"
	}
	return text(m, attrTable) == called
}
