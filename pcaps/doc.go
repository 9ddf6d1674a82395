// Package pcaps is capture files: what a box decides, from a file and to a file.
//
// A capture is read frame by frame, in constant memory; a frame knows where its
// IP packet is, and takes another one in its place:
//
//	pcap, pcapng ─→ Reader ─→ Frame ─ Packet, Replace ─→ Writer ─→ pcap, pcapng
//	 (or gzip)     reader.go   link.go                  writer.go
//
// [Replay] drives [core.Core], the code that decides in a running box, with the
// frames of a capture and their times:
//
//	Frame ─→ whole.go ──→ replay.go ─┬─ SYN: decide.go ─→ core.Core.Packet ─┬─→ Decision
//	         as it was    which flow, │                                    └─→ craft.go, Writer:
//	         on the wire  what time   ├─ SYN+ACK, RST, ICMP: follow.go         what leaves the box
//	                                  │       outcome.go ─→ core.Core.DialEnded
//	                                  └─ ACK, FIN, data: follow.go ─→ session.go, join.go ─→ Report
//
// Nothing is decided here. What a box's kernel would do (dial, answer, reset) is
// shown with packets that are made of the captured ones.
//
// A [Recorder] writes the handshakes of a running box, with its decisions as
// comments, into a ring of files; from them a replay comes to the same decisions:
//
//	queue, box ─┬─→ notes ─→ scribe ─→ Writer ─→ ring
//	tap ────────┘  record.go  record_scribe.go   ring.go
//
// Invariants: a file is never trusted. Whatever its bytes are, reading ends with
// io.EOF, [ErrTruncated], [ErrFormat] or the error of the underlying reader, and
// all frames before that have been handed out; memory grows neither with the number
// of frames nor with the lengths that a file claims; times are kept to the nanosecond.
//
// Source: draft-ietf-opsawg-pcap (pcap), draft-ietf-opsawg-pcapng (pcapng), the
// registry of link types at tcpdump.org; IEEE 802.1Q (VLAN tags), linux/if_packet.h.
package pcaps
