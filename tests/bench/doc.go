// Command bench compares what two boxes cost with what the machine does without them,
// and with HAProxy in their place, in one run:
//
//	go run ./tests/bench [--rounds N] [--quick] [--only NAME…] [--json FILE] [--report FILE]
//
// Client, CPE, HAG and server are hosts of package netlab, on lines that are as fast
// as the machine. In each round every contender is set up in turn on the same two
// routers, is checked, does all works, and is taken down:
//
//	for each pass (two lines, one line), round, contender
//	    start → admit: client's address kept? MPTCP between the boxes? all bytes right?
//	    each work: a client process ─ jobs ─→ the server process
//	    stop
//
// A contender and a work are entries of tables; a work returns [figures], of
// which the report shows median, least and greatest. The load comes from processes
// of their own, this program in another part, so that their descriptors, their
// memory and their garbage are not this one's.
//
// Nothing is measured that is not verified: each connection checks that the server
// saw its address, each stream its length and a sample of its contents (see
// [verifier]), and on admission all of it.
package main
