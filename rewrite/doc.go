// Package rewrite is MPTCP on the wire: pure functions on the bytes of one
// packet, for MPTCP version 0 (RFC 6824) and version 1 (RFC 8684).
//
// A packet that starts at its IP header is read once by [Segment.Parse]; all
// that the rest of a box asks about it is answered from there:
//
//	packet ─ ip.go ──→ tcp.go ─────→ mptcp.go
//	         headers   header,       MP_CAPABLE, MP_JOIN
//	         to TCP    option list   ([Segment.MPTCP])
//
// Invariants: a packet is validated before the first field is used, and the
// header views read without further checks; malformed input never panics, is
// never repaired and is answered with a [Reason]; nothing here allocates, keeps
// state, looks at a clock or writes to the packet.
//
// Source: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293 (TCP), RFC 6824 and RFC 8684
// (MPTCP), RFC 1071 (checksum).
package rewrite
