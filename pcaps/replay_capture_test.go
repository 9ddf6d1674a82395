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

// Where and how a capture was made.

func TestCutPayloadChangesNothing(t *testing.T) {
	for _, k := range []talk{talk4, talk6} {
		for data := 1; data < 8; data++ {
			whole := k.synData("abcdefgh"[:data], capableSYN)
			for cut := 1; cut <= data; cut++ {
				frame := Frame{Data: whole[:len(whole)-cut], Length: len(whole)}
				file := newFilm(t, Pcapng).frame(frame).bytes()
				p := play(t, file, Config{Policy: &core.Policy{Default: state.Strip}})
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

func TestSYNCutInItsHeaderPasses(t *testing.T) {
	whole := talk6.syn(capableSYN)
	for n := ipv6Size + 14; n < len(whole); n++ {
		file := newFilm(t, Pcapng).frame(Frame{Data: whole[:n], Length: len(whole)}).bytes()
		p := play(t, file, Config{})
		p.wantLines(t, "1: SYN: accept (truncated)")
		if !bytes.Equal(p.out[0].Data, whole[:n]) || p.out[0].Length != len(whole) {
			t.Errorf("cut at %d: %+v", n, p.out[0])
		}
	}
}

func TestSnapLengthDoesNotHideTheEndOfAFlow(t *testing.T) {
	f := newFilm(t, Pcap)
	for _, p := range [][]byte{
		talk4.syn(), talk4.synack(), talk4.ack(nil), talk4.up(rewrite.ACK, nil, "a long request"), talk4.down(rewrite.ACK, nil, "an answer"),
		talk4.up(rewrite.FIN|rewrite.ACK, nil, "the end"), talk4.down(rewrite.FIN|rewrite.ACK, nil, ""),
	} {
		f.frame(Frame{Data: p[:min(len(p), 48)], Length: len(p)})
	}
	flow := play(t, f.bytes(), Config{}).wantFlow(t, "plain relay closed fin")
	if flow.BytesUp != 21 || flow.BytesDown != 9 {
		t.Errorf("%d bytes up, %d down", flow.BytesUp, flow.BytesDown)
	}
}

// A host hands packets to its network card that say nothing of their length.
func TestLargeSegmentsWithoutALengthEndFlows(t *testing.T) {
	for _, k := range []talk{talk4, talk6} {
		for _, size := range []int{3000, 65_000} {
			unsized := k.down(rewrite.FIN|rewrite.ACK, nil, strings.Repeat("x", size))
			if k == talk4 {
				clear(unsized[2:4])
			} else {
				clear(unsized[4:6])
			}
			f := newFilm(t, Pcap)
			for _, p := range [][]byte{k.syn(), k.synack(), k.ack(nil), k.up(rewrite.ACK, nil, "request"), unsized, k.up(rewrite.FIN|rewrite.ACK, nil, "")} {
				f.show(p)
			}
			if flow := play(t, f.bytes(), Config{}).wantFlow(t, "plain relay closed fin"); flow.BytesDown != uint64(size) {
				t.Errorf("%d bytes down, want %d", flow.BytesDown, size)
			}
		}
	}
}

// offloaded has the checksum that a host leaves to its network card.
func offloaded(packet []byte, header int, k talk) []byte {
	out := slices.Clone(packet)
	sum := ^rewrite.Checksum(pseudoHeader(k.client.Addr(), k.server.Addr(), protocolTCP, len(packet)-header))
	binary.BigEndian.PutUint16(out[header+16:], sum)
	return out
}

func TestChecksumThatTheCardComputesIsCompleted(t *testing.T) {
	packet := talk6.syn(capableSYN)
	strip := Config{Policy: &core.Policy{Default: state.Strip}}
	p := play(t, newFilm(t, Pcapng).show(offloaded(packet, ipv6Size, talk6)).bytes(), strip)
	p.wantLines(t, "1: SYN MP_CAPABLE v1: rewrite: SYN → server")
	p.wantOut(t, "SYN")

	packet[ipv6Size+16] ^= 1
	p = play(t, newFilm(t, Pcapng).show(packet).bytes(), strip)
	p.wantLines(t, "1: SYN MP_CAPABLE v1: accept (bad-checksum)")
}

// cooked is a frame of Linux cooked v1 with a packet type of linux/if_packet.h.
func cooked(kind byte, packet []byte) Frame {
	header := []byte{0, kind, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 0x86, 0xdd}
	return Frame{Data: slices.Concat(header, packet)}
}

func TestRouterThatShowsEachPacketTwiceIsUnderstood(t *testing.T) {
	const in, out = 0, 4
	f := newFilm(t, Pcapng).by(Interface{Name: "any", LinkType: LinkCooked})
	for _, p := range [][]byte{talk6.syn(), talk6.syn(), talk6.synack(), talk6.ack(nil)} {
		f.frame(cooked(in, p)).frame(cooked(out, p))
	}
	p := play(t, f.bytes(), Config{})
	p.wantLines(t, "1: SYN: hold: SYN MP_CAPABLE v1 → server", "3: SYN: hold (repeat): SYN MP_CAPABLE v1 → server",
		"5: SYN+ACK: deliver: SYN+ACK → client")
	p.wantOut(t, "SYN MP_CAPABLE v1", "SYN MP_CAPABLE v1", "SYN+ACK", "ACK", "ACK")
	if flow := p.wantFlow(t, "plain relay relaying"); flow.Packets != 4 || len(flow.Handshake) != 7 {
		t.Errorf("copies are counted: %+v", flow)
	}
	for i := range 3 {
		if p.out[i].Direction != Outbound {
			t.Errorf("packet %d is %v", i, p.out[i].Direction)
		}
	}
	passed := play(t, f.bytes(), Config{Policy: &core.Policy{Default: state.Pass}})
	if len(passed.out) != 8 {
		t.Errorf("%d packets pass, want 8", len(passed.out))
	}
}

func TestCopiesByAnotherInterfaceAreNoRepeats(t *testing.T) {
	one, other := Interface{Name: "eth0", LinkType: LinkRaw}, Interface{Name: "eth1", LinkType: LinkRaw}
	f := newFilm(t, Pcapng)
	steps := []struct {
		up     bool
		packet []byte
	}{
		{true, talk6.syn(capableSYN)}, {false, talk6.synack(capableSYNACK)}, {true, talk6.ack(capableACK)},
		{true, talk6.up(rewrite.FIN|rewrite.ACK, nil, "an end")}, {false, talk6.down(rewrite.FIN|rewrite.ACK, nil, "")},
	}
	for _, s := range steps {
		ways := []Interface{one, other}
		if !s.up {
			slices.Reverse(ways)
		}
		f.by(ways[0]).show(s.packet).by(ways[1]).show(s.packet)
	}
	f.by(other).show(talk6.syn(capableSYN)) // so late as if the file was not in order
	p := play(t, f.bytes(), Config{})
	p.wantLines(t, "1: SYN MP_CAPABLE v1: hold: SYN → server",
		"3: SYN+ACK MP_CAPABLE v1: deliver: SYN+ACK MP_CAPABLE v1 → client")
	p.wantOut(t, "SYN", "SYN+ACK MP_CAPABLE v1", "ACK", "FIN+ACK, 6 bytes", "FIN+ACK, 6 bytes", "FIN+ACK", "FIN+ACK")
	if flow := p.wantFlow(t, "multipath relay closed fin"); flow.Packets != 5 || flow.BytesUp != 6 {
		t.Errorf("copies are counted: %+v", flow)
	}
}

func TestThirdACKThatIsRepeatedGoesOnWithoutMPCapableToo(t *testing.T) {
	p := play(t, newFilm(t, Pcapng).show(talk4.syn(capableSYN), talk4.synack(), talk4.ack(capableACK), talk4.ack(capableACK)).bytes(), Config{})
	p.wantOut(t, "SYN", "SYN+ACK MP_CAPABLE v1", "ACK", "ACK")
}

func TestOptionsThatAreCutOffTellNothing(t *testing.T) {
	const kept = 8 // of the options
	second := talk{netip.MustParseAddrPort("192.0.2.9:50000"), server4}
	join, joinAnswer, joinACK := joinSteps(1)
	cut := func(packet []byte) Frame {
		return Frame{Data: packet[:ipv4Size+tcpSize+kept], Length: len(packet)}
	}
	f := newFilm(t, Pcapng).show(talk4.syn(capableSYN)).frame(cut(talk4.synack(capableSYNACK)))
	p := play(t, f.bytes(), Config{})
	p.wantLines(t, "1: SYN MP_CAPABLE v1: hold: SYN → server",
		"2: SYN+ACK, options cut off: deliver: SYN+ACK MP_CAPABLE v1 → client")
	if flow := p.wantFlow(t, "multipath relay released"); flow.ServerToken != 0 || flow.Fallback != "" {
		t.Errorf("connection %+v", flow.Connection)
	}
	learn := Config{Policy: &core.Policy{Default: state.Learn}}
	f = newFilm(t, Pcapng).show(talk4.syn()).frame(cut(talk4.synack(capableSYNACK)))
	p = play(t, f.bytes(), learn)
	p.wantLines(t, "1: SYN: rewrite: SYN MP_CAPABLE v1 → server", "2: SYN+ACK, options cut off: accept (truncated)")
	if d := p.decisions[1]; d.Client != client4 || d.Server != server4 {
		t.Errorf("the answer is of %v and %v", d.Client, d.Server)
	}

	for name, seen := range map[string][]Frame{
		"the answer":    {cut(second.synack(joinAnswer)), {Data: second.ack(joinACK)}},
		"the third ACK": {{Data: second.synack(joinAnswer)}, cut(second.ack(joinACK)), {Data: second.ack(nil)}},
	} {
		f := newFilm(t, Pcapng).show(talk4.syn(capableSYN), talk4.synack(capableSYNACK), talk4.ack(capableACK), second.syn(join))
		for _, s := range seen {
			f.frame(s)
		}
		connection := play(t, f.bytes(), Config{}).report.Flows[0].Connection
		if len(connection.Subflows) != 1 || connection.Subflows[0].State != "answered; the options that tell more are cut off" {
			t.Errorf("%s is cut: %+v", name, connection.Subflows)
		}
	}
}

func TestSYNsThatCannotBeReadAreTheirFlowsAllTheSame(t *testing.T) {
	malformed := talk6.syn()
	malformed[ipv6Size+12] = 0xf0 // a TCP header longer than the packet
	p := play(t, newFilm(t, Pcapng).show(malformed).bytes(), Config{})
	p.wantLines(t, "1: SYN: accept (bad-tcp-header)")
	if d := p.decisions[0]; d.Client != client6 || d.Server != server6 {
		t.Errorf("it is of %v and %v", d.Client, d.Server)
	}
}

func TestFramesThatCannotBeReadOrAreLateAreCounted(t *testing.T) {
	f := newFilm(t, Pcapng).show(talk4.syn()).wait(-3 * time.Millisecond).show(talk4.synack())
	f.by(Interface{LinkType: 147}).show(talk4.ack(nil))
	totals := play(t, f.bytes(), Config{}).report.Totals
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
			t.Errorf("%q is not in\n%s", line, b.String())
		}
	}
}

func TestClockThatJumpsDoesNotTakeItsTime(t *testing.T) {
	f := newFilm(t, Pcapng)
	mapped := talk{netip.MustParseAddrPort("[::ffff:192.0.2.1]:5"), server6}
	for range 50 {
		f.show(mapped.syn(), talk6.syn()).wait(1000 * time.Hour)
	}
	p := play(t, f.bytes(), Config{})
	if n := p.report.Totals.Entered["timed-out"]; n != 98 {
		t.Errorf("%d flows timed out", n)
	}
}

func TestSYNsThatAHostSendsItselfAreDecidedOn(t *testing.T) {
	const in, out = 0, 4
	f := newFilm(t, Pcapng).by(Interface{LinkType: LinkCooked})
	f.frame(cooked(out, talk6.syn())).frame(cooked(in, talk6.synack()))
	play(t, f.bytes(), Config{}).wantFlow(t, "plain relay released")
}

func TestInterfacesTellTheSides(t *testing.T) {
	lan, dsl := Interface{Name: "lan0", LinkType: LinkRaw}, Interface{Name: "dsl0", LinkType: LinkRaw}
	names := Config{Plain: []string{"lan0"}, Paths: []string{"dsl0"}}
	back := talk{server6, client6} // a connection towards the home
	f := newFilm(t, Pcapng)
	if err := errors.Join(f.w.Add(lan), f.w.Add(dsl)); err != nil { // as capture programs do
		t.Fatal(err)
	}
	f.by(lan).show(talk6.syn()).by(dsl).show(talk6.synack())
	f.by(dsl).show(talk4.syn(capableSYN)).by(lan).show(talk4.synack())
	f.by(dsl).show(talk{netip.MustParseAddrPort("[2001:db8:2::2]:444"), back.server}.syn())
	p := play(t, f.bytes(), names)
	p.wantLines(t, "1: SYN: hold: SYN MP_CAPABLE v1 → server", "2: SYN+ACK: deliver: SYN+ACK → client",
		"3: SYN MP_CAPABLE v1: hold: SYN → server", "4: SYN+ACK: deliver: SYN+ACK MP_CAPABLE v1 → client",
		"5: SYN: accept (plain-tcp)")
	for i, want := range []string{"dsl0", "lan0", "lan0", "dsl0", "dsl0"} {
		if got := p.out[i].In.Name; got != want {
			t.Errorf("%s leaves by %s, want %s", p.texts[i], got, want)
		}
	}
}

func TestFramesOfTheBoxHaveTheLinkHeaderOfTheirWay(t *testing.T) {
	a, b := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	vlan := []byte{0x81, 0, 0, 7, 0x86, 0xdd}
	f := newFilm(t, Pcapng).by(Interface{LinkType: LinkEthernet})
	f.frame(Frame{Data: slices.Concat(a, b, vlan, talk6.syn())})
	p := play(t, f.bytes(), Config{Policy: &core.Policy{Default: state.Reject}})
	p.wantOut(t, "ICMPv6 administratively prohibited")
	if want := slices.Concat(b, a, vlan); !bytes.HasPrefix(p.out[0].Data, want) {
		t.Errorf("frame begins %x, want %x", p.out[0].Data[:18], want)
	}
}

// Interfaces as a box describes them that records.
var (
	recordedLAN = Interface{Name: "lan0", Description: "synbond cpe, plain side", LinkType: LinkRaw}
	recordedDSL = Interface{Name: "dsl0", Description: "synbond cpe, multipath side", LinkType: LinkRaw}
)

func TestRecordingShowsWhatTheBoxHasSentAndIsReplayedWithoutIt(t *testing.T) {
	lan, dsl := recordedLAN, recordedDSL
	numbers := func(packet []byte, seq, ack uint32) []byte {
		var seg rewrite.Segment
		if err := seg.Parse(packet); err != nil {
			t.Fatal(err)
		}
		return tcpPacket(tcpHeader{seg.Src, seg.Dst, seq, ack, seg.Flags, seg.Window, seg.Options}, "")
	}
	second := talk{netip.MustParseAddrPort("[2001:db8:7::7]:1000"), netip.MustParseAddrPort("[2001:db8:f::1]:9000")}
	const own = 555 // the sequence numbers that the box's kernel chose
	f := newFilm(t, Pcapng)
	f.by(lan).frame(Frame{Data: talk6.syn(), Direction: Inbound}, "hold")
	f.by(dsl).frame(Frame{Data: numbers(talk6.syn(capableSYN), own, 0), Direction: Outbound})
	f.by(dsl).frame(Frame{Data: numbers(talk6.synack(capableSYNACK), serverISN, own+1), Direction: Inbound})
	f.by(dsl).frame(Frame{Data: numbers(talk6.ack(capableACK), own+1, serverISN+1), Direction: Outbound})
	f.by(lan).frame(Frame{Data: numbers(talk6.synack(), own, clientISN+1), Direction: Outbound}, "deliver: connected")
	f.by(lan).frame(Frame{Data: numbers(talk6.ack(nil), clientISN+1, own+1), Direction: Inbound})
	join, joinAnswer, joinACK := joinSteps(1)
	f.by(dsl).frame(Frame{Data: second.syn(join), Direction: Outbound}) // of the machine itself: not queued
	f.by(dsl).frame(Frame{Data: second.synack(joinAnswer), Direction: Inbound})
	f.by(dsl).frame(Frame{Data: second.ack(joinACK), Direction: Outbound})
	p := play(t, f.bytes(), Config{})
	p.wantLines(t, "1: SYN: hold: SYN MP_CAPABLE v1 → server", "5: SYN+ACK MP_CAPABLE v1: deliver: SYN+ACK → client")
	p.wantOut(t, "SYN MP_CAPABLE v1", "SYN+ACK", "ACK", "SYN MP_JOIN", "SYN+ACK MP_JOIN", "ACK MP_JOIN")
	flow := p.wantFlow(t, "plain relay relaying")
	if !flow.MPTCP || flow.Token != rewrite.Token(clientKey, 1) {
		t.Errorf("connection %+v", flow.Connection)
	}
	if len(flow.Subflows) != 1 || flow.Subflows[0].State != "joined" {
		t.Errorf("subflows %+v", flow.Subflows)
	}
}

func TestRecordedBoxTellsHowItsDialsEnded(t *testing.T) {
	lan, dsl := recordedLAN, recordedDSL
	onward := tcpPacket(tcpHeader{src: client4, dst: server4, seq: 555, flags: rewrite.SYN, window: 500}, "")
	refusal := tcpPacket(tcpHeader{src: server4, dst: client4, ack: clientISN + 1, flags: rewrite.RST | rewrite.ACK}, "")
	icmp := func(v core.Verdict, quote []byte) []byte { return icmpError(v, server4.Addr(), client4.Addr(), quote) }
	type seen struct {
		in     Interface
		d      Direction
		packet []byte
	}
	for _, c := range []struct {
		name   string
		seen   []seen
		flow   string
		answer string
	}{
		{"refused", []seen{{lan, Outbound, refusal}}, "plain relay refused refused", "RST+ACK"},
		{"no route of its own", []seen{{lan, Outbound, icmp(core.NoRoute, talk4.syn())}}, "plain relay unreachable no-route", "ICMP network unreachable"},
		{"prohibited", []seen{{lan, Outbound, icmp(core.Prohibited, talk4.syn())}}, "plain relay unreachable prohibited", "ICMP administratively prohibited"},
		{"nobody answers", []seen{{lan, Outbound, talk4.syn()}}, "plain relay timed-out no-answer", ""},
		{"an error that its socket has not heard of", []seen{{dsl, Inbound, icmp(core.NoRoute, onward)}}, "plain relay dialing", ""},
		{"an error of its own kernel", []seen{{lan, Outbound, icmp(core.NoRoute, onward)}}, "plain relay dialing", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFilm(t, Pcapng).by(lan).frame(Frame{Data: talk4.syn(), Direction: Inbound}, "hold")
			f.by(dsl).frame(Frame{Data: onward, Direction: Outbound})
			for _, s := range c.seen {
				f.by(s.in).frame(Frame{Data: s.packet, Direction: s.d})
			}
			p := play(t, f.bytes(), Config{})
			p.wantFlow(t, c.flow)
			if want := []string{"SYN MP_CAPABLE v1", c.answer}; !slices.Equal(p.texts, want[:len(p.texts)]) || c.answer != "" && len(p.texts) != 2 {
				t.Errorf("out %q, want %q", p.texts, want)
			}
		})
	}
}

func TestAnswerToTheBoxsOwnSYNIsKnownByItsSide(t *testing.T) {
	lan, dsl := Interface{Name: "lan0", LinkType: LinkRaw}, Interface{Name: "dsl0", LinkType: LinkRaw}
	sides := Config{Plain: []string{"lan0"}, Paths: []string{"dsl0"}}
	const seq, ack = 99, 77 // of connections that the capture does not show the SYN of
	flags := rewrite.SYN | rewrite.ACK
	answer := tcpPacket(tcpHeader{server6, client6, seq, ack, flags, 500, capableSYNACK}, "")
	f := newFilm(t, Pcapng).by(lan).show(talk6.syn()).by(dsl).show(answer).by(lan).show(talk6.ack(nil))
	play(t, f.bytes(), sides).wantFlow(t, "plain relay relaying")

	refusal := tcpPacket(tcpHeader{src: server6, dst: client6, ack: ack, flags: rewrite.RST | rewrite.ACK}, "")
	f = newFilm(t, Pcapng).by(lan).show(talk6.syn()).by(dsl).show(refusal)
	play(t, f.bytes(), sides).wantFlow(t, "plain relay refused refused")
}

func TestManyFlowsAreCountedAndTheFirstOnesListed(t *testing.T) {
	f := newFilm(t, Pcapng)
	for i := range 300 {
		k := talk{netip.AddrPortFrom(client6.Addr(), uint16(1000+i)), server6}
		f.show(k.syn(), k.synack(), k.ack(nil), k.up(rewrite.RST, nil, ""))
	}
	p := play(t, f.bytes(), Config{MaxFlows: 10})
	if len(p.report.Flows) != 10 || p.report.Totals.Flows != 300 || p.report.Totals.Entered["closed"] != 300 {
		t.Errorf("%d flows listed, totals %+v", len(p.report.Flows), p.report.Totals)
	}
}
