package pcaps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Replays of captures from different places: truncated, with copies of packets, with names
// of interfaces.

func TestReplayDecidesAlikeOnTruncatedPayload(t *testing.T) {
	for _, k := range []conn{conn4, conn6} {
		for data := 1; data < 8; data++ {
			whole := k.synData("abcdefgh"[:data], capableSYN)
			for cut := 1; cut <= data; cut++ {
				frame := Frame{Data: whole[:len(whole)-cut], Length: len(whole)}
				file := newCapture(t, Pcapng).frame(frame).bytes()
				p := replayFile(t, file, Config{Policy: &core.Policy{Default: state.Strip}})
				if len(p.lines) != 1 || p.decisions[0].Verdict != "rewrite" {
					t.Fatalf("%d of %d bytes cut: %q", cut, data, p.lines)
				}
				var seg rewrite.Segment
				if err := seg.Parse(whole); err != nil {
					t.Fatal(err)
				}
				want, err := seg.Strip(nil)
				if err != nil {
					t.Fatal(err)
				}
				got := p.out[0]
				if !bytes.Equal(got.Data, want[:len(want)-cut]) || got.Length != len(want) {
					t.Errorf("%d of %d bytes cut: %x of %d, want %x", cut, data, got.Data, got.Length, want)
				}
			}
		}
	}
}

func TestReplayPassesSYNTruncatedInHeader(t *testing.T) {
	whole := conn6.syn(capableSYN)
	for n := ipv6Size + 14; n < len(whole); n++ {
		file := newCapture(t, Pcapng).frame(Frame{Data: whole[:n], Length: len(whole)}).bytes()
		p := replayFile(t, file, Config{})
		p.wantLines(t, "1: SYN: accept (truncated)")
		if !bytes.Equal(p.out[0].Data, whole[:n]) || p.out[0].Length != len(whole) {
			t.Errorf("cut at %d: %+v", n, p.out[0])
		}
	}
}

func TestReplaySeesEndOfFlowInTruncatedPackets(t *testing.T) {
	f := newCapture(t, Pcap)
	for _, p := range [][]byte{
		conn4.syn(), conn4.synack(), conn4.ack(nil), conn4.fromClient(rewrite.ACK, nil, "a long request"), conn4.fromServer(rewrite.ACK, nil, "an answer"),
		conn4.fromClient(rewrite.FIN|rewrite.ACK, nil, "the end"), conn4.fromServer(rewrite.FIN|rewrite.ACK, nil, ""),
	} {
		f.frame(Frame{Data: p[:min(len(p), 48)], Length: len(p)})
	}
	flow := replayFile(t, f.bytes(), Config{}).wantFlow(t, "plain relay closed fin")
	if flow.BytesUp != 21 || flow.BytesDown != 9 {
		t.Errorf("%d bytes up, %d down", flow.BytesUp, flow.BytesDown)
	}
}

// A host leaves the length of a large segment for its network card to fill in.
func TestReplayReadsLargeSegmentsWithoutLength(t *testing.T) {
	for _, k := range []conn{conn4, conn6} {
		for _, size := range []int{3000, 65_000} {
			unsized := k.fromServer(rewrite.FIN|rewrite.ACK, nil, strings.Repeat("x", size))
			if k == conn4 {
				clear(unsized[2:4])
			} else {
				clear(unsized[4:6])
			}
			f := newCapture(t, Pcap)
			for _, p := range [][]byte{k.syn(), k.synack(), k.ack(nil), k.fromClient(rewrite.ACK, nil, "request"), unsized, k.fromClient(rewrite.FIN|rewrite.ACK, nil, "")} {
				f.add(p)
			}
			if flow := replayFile(t, f.bytes(), Config{}).wantFlow(t, "plain relay closed fin"); flow.BytesDown != uint64(size) {
				t.Errorf("%d bytes down, want %d", flow.BytesDown, size)
			}
		}
	}
}

// offloaded returns a packet with a partial checksum, for the network card to complete.
func offloaded(packet []byte, header int, k conn) []byte {
	out := slices.Clone(packet)
	sum := ^rewrite.Checksum(pseudoHeader(k.client.Addr(), k.server.Addr(), protocolTCP, len(packet)-header))
	binary.BigEndian.PutUint16(out[header+16:], sum)
	return out
}

func TestReplayCompletesPartialChecksum(t *testing.T) {
	packet := conn6.syn(capableSYN)
	strip := Config{Policy: &core.Policy{Default: state.Strip}}
	p := replayFile(t, newCapture(t, Pcapng).add(offloaded(packet, ipv6Size, conn6)).bytes(), strip)
	p.wantLines(t, "1: SYN MP_CAPABLE v1: rewrite: SYN → server")
	p.wantOut(t, "SYN")

	packet[ipv6Size+16] ^= 1
	p = replayFile(t, newCapture(t, Pcapng).add(packet).bytes(), strip)
	p.wantLines(t, "1: SYN MP_CAPABLE v1: accept (bad-checksum)")
}

// cooked returns a frame of Linux cooked v1 with a packet type of linux/if_packet.h.
func cooked(kind byte, packet []byte) Frame {
	header := []byte{0, kind, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x86, 0xdd}
	return Frame{Data: slices.Concat(header, packet)}
}

func TestReplayRecognizesCopiesOnAnyInterface(t *testing.T) {
	const in, out = 0, 4
	f := newCapture(t, Pcapng).on(Interface{Name: "any", LinkType: LinkCooked})
	for _, p := range [][]byte{conn6.syn(), conn6.syn(), conn6.synack(), conn6.ack(nil)} {
		f.frame(cooked(in, p)).frame(cooked(out, p))
	}
	p := replayFile(t, f.bytes(), Config{})
	p.wantLines(t, "1: SYN: hold: SYN MP_CAPABLE v1 → server", "3: SYN: hold (repeat): SYN MP_CAPABLE v1 → server",
		"5: SYN+ACK: deliver: SYN+ACK → client")
	p.wantOut(t, "SYN MP_CAPABLE v1", "SYN MP_CAPABLE v1", "SYN+ACK", "ACK", "ACK")
	if flow := p.wantFlow(t, "plain relay relaying"); flow.Packets != 4 || len(flow.Handshake) != 7 {
		t.Errorf("counts copies: %+v", flow)
	}
	for i := range 3 {
		if p.out[i].Direction != Outbound {
			t.Errorf("packet %d is %v", i, p.out[i].Direction)
		}
	}
	passed := replayFile(t, f.bytes(), Config{Policy: &core.Policy{Default: state.Pass}})
	if len(passed.out) != 8 {
		t.Errorf("%d packets pass, want 8", len(passed.out))
	}
}

func TestReplayRecognizesCopiesOnOtherInterface(t *testing.T) {
	one, other := Interface{Name: "eth0", LinkType: LinkRaw}, Interface{Name: "eth1", LinkType: LinkRaw}
	f := newCapture(t, Pcapng)
	steps := []struct {
		up     bool
		packet []byte
	}{
		{true, conn6.syn(capableSYN)}, {false, conn6.synack(capableSYNACK)}, {true, conn6.ack(capableACK)},
		{true, conn6.fromClient(rewrite.FIN|rewrite.ACK, nil, "an end")}, {false, conn6.fromServer(rewrite.FIN|rewrite.ACK, nil, "")},
	}
	for _, s := range steps {
		ways := []Interface{one, other}
		if !s.up {
			slices.Reverse(ways)
		}
		f.on(ways[0]).add(s.packet).on(ways[1]).add(s.packet)
	}
	f.on(other).add(conn6.syn(capableSYN)) // a late copy, in a file that is not sorted
	p := replayFile(t, f.bytes(), Config{})
	p.wantLines(t, "1: SYN MP_CAPABLE v1: hold: SYN → server",
		"3: SYN+ACK MP_CAPABLE v1: deliver: SYN+ACK MP_CAPABLE v1 → client")
	p.wantOut(t, "SYN", "SYN+ACK MP_CAPABLE v1", "ACK", "FIN+ACK, 6 bytes", "FIN+ACK, 6 bytes", "FIN+ACK", "FIN+ACK")
	if flow := p.wantFlow(t, "multipath relay closed fin"); flow.Packets != 5 || flow.BytesUp != 6 {
		t.Errorf("counts copies: %+v", flow)
	}
}

func TestReplayStripsRepeatedThirdACK(t *testing.T) {
	p := replayFile(t, newCapture(t, Pcapng).add(conn4.syn(capableSYN), conn4.synack(), conn4.ack(capableACK), conn4.ack(capableACK)).bytes(), Config{})
	p.wantOut(t, "SYN", "SYN+ACK MP_CAPABLE v1", "ACK", "ACK")
}

func TestReplayIgnoresTruncatedOptions(t *testing.T) {
	const kept = 8 // of the options
	second := conn{netip.MustParseAddrPort("192.0.2.9:50000"), server4}
	join, joinAnswer, joinACK := joinSteps(1)
	cut := func(packet []byte) Frame {
		return Frame{Data: packet[:ipv4Size+tcpSize+kept], Length: len(packet)}
	}
	f := newCapture(t, Pcapng).add(conn4.syn(capableSYN)).frame(cut(conn4.synack(capableSYNACK)))
	p := replayFile(t, f.bytes(), Config{})
	p.wantLines(t, "1: SYN MP_CAPABLE v1: hold: SYN → server",
		"2: SYN+ACK, options cut off: deliver: SYN+ACK MP_CAPABLE v1 → client")
	if flow := p.wantFlow(t, "multipath relay released"); flow.ServerToken != 0 || flow.Fallback != "" {
		t.Errorf("connection %+v", flow.Connection)
	}
	learn := Config{Policy: &core.Policy{Default: state.Learn}}
	f = newCapture(t, Pcapng).add(conn4.syn()).frame(cut(conn4.synack(capableSYNACK)))
	p = replayFile(t, f.bytes(), learn)
	p.wantLines(t, "1: SYN: rewrite: SYN MP_CAPABLE v1 → server", "2: SYN+ACK, options cut off: accept (truncated)")
	if d := p.decisions[1]; d.Client != client4 || d.Server != server4 {
		t.Errorf("client %v, server %v", d.Client, d.Server)
	}

	for name, seen := range map[string][]Frame{
		"the answer":    {cut(second.synack(joinAnswer)), {Data: second.ack(joinACK)}},
		"the third ACK": {{Data: second.synack(joinAnswer)}, cut(second.ack(joinACK)), {Data: second.ack(nil)}},
	} {
		f := newCapture(t, Pcapng).add(conn4.syn(capableSYN), conn4.synack(capableSYNACK), conn4.ack(capableACK), second.syn(join))
		for _, s := range seen {
			f.frame(s)
		}
		connection := replayFile(t, f.bytes(), Config{}).report.Flows[0].Connection
		if len(connection.Subflows) != 1 || connection.Subflows[0].State != "answered; the options that tell more are cut off" {
			t.Errorf("%s truncated: %+v", name, connection.Subflows)
		}
	}
}

func TestReplayReportsEndpointsOfMalformedSYN(t *testing.T) {
	malformed := conn6.syn()
	malformed[ipv6Size+12] = 0xf0 // a TCP header longer than the packet
	p := replayFile(t, newCapture(t, Pcapng).add(malformed).bytes(), Config{})
	p.wantLines(t, "1: SYN: accept (bad-tcp-header)")
	if d := p.decisions[0]; d.Client != client6 || d.Server != server6 {
		t.Errorf("client %v, server %v", d.Client, d.Server)
	}
}

func TestReplayCountsUnknownLinkTypesAndLatePackets(t *testing.T) {
	f := newCapture(t, Pcapng).add(conn4.syn()).wait(-3 * time.Millisecond).add(conn4.synack())
	f.on(Interface{LinkType: 147}).add(conn4.ack(nil))
	totals := replayFile(t, f.bytes(), Config{}).report.Totals
	if totals.Late != 2 || totals.LateUS != 2000 || totals.NotIP != 1 || totals.Unread["link type 147"] != 1 {
		t.Errorf("totals %+v", totals)
	}
	var b bytes.Buffer
	totals.print(&b)
	for _, line := range []string{
		"1 of them of link type 147, which is not read\n",
		"2 packets are earlier than one before them, by up to 2ms: reordercap(1) sorts a capture\n",
	} {
		if !strings.Contains(b.String(), line) {
			t.Errorf("%q is missing in\n%s", line, b.String())
		}
	}
}

func TestReplaySkipsLongPauses(t *testing.T) {
	f := newCapture(t, Pcapng)
	mapped := conn{netip.MustParseAddrPort("[::ffff:192.0.2.1]:5"), server6}
	for range 50 {
		f.add(mapped.syn(), conn6.syn()).wait(1000 * time.Hour)
	}
	p := replayFile(t, f.bytes(), Config{})
	if n := p.report.Totals.Entered["timed-out"]; n != 98 {
		t.Errorf("%d flows timed out, want 98", n)
	}
}

// Times in a file may differ by more than a time.Duration can hold.
func TestReplayEndsForTimesFarApart(t *testing.T) {
	o := littleEndian
	for _, ticks := range [][]uint64{{0, 1 << 62, 1 << 63, 1 << 62}, {1 << 63, 0, 1 << 62}} {
		file := cat(o.section(), o.iface(LinkRaw))
		for i, at := range ticks {
			k := conn{netip.AddrPortFrom(client6.Addr(), uint16(1000+i)), server6}
			file = append(file, o.enhanced(0, at, k.syn())...)
		}
		if p := replayFile(t, file, Config{}); len(p.report.Flows) != len(ticks) {
			t.Errorf("ticks %d: %d flows", ticks, len(p.report.Flows))
		}
	}
}

func TestReplayDecidesOnOutboundSYNWithoutInboundOne(t *testing.T) {
	const in, out = 0, 4
	f := newCapture(t, Pcapng).on(Interface{LinkType: LinkCooked})
	f.frame(cooked(out, conn6.syn())).frame(cooked(in, conn6.synack()))
	replayFile(t, f.bytes(), Config{}).wantFlow(t, "plain relay released")
}

func TestReplayTakesSideFromInterface(t *testing.T) {
	lan, dsl := Interface{Name: "lan0", LinkType: LinkRaw}, Interface{Name: "dsl0", LinkType: LinkRaw}
	names := Config{Plain: []string{"lan0"}, Paths: []string{"dsl0"}}
	back := conn{server6, client6} // a connection to the customer's host
	f := newCapture(t, Pcapng)
	if err := errors.Join(f.w.Add(lan), f.w.Add(dsl)); err != nil { // capture programs write all interfaces first
		t.Fatal(err)
	}
	f.on(lan).add(conn6.syn()).on(dsl).add(conn6.synack())
	f.on(dsl).add(conn4.syn(capableSYN)).on(lan).add(conn4.synack())
	f.on(dsl).add(conn{netip.MustParseAddrPort("[2001:db8:2::2]:444"), back.server}.syn())
	p := replayFile(t, f.bytes(), names)
	p.wantLines(t, "1: SYN: hold: SYN MP_CAPABLE v1 → server", "2: SYN+ACK: deliver: SYN+ACK → client",
		"3: SYN MP_CAPABLE v1: hold: SYN → server", "4: SYN+ACK: deliver: SYN+ACK MP_CAPABLE v1 → client",
		"5: SYN: accept (plain-tcp)")
	for i, want := range []string{"dsl0", "lan0", "lan0", "dsl0", "dsl0"} {
		if got := p.out[i].In.Name; got != want {
			t.Errorf("%s: interface %s, want %s", p.texts[i], got, want)
		}
	}
}

func TestReplayReversesLinkHeaderTowardsClient(t *testing.T) {
	a, b := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	vlan := []byte{0x81, 0, 0, 7, 0x86, 0xdd}
	f := newCapture(t, Pcapng).on(Interface{LinkType: LinkEthernet})
	f.frame(Frame{Data: slices.Concat(a, b, vlan, conn6.syn())})
	p := replayFile(t, f.bytes(), Config{Policy: &core.Policy{Default: state.Reject}})
	p.wantOut(t, "ICMPv6 administratively prohibited")
	if want := slices.Concat(b, a, vlan); !bytes.HasPrefix(p.out[0].Data, want) {
		t.Errorf("frame begins %x, want %x", p.out[0].Data[:18], want)
	}
}

func TestReplayMatchesAnswerToUncapturedSYNBySide(t *testing.T) {
	lan, dsl := Interface{Name: "lan0", LinkType: LinkRaw}, Interface{Name: "dsl0", LinkType: LinkRaw}
	sides := Config{Plain: []string{"lan0"}, Paths: []string{"dsl0"}}
	const seq, ack = 99, 77 // the capture does not have the SYN
	flags := rewrite.SYN | rewrite.ACK
	answer := tcpPacket(tcpHeader{server6, client6, seq, ack, flags, 500, capableSYNACK}, "")
	f := newCapture(t, Pcapng).on(lan).add(conn6.syn()).on(dsl).add(answer).on(lan).add(conn6.ack(nil))
	replayFile(t, f.bytes(), sides).wantFlow(t, "plain relay relaying")

	refusal := tcpPacket(tcpHeader{src: server6, dst: client6, ack: ack, flags: rewrite.RST | rewrite.ACK}, "")
	f = newCapture(t, Pcapng).on(lan).add(conn6.syn()).on(dsl).add(refusal)
	replayFile(t, f.bytes(), sides).wantFlow(t, "plain relay refused refused")
}

func TestReplayListsFirstFlowsAndCountsAll(t *testing.T) {
	f := newCapture(t, Pcapng)
	for i := range 300 {
		k := conn{netip.AddrPortFrom(client6.Addr(), uint16(1000+i)), server6}
		f.add(k.syn(), k.synack(), k.ack(nil), k.fromClient(rewrite.RST, nil, ""))
	}
	p := replayFile(t, f.bytes(), Config{MaxFlows: 10})
	if len(p.report.Flows) != 10 || p.report.Totals.Flows != 300 || p.report.Totals.Entered["closed"] != 300 {
		t.Errorf("%d flows listed, totals %+v", len(p.report.Flows), p.report.Totals)
	}
}
