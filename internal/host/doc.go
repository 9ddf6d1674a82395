// Package host reads and changes the machine that a box runs on: interfaces with their
// addresses and counters, routes, neighbours and the kernel's TCP sockets, by netlink;
// sysctls; queueing disciplines.
//
// A [Machine] is a snapshot of the interfaces of a network namespace that follows
// their changes. It is the Machine that packages paths and probe decide by. All
// else is read when it is asked for.
//
// A [Journal] makes the changes. It keeps the state before each of them in a file, so
// that the machine is restored when the box stops, or at its next start after a crash. A
// [Shaper] limits the rates of paths.
//
// A [Survey] checks the machine for what is in a box's way, by a table of checks, and returns
// each obstacle as a [Finding] of some [Kind]. [Findings] are those of a running box.
//
// Everything happens in the network namespace of the thread that opens a
// connection to the kernel, or that asks.
//
// Source: rtnetlink(7), sock_diag(7); uapi linux/rtnetlink.h, linux/neighbour.h,
// linux/if_link.h, linux/inet_diag.h.
package host
