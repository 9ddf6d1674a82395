// Package ruleset evaluates the nftables rules of a network namespace for one packet: what
// would they do with it in a hook, and which rule or policy does so.
//
//	kernel ─→ Read ─→ Rules ─→ Rules.Hook(where, packet) ─→ Outcome
//
// The evaluation follows the kernel's (nf_tables_core.c, nft_do_chain). What it cannot
// know, such as whether a limit of a rate is exceeded ([Packet.Exceeds] assumes so), or expressions that it does not read, makes a match uncertain. An
// uncertain rule counts as one that may have accepted the packet. So a packet that is
// dropped in an [Outcome] is surely dropped; one that is not may be dropped all the same.
//
// Rules of iptables are read, too, both those that are nftables' underneath (iptables-nft) and
// those of the older tables (iptables-legacy), with common matches. Tables of the families inet, ip and ip6 are evaluated, flowtables,
// bridge and netdev tables are not.
//
// Source: uapi linux/netfilter/nf_tables.h, linux/netfilter/nf_conntrack_common.h.
package ruleset
