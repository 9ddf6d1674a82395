//go:build linux

// Command bench compares the cost of two boxes with that of plain forwarding, and
// with HAProxy in place of the boxes, in one run:
//
//	go run ./tests/bench [--rounds N] [--quick] [--only NAME…] [--before PROGRAM] [--json FILE] [--report FILE]
//
// Client, CPE, HAG and server are hosts of package netlab, on lines that are as fast
// as the machine. In each round every system under test is started in turn on the
// same two routers, is verified, runs all workloads, and is stopped:
//
//	client ── cpe ══ dsl ══ hag ── server
//	           ╚════ lte ════╝
//
//	for each pass (two lines, one line), round, system
//	    start → verify: client's address kept? MPTCP between the boxes? all bytes right?
//	    each workload: a client process ─ jobs ─→ the server process
//	    stop
//
// Systems and workloads are entries of tables. A workload returns [figures]; the
// report shows their median, minimum and maximum. With --before another synbond, such
// as that of the commit before, is one more system in the same rounds. The load comes from processes of
// their own, this program in another role, so that this program's descriptors,
// memory and garbage collection do not disturb it.
//
// Every measurement is verified: each connection checks the address that the server
// saw, each stream its length and a sample of its contents (see [verifier]), and
// before the measurements all of its contents.
package main
