// Package box wires the rooms together into a CPE or a HAG, and holds what
// decides.
//
// A SYN's way:
//
//	nfq ─→ Core.Packet ─┬─ pass, strip, learn, reject ─→ verdict
//	                    └─ relay: hold ─→ relay.Dial
//	                                         │ Connected(err)
//	                         Core.Connected ─┴─→ verdict of the held SYN: deliver to
//	                                             the listener, reset, ICMP error, drop
//	                                         │ Paired
//	                                         └─→ bytes, and subflows on a CPE
//
// [Core] takes bytes and a time and returns a [Decision]; it knows no socket
// and no clock, so a capture file drives the very same code. [Box] carries the
// decisions out. A box is symmetric: what enters on one side leaves on the
// other, and only the multipath side speaks MPTCP.
//
// A CPE also steers its paths: ten times a second, and when one falls or comes
// back, it decides what each is wanted for, ends the subflows of those that are
// dead, and tells Core by an [Outlook] what to do with new flows.
//
// Invariants: exactly one verdict per SYN; whatever cannot be served passes
// untouched; what a box installs it removes, after a crash at its next start.
package box
