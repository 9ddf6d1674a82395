// Package state is the memory of a box: which flows exist and how far each one
// has come.
//
// A flow begins with a SYN and moves along one line; every other end of it is
// an outcome that stays visible for a while:
//
//	Dialing ──→ Released ──→ Relaying ──→ Closed
//	   │            └──→ Abandoned (the client never completed the handshake)
//	   ├──→ Refused, Unreachable, TimedOut, Failed
//	   ├──→ Dialing (from elsewhere), Passed (with no box in the way after all)
//	   └──→ Rejected, Abandoned (of a client that has asked in a preface: its name has no
//	        address that is permitted, it has left)
//	Learning ──→ Passed (the SYN+ACK was seen), TimedOut
//	Passed, Rejected: decided at the SYN, nothing to follow
//
// While a flow is Dialing its SYN is held: the kernel keeps it without a
// verdict. In the place of a SYN it may be a client that has asked for the server in the
// preface of its connection: then the flow's key has the address of this machine to which
// the client has connected, and [Flow.Asked] the rest. The package holds no sockets and no packets, and has no clock of its
// own: every call that depends on the time is given it.
//
// A flow is a record of two cache lines; records lie side by side in pages that
// never move, and a map leads from a key to the record's number. No record is a
// heap object of its own, and no link between records is a pointer. Memory grows
// by pages, and is kept for flows to come.
//
// Flows that wait for the same timeout are in one queue, oldest first, so that
// expiry touches only what has expired. Ended flows make room for new ones: the
// oldest is forgotten first. Live flows are never evicted; the table refuses new
// ones instead (see [Table.Begin]). docs/adr/0014-flow-table.md has the figures.
//
// Lock order: Table.mu is the only lock and is never held during a callback.
package state
