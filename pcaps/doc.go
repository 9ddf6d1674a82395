// Package pcaps reads and writes capture files, replays the decisions of a box on a
// capture, and records the decisions of a running box.
//
// A [Reader] reads a capture frame by frame, in constant memory. A [Frame] gives access to
// its IP packet, and can replace it:
//
//	pcap, pcapng ─→ Reader ─→ Frame ─ Packet, Replace ─→ Writer ─→ pcap, pcapng
//	(gzip, zstd,   reader*.go  link.go                  writer.go
//	 or xz)
//
// [Replay] passes the frames of a capture and their times to [core.Core], which decides in
// a running box, too:
//
//	Frame ─→ complete.go ─→ replay.go ─┬─ SYN: syn.go ─→ core.Core.Packet ─┬─→ Decision
//	         packet on      flow, time │                                   └─→ build.go, Writer:
//	         the wire                  ├─ SYN+ACK, RST, ICMP: segment.go       packets of the box
//	                                   │       outcome.go ─→ core.Core.DialEnded
//	                                   └─ ACK, FIN, data: segment.go ─→ mptcp.go, join.go ─→ Report
//
// This package itself decides nothing. The packets that a box's kernel would send (SYN,
// SYN+ACK, RST, ICMP errors) are built from the captured packets.
//
// A Recorder (Linux only) writes the handshakes of a running box, with the decisions as
// comments, to a ring of files. A replay of these files comes to the same decisions:
//
//	queue, box ─┬─→ events ─────→ encoder ────────────→ Writer ─→ ring
//	tap ────────┘   recorder_*.go  recorder_encoder_*.go          ring.go
//
// Invariants: a file is never trusted. Reading any bytes ends with io.EOF, [ErrTruncated],
// [ErrFormat] or the error of the underlying reader, after all frames before the error. A
// damaged record costs that record: [Damage] counts it, and reading goes on behind it.
// Memory grows neither with the number of frames nor with the lengths in the file. Times
// are kept to the nanosecond.
//
// A packet may be in headers of the link layer and in tunnels. One table (layer.go) has each
// header with its parser, and with the function that corrects its lengths and checksums:
//
//	layer_link.go  Ethernet, VLAN, LLC, Linux cooked, NFLOG
//	layer_ppp.go   PPPoE, PPP, MPLS, NSH
//	layer_ip.go    IP in IP, UDP, GRE, EtherIP
//	layer_udp.go   VXLAN, GTP-U, Geneve, L2TP, Teredo, LISP
//
// Source: draft-ietf-opsawg-pcap (pcap), draft-ietf-opsawg-pcapng (pcapng), the
// registry of link types at tcpdump.org; IEEE 802.1Q (VLAN tags), linux/if_packet.h.
package pcaps
