// Package relay holds the kernel sockets of a box: it dials onward in a
// client's name, accepts the client, pairs the two legs and moves bytes.
//
//	Dial ──→ connect(2), non-blocking ──→ Events.Connected
//	                                             │ the box releases the SYN
//	client's ACK ──→ accept(2) on the TPROXY listener ──→ pair by 5-tuple ──→ Events.Paired
//	                                             │ bytes both ways, half-closes, resets
//	                                      Events.Closed
//
// A [Relay] runs a few loops, one per core, each a goroutine with an epoll
// instance. A connection belongs to the loop that dialed it, so no lock is held
// while bytes move. Registration is edge-triggered and happens once per leg; a
// stream runs until a read or a write would block. An idle connection owns two
// sockets and one [Conn], and no buffer. Bulk from a TCP socket is spliced.
//
// A relay holds little: a multipath leg is given no more than keeps its subflows
// busy, for what one of them leaves undelivered when its line falls goes behind what
// the others have queued; and a host may send no more ahead than is soon passed on.
//
// Invariants: what a sender sent before its FIN or its reset is delivered before the FIN
// or the reset; each direction closes for itself; a reset of one leg resets the other; a
// [Conn] closes exactly once and reports it exactly once.
//
// A reset throws away what its socket has not sent, and overtakes on one subflow what is
// under way on another. So the relay reads all that a leg holds which an error has ended,
// and resets the other leg when its peer has acknowledged that: with 5 s of patience, or
// less, if the peer answers but takes nothing, and a minute if it is not heard of.
//
// Source: ip(7) IP_TRANSPARENT, ipv6(7), epoll(7), uapi linux/mptcp.h.
package relay
