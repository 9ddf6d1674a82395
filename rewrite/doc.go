// Package rewrite is MPTCP on the wire: pure functions on the bytes of one
// packet, for MPTCP version 0 (RFC 6824) and version 1 (RFC 8684).
//
// A packet that starts at its IP header is read once by [Segment.Parse]; all
// that the rest of a box asks about it is answered from there:
//
//	packet ─ ip.go ──→ tcp.go ──┬─→ mptcp.go  ──→ MP_CAPABLE, MP_JOIN ([Segment.MPTCP])
//	         headers   header,  ├─→ options.go ─→ every option as a value ([WalkOptions])
//	         to TCP    options  └─→ edit.go ────→ a packet with other options
//	                                              ([Segment.Add], [Segment.Strip])
//
// The codec has one file for each option, option_*.go for TCP and mp_*.go for
// MPTCP, with the trio Parse, Append and Len. What a parser takes, Append makes
// again byte for byte: bits that the RFCs reserve are kept, and so are options
// that the codec does not know. [Option] is any one of them, for lists. What the
// options carry is derived in key.go ([Token], [IDSN]) and hmac.go ([Join],
// [AddAddr.MakeHMAC]).
//
// Invariants: a packet is validated before the first field is used, and the
// header views read without further checks; malformed input never panics, is
// never repaired and is answered with a [Reason]; nothing here allocates, but to
// grow the slice that it appends to, keeps state, or looks at a clock; what reads
// a packet does not write to it.
//
// Source: RFC 791 (IPv4), RFC 8200 (IPv6), RFC 9293, RFC 2018, RFC 7323 and RFC
// 7413 (TCP and its options), RFC 6824 and RFC 8684 (MPTCP), RFC 1071 and RFC 1624
// (checksum), RFC 2104 (HMAC).
package rewrite
