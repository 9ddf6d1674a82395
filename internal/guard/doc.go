// Package guard keeps what a box has installed or set on its machine while other programs
// change the same machine. It decides; how to look at a thing and how to put it back is
// the business of the packages that install it.
//
//	netlink events ──┐
//	a tick ──────────┴─→ Guard ─→ Thing.Look: what has changed? ─→ Thing.Mend
//	                       └─ ten changes in a minute ─→ leave it for a while
//
// Invariants: a thing is mended once for each look that finds a change, and not while it
// is left. All vital things are there, or none is.
package guard
