package pcaps

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/synbond/synbond/rewrite"
)

// Builders of captures for the tests of the replay, packet by packet.

var (
	client4 = netip.MustParseAddrPort("192.0.2.1:49152")
	server4 = netip.MustParseAddrPort("198.51.100.2:443")
	client6 = netip.MustParseAddrPort("[2001:db8:1::1]:49152")
	server6 = netip.MustParseAddrPort("[2001:db8:2::2]:443")
)

const clientISN, serverISN = 1000, 7000

// ipLike returns a header with the DSCP and flow label of built packets.
func ipLike(a netip.Addr) []byte {
	if a.Is4() {
		return []byte{0x45, 0, 0, 0, 0x12, 0x34}
	}
	return []byte{0x60, 0, 0, 0}
}

// tcpPacket returns a TCP segment with a payload.
func tcpPacket(h tcpHeader, payload string) []byte {
	for len(h.options)%4 != 0 {
		h.options = append(bytes.Clone(h.options), 1)
	}
	b := h.packet(ipLike(h.src.Addr()), 64)
	if payload == "" {
		return b
	}
	var seg rewrite.Segment
	header := len(b) - tcpSize - len(h.options)
	segment := append(bytes.Clone(b[header:]), payload...)
	segment[16], segment[17] = 0, 0
	sum := rewrite.Checksum(pseudoHeader(h.src.Addr(), h.dst.Addr(), protocolTCP, len(segment)), segment)
	segment[16], segment[17] = byte(sum>>8), byte(sum)
	b = ipHeader{ipLike(h.src.Addr()), h.src.Addr(), h.dst.Addr(), protocolTCP, 64}.packet(segment)
	if err := seg.Parse(b); err != nil || !seg.ChecksumOK() {
		panic("the builder is wrong")
	}
	return b
}

// conn builds the packets of one connection.
type conn struct{ client, server netip.AddrPort }

var (
	conn4 = conn{client4, server4}
	conn6 = conn{client6, server6}
)

// mssOption is 1460 bytes.
var mssOption = []byte{2, 4, 0x05, 0xb4}

func options(lists ...[]byte) []byte { return bytes.Join(append([][]byte{mssOption}, lists...), nil) }

func (k conn) syn(lists ...[]byte) []byte {
	return tcpPacket(tcpHeader{k.client, k.server, clientISN, 0, rewrite.SYN, 64000, options(lists...)}, "")
}

func (k conn) synData(payload string, lists ...[]byte) []byte {
	return tcpPacket(tcpHeader{k.client, k.server, clientISN, 0, rewrite.SYN, 64000, options(lists...)}, payload)
}

func (k conn) synack(lists ...[]byte) []byte {
	return tcpPacket(tcpHeader{k.server, k.client, serverISN, clientISN + 1, rewrite.SYN | rewrite.ACK, 65000, options(lists...)}, "")
}

func (k conn) ack(list []byte) []byte { return k.fromClient(rewrite.ACK, list, "") }

// fromClient and fromServer return segments after the handshake.
func (k conn) fromClient(flags rewrite.Flags, list []byte, payload string) []byte {
	return tcpPacket(tcpHeader{k.client, k.server, clientISN + 1, serverISN + 1, flags, 500, list}, payload)
}

func (k conn) fromServer(flags rewrite.Flags, list []byte, payload string) []byte {
	return tcpPacket(tcpHeader{k.server, k.client, serverISN + 1, clientISN + 1, flags, 500, list}, payload)
}

// captureBuilder builds a capture, with a millisecond between two frames.
type captureBuilder struct {
	t      testing.TB
	buffer bytes.Buffer
	w      *Writer
	at     time.Time
	in     Interface
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newCapture(t testing.TB, format Format) *captureBuilder {
	f := &captureBuilder{t: t, at: start, in: Interface{LinkType: LinkRaw}}
	f.w = NewWriter(&f.buffer, format)
	return f
}

// add adds whole packets as raw IP.
func (f *captureBuilder) add(packets ...[]byte) *captureBuilder {
	for _, p := range packets {
		f.frame(Frame{Data: p})
	}
	return f
}

// frame adds a frame at the current interface and time.
func (f *captureBuilder) frame(fr Frame, comments ...string) *captureBuilder {
	f.t.Helper()
	fr.Time = f.at
	fr.Length = max(fr.Length, len(fr.Data))
	if err := f.w.Write(&fr, f.in, comments...); err != nil {
		f.t.Fatal(err)
	}
	f.at = f.at.Add(time.Millisecond)
	return f
}

func (f *captureBuilder) wait(d time.Duration) *captureBuilder { f.at = f.at.Add(d); return f }

// on changes the interface of the next frames.
func (f *captureBuilder) on(in Interface) *captureBuilder { f.in = in; return f }

func (f *captureBuilder) bytes() []byte {
	f.t.Helper()
	if err := f.w.Flush(); err != nil {
		f.t.Fatal(err)
	}
	return f.buffer.Bytes()
}
