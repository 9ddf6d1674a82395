// Package box wires the other packages together into a CPE, a HAG or a gateway. It decides nothing about a
// flow: it hands the kernel's events to [core.Core] and carries out the actions that
// come back (driver.go).
//
// A SYN's way:
//
//	nfq ─→ Box.handle ─→ core.Packet ─┬─ pass, strip, learn, reject ─→ verdict
//	                                  └─ relay: hold ─→ relay.Dial
//	                                                        │ Connected(c, err)
//	                                  core.DialEnded ───────┴─→ verdict of the held SYN:
//	                                                        deliver, reset, ICMP error, drop
//	                                                        │ Paired
//	                                  core.Paired ──────────┴─→ bytes, and subflows on a CPE
//
// The queue, the relay, the path manager and the knowledge of half-open connections are
// behind the interfaces of seams.go; the tests have doubles of them. A box is symmetric:
// what enters on one side leaves on the other, and only the multipath side speaks MPTCP.
//
// A gateway has neither queue nor rules (rungateway.go): its clients ask by SOCKS (socks.go),
// and the core decides about them in the same way (gateway.go).
//
// A CPE also steers its paths: ten times a second, and when one falls or comes back, it
// decides on the desired state of each, ends the subflows of those that are down, and
// gives the core the [core.DialPolicy] for new flows (steer.go).
//
// Invariants: exactly one verdict per packet; whatever cannot be served passes
// untouched; no connection outlives its flow; what a box installs it removes, after a
// crash at its next start.
//
// Goroutines: the queue's, the relay's loops, the ticker, timers of [core.Wake], and
// steering all hand events to the core, and carry the actions out themselves. Locks, in
// this order: Core.mu, then those of conns, relay.Relay, relay.Conn and sharedDiag. No
// event reaches the core from under one of the latter, as the core asks
// [Box.clientGone] with Core.mu held.
package box
