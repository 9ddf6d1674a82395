// Package relay holds the kernel sockets of a box: it dials onward in a
// client's name, accepts the client, pairs the two legs and moves bytes.
//
//	Dial ──→ connect(2), non-blocking ──→ Events.Connected
//	                                             │ the box releases the SYN
//	client's ACK ──→ accept(2) on the TPROXY listener ──→ pair by 5-tuple ──→ Events.Paired
//	                                             │ bytes both ways, half-closes, resets
//	                                      Events.Closed
//
// Clients of [Explicit] connect to an address of this machine, and say in a [Preface] where
// to connect to. Then the order is another:
//
//	accept(2) ──→ Preface ──→ ClientEvents.Asks ──→ Dial ──→ Events.Connected
//	                                                             │ Welcome
//	                                                Events.Paired, then as above
//
// A [Relay] runs a few loops, one per core, each a goroutine with an epoll
// instance. A connection belongs to the loop that dialed it, so no lock is held
// while bytes move. Registration is edge-triggered and happens once per leg; a
// stream runs until a read or a write would block. An idle connection owns two
// sockets and one [Conn], and no buffer. Bulk from a TCP socket is spliced.
//
// A relay buffers little. The send budget of a multipath leg only keeps its subflows busy:
// when a path fails, the undelivered bytes of its subflow queue behind those of the others.
// The receive buffer of a TCP leg only lets a host send ahead what the relay passes on soon.
//
// A FIN towards the other box may be held for a moment: see hold.
//
// Invariants: the bytes of a sender arrive before its FIN or its reset; each direction
// closes for itself; a reset of one leg resets the other; a [Conn] closes exactly once
// and reports that exactly once.
//
// A reset discards the unsent data of its socket, and on one subflow it overtakes data in
// flight on another. So the relay reads a leg to its end after an error, and resets the
// other leg when its peer has acknowledged every byte. The wait is bounded: 1 s without
// progress for a peer with a closed window, 5 s for a peer that answers, 60 s for a silent one.
//
// Source: ip(7) IP_TRANSPARENT, ipv6(7), epoll(7), uapi linux/mptcp.h.
package relay
