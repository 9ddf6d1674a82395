// Package core decides everything about the flows of a box. It has no socket, no
// clock and no goroutine: events go in with the time, actions come out.
//
//	Packet, a queue holds it ────┐               ┌──→ Decide: the verdict on a packet, and why
//	DialEnded, Paired, Closed ───┤               ├──→ Connect: dial onward
//	ClientReset ─────────────────┼──→ Core ──────┼──→ Abort: give a dial or a released flow up
//	NeighbourFailed ─────────────┤   flow table, ├──→ Track, Untrack: further subflows
//	SetDialPolicy, SetPolicy ────┤   what was    ├──→ Ask: has the client reset its handshake?
//	Tick, time has passed ───────┘   learnt      ├──→ Expired: a flow has waited too long
//	                                             ├──→ Tell: a path or a prefix blocks MPTCP
//	                                             └──→ Wake: call Tick at a time
//
// Whoever drives a core only carries actions out: package box with a live queue and
// sockets, package pcaps with a capture, the simulator of the tests with neither.
//
// A SYN's way: Packet parses it, asks [Policy] and enters the flow in the table. A
// flow to be relayed begins with the decision [Hold] and the action [Connect].
// DialEnded turns the outcome into the verdict on the held SYN; Paired follows when
// the client has completed its handshake, Closed when both legs are gone.
//
// A client of a gateway takes the place of a SYN: Asked enters its flow, and the verdict on
// the client is a Decide like others. A name takes the action [Resolve] and the event
// Resolved; its addresses are dialed in turn (request.go, race.go). ClientLeft ends the flow of
// a client that does not wait.
//
// A dial that fails because of MPTCP, or because its answer takes another way, costs one
// connection some time, and later ones none: see reach.go for what is remembered, and
// obstacle.go for what is done about it.
//
// Invariants: every packet gets one decision that is not Hold; whatever cannot be
// served passes untouched; an event about an attempt that is over changes nothing,
// as its [state.ID] names no live flow any more.
//
// A driver may carry actions of different events out at the same time, so that
// what begins something can be overtaken by what ends it. After a Connect or a Track
// it asks [Core.Live], and takes back what is not wanted any more.
//
// Lock order: Core.mu, then the locks of package state. The function [Config.Gone] is
// called with Core.mu held.
package core
