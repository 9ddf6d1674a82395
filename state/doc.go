// Package state is the memory of a box: which flows exist and how far each one
// has come.
//
// A flow begins with a SYN and moves along one line; every other end of it is
// an outcome that stays visible for a while:
//
//	Dialing ──→ Released ──→ Relaying ──→ Closed
//	   │            └──→ Abandoned (the client never completed the handshake)
//	   └──→ Refused, Unreachable, TimedOut, Failed
//	Learning ──→ Passed (the SYN+ACK was seen), TimedOut
//	Passed, Rejected: decided at the SYN, nothing to follow
//
// While a flow is Dialing its SYN is held: the kernel keeps it without a
// verdict. The package holds no sockets and no packets; it has no clock of its
// own either: every call that depends on the time is given it.
//
// Cost: one map entry per flow. Flows of one state wait in one queue, oldest
// first, and share one timeout, so that expiry touches only what has expired.
// Ended flows make room for new ones: the oldest is forgotten first. Live flows
// are never evicted; the table refuses new ones instead (see [Table.Begin]).
//
// Lock order: Table.mu is the only lock and is never held during a callback.
package state
