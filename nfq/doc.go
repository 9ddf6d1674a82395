// Package nfq connects a box to netfilter.
//
// A [Queue] receives the SYNs that nftables diverts to an NFQUEUE, holds them
// without a verdict until the box has decided, and releases them with a
// [Mark]. [Rules] are the nftables rules that divert the SYNs and act on the
// marks; [Routes] are the policy routing that delivers relayed packets to the box.
//
//	prerouting -290  deliver  packets of the box's sockets    → local delivery, untracked
//	prerouting 1000  land     looped SYNs                     → tproxy to the box's listener
//	forward    1000  hold     SYNs between the two sides      → NFQUEUE (bypass)
//	                          SYN+ACKs, to learn              → NFQUEUE (bypass)
//	forward    1001  refuse   marks of failed connections     → TCP reset or ICMP error
//	forward    1002  loop     released SYNs                   → lo
//	output     -300  emit     packets sent in a client's name → untracked
//	output     -150  class    the DSCP of the box's sockets   → IPv6 traffic class
//
// The router decides first: the queue gets what it is about to forward. A released SYN is
// copied to lo, and so comes in again, for the listener (docs/adr/0025-end-of-forward.md).
//
// Invariants: each received packet gets exactly one verdict, also while
// shutting down; without a process on the queue every SYN is forwarded as if
// there were no rules; a second [Rules.Install] replaces the first in one
// transaction.
//
// Source: uapi linux/netfilter/nfnetlink_queue.h, linux/netfilter/nf_tables.h.
package nfq
