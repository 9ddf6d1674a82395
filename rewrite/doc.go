// Package rewrite reads and edits Multipath TCP on the wire, with pure functions on
// the bytes of one packet, for MPTCP version 0 (RFC 6824) and version 1 (RFC 8684).
//
// [Segment.Parse] reads a packet from its IP header on. All other operations start
// from the parsed [Segment]:
//
//	packet ─ ip.go ──→ tcp.go ──┬─→ mptcp.go  ──→ MP_CAPABLE, MP_JOIN ([Segment.MPTCP])
//	         headers   header,  ├─→ options.go ─→ every option as a value ([WalkOptions])
//	         to TCP    options  └─→ edit.go ────→ a packet with other options
//	                                              ([Segment.Add], [Segment.Strip])
//
// The codec has one file for each option, option_*.go for TCP and mp_*.go for
// MPTCP, with a function Parse and the methods Append and Len. A parser takes one
// whole option, kind and length included. Append of the parsed value returns the
// same bytes: reserved bits and unknown options are kept. [Option] holds any one
// element of an option list. [Token] and [IDSN] are derived from the keys in
// MP_CAPABLE, and [Join] and [AddAddr.MakeHMAC] compute the HMACs.
//
// Invariants:
//   - Parse validates a packet before it uses the first field; the header views then
//     read without further checks.
//   - Malformed input never panics and is never repaired; the error is a [Reason].
//   - No function keeps state, reads a clock, or allocates, except to grow the slice
//     to which it appends.
//   - Functions that read a packet do not write to it.
//
// The caller of Append and Len keeps a value within the bounds in its doc comment,
// such as the number of blocks of a [SACK]: an option can be no longer than 255
// bytes, and an option list no longer than 40.
//
// Source: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293, RFC 2018, RFC 7323 and RFC
// 7413 (TCP and its options), RFC 6824 and RFC 8684 (MPTCP), RFC 1071 and RFC 1624
// (checksum), RFC 2104 (HMAC).
package rewrite
