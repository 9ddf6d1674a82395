// Package tap captures the packets that begin and end connections: TCP segments with
// SYN, FIN or RST, those with MP_CAPABLE or MP_JOIN at the place where Linux puts them
// (RFC 8684, sections 3.1 and 3.2), and ICMP errors. The kernel filters them (classic
// BPF); other packets are not copied.
//
//	interface → filter → socket's buffer, with a time stamp → [Tap.Poll]
//
// A tap sees incoming packets before netfilter, and outgoing packets after it. The
// caller polls at intervals of its choice, so that packets wake no process. It loses
// packets only if the socket's buffer is full: see [Tap.Drops].
//
// Source: packet(7), uapi linux/filter.h.
package tap
