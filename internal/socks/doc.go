// Package socks speaks SOCKS version 5 as two state machines on bytes, one for a server
// and one for a client, without sockets, clock or goroutines.
//
// The owner of a connection carries bytes and outcomes between the machine and the world.
// Each method returns the bytes to send, and the next thing that the machine needs:
//
//	Server                                         Client
//	bytes ──→ Receive ─→ WantCheck                 Start ─→ first bytes to send
//	answer ─→ Checked ─→ WantBytes, WantDial       bytes ─→ Receive ─→ Done: Bound, Rest
//	outcome → Dialed, Refused ─→ Done: Rest                        └─→ Failed: Err
//
// A peer may send all of its messages at once, and the first bytes of the stream behind
// them. The machine keeps these until it is done, and returns them by Rest.
//
// Invariants:
//   - A machine holds at most [MaxPending] bytes, however its peer behaves.
//   - Malformed input never panics and is never repaired; the error is a [Reason].
//   - The machine overwrites each buffer that had a password: its own, and the caller's
//     buffer of received bytes. Neither errors nor text forms have a password.
//   - A Destination is an address, or a name in lower case that a resolver can take. A name
//     that is the text of an address becomes that address.
//
// Framing, the length of a message from its first bytes, is here; messages are read and
// built by github.com/things-go/go-socks5/statute.
//
// Source: RFC 1928 (SOCKS 5), RFC 1929 (user and password), RFC 1035 section 2.3.4 (sizes
// of names).
package socks
