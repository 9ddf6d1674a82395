// Package encap carries subflows in UDP datagrams. Middleboxes that reset joins, or remove
// MPTCP options, cannot read them there: each packet of such a subflow travels in a datagram
// of the UDP connection over which the boxes probe the path.
//
//	CPE                                                            HAG
//	kernel: subflow from inner address to Remote                   kernel: subflow at the join address
//	   ⇅ TUN device                                                   ⇅ TUN device
//	Port ── header, packet ──→ probes' UDP connection ──→ Hub: destination becomes the join address
//	     ←───────────────────────────────────────────────      source becomes Remote
//
// A HAG gives each path of a CPE that asks an inner address and a key ([Hub.Grant]). The inner
// addresses are the HAG's choice, so those of several CPEs differ. They are of 240.0.0.0/4,
// which nobody has on a network (RFC 1112, section 4), and only IPv4: an IPv6 connection may have
// IPv4 subflows, but not the other way round (kernel: mptcp_pm_addr_families_match).
//
// A [Hub] takes packets only with a key that it has given, only from an address at which it
// lately heard probes of that CPE over that path, and only TCP between the path's inner address and
// [Remote]. A [Port] takes packets only with its key and from its HAG's UDP connection. All else
// is counted by its [Reason] and dropped. The key is as good as what guards TCP itself: it keeps
// those out who cannot see the packets.
//
// The package has no sockets and no clock; package box reads and writes for it.
//
// Sources: RFC 791, RFC 9293 (headers); RFC 1624 (checksums); RFC 6951 (the same for SCTP).
package encap
