package pcaps

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
)

// Replays of recordings.

// Interfaces of a recording.
var (
	recordedLAN = Interface{Name: "lan0", Description: "synbond cpe, plain side", LinkType: LinkRaw}
	recordedDSL = Interface{Name: "dsl0", Description: "synbond cpe, multipath side", LinkType: LinkRaw}
)

func TestReplayOfRecordingReplacesPacketsOfBox(t *testing.T) {
	lan, dsl := recordedLAN, recordedDSL
	numbers := func(packet []byte, seq, ack uint32) []byte {
		var seg rewrite.Segment
		if err := seg.Parse(packet); err != nil {
			t.Fatal(err)
		}
		return tcpPacket(tcpHeader{seg.Src, seg.Dst, seq, ack, seg.Flags, seg.Window, seg.Options}, "")
	}
	second := conn{netip.MustParseAddrPort("[2001:db8:7::7]:1000"), netip.MustParseAddrPort("[2001:db8:f::1]:9000")}
	const own = 555 // initial sequence number of the box's kernel
	f := newCapture(t, Pcapng)
	f.on(lan).frame(Frame{Data: conn6.syn(), Direction: Inbound}, "hold")
	f.on(dsl).frame(Frame{Data: numbers(conn6.syn(capableSYN), own, 0), Direction: Outbound})
	f.on(dsl).frame(Frame{Data: numbers(conn6.synack(capableSYNACK), serverISN, own+1), Direction: Inbound})
	f.on(dsl).frame(Frame{Data: numbers(conn6.ack(capableACK), own+1, serverISN+1), Direction: Outbound})
	f.on(lan).frame(Frame{Data: numbers(conn6.synack(), own, clientISN+1), Direction: Outbound}, "deliver: connected")
	f.on(lan).frame(Frame{Data: numbers(conn6.ack(nil), clientISN+1, own+1), Direction: Inbound})
	join, joinAnswer, joinACK := joinSteps(1)
	f.on(dsl).frame(Frame{Data: second.syn(join), Direction: Outbound}) // of the machine itself, not from the queue
	f.on(dsl).frame(Frame{Data: second.synack(joinAnswer), Direction: Inbound})
	f.on(dsl).frame(Frame{Data: second.ack(joinACK), Direction: Outbound})
	p := replayFile(t, f.bytes(), Config{})
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

func TestReplayOfRecordingTakesOutcomeFromBox(t *testing.T) {
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
		{"no route of its own", []seen{{lan, Outbound, icmp(core.NoRoute, conn4.syn())}}, "plain relay unreachable no-route", "ICMP network unreachable"},
		{"prohibited", []seen{{lan, Outbound, icmp(core.Prohibited, conn4.syn())}}, "plain relay unreachable prohibited", "ICMP administratively prohibited"},
		{"no answer", []seen{{lan, Outbound, conn4.syn()}}, "plain relay timed-out no-answer", ""},
		{"an error that has not ended the dial of its socket", []seen{{dsl, Inbound, icmp(core.NoRoute, onward)}}, "plain relay dialing", ""},
		{"an error of its own kernel", []seen{{lan, Outbound, icmp(core.NoRoute, onward)}}, "plain relay dialing", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newCapture(t, Pcapng).on(lan).frame(Frame{Data: conn4.syn(), Direction: Inbound}, "hold")
			f.on(dsl).frame(Frame{Data: onward, Direction: Outbound})
			for _, s := range c.seen {
				f.on(s.in).frame(Frame{Data: s.packet, Direction: s.d})
			}
			p := replayFile(t, f.bytes(), Config{})
			p.wantFlow(t, c.flow)
			if want := []string{"SYN MP_CAPABLE v1", c.answer}; !slices.Equal(p.texts, want[:len(p.texts)]) || c.answer != "" && len(p.texts) != 2 {
				t.Errorf("out %q, want %q", p.texts, want)
			}
		})
	}
}
