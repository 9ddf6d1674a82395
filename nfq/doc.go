// Package nfq connects a box to netfilter.
//
// A [Queue] receives the SYNs that nftables diverts to an NFQUEUE, holds them
// without a verdict until the box has decided, and releases them with a
// [Mark]. [Rules] are the nftables rules that divert the SYNs and act on the
// marks; [InstallRoutes] adds the policy routing that delivers relayed packets
// to the box.
//
//	prerouting -300  divert   SYNs between the two sides      → NFQUEUE (bypass)
//	prerouting -290  deliver  released SYNs                   → tproxy to the box's listener
//	                          packets of the box's sockets    → local delivery, untracked
//	prerouting -285  answers  SYN+ACKs of passed connections, to learn → NFQUEUE (bypass)
//	prerouting -140  reject   marks of failed connections     → TCP reset or ICMP error
//	output     -300  emit     packets sent in a client's name → untracked
//	output     -150  class    the DSCP of the box's sockets   → IPv6 traffic class
//
// Invariants: each received packet gets exactly one verdict, also while
// shutting down; without a process on the queue every SYN is forwarded as if
// there were no rules; a second [Rules.Install] replaces the first in one
// transaction.
//
// Source: uapi linux/netfilter/nfnetlink_queue.h, linux/netfilter/nf_tables.h.
package nfq
