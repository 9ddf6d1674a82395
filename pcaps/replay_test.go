package pcaps

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

func TestReplayDecidesOnHandshakes(t *testing.T) {
	refuse := func(k conn) []byte {
		return tcpPacket(tcpHeader{src: k.server, dst: k.client, ack: clientISN + 1, flags: rewrite.RST | rewrite.ACK}, "")
	}
	router := conn6.server.Addr()
	ends := func(k conn) [][]byte {
		return [][]byte{k.fromClient(rewrite.FIN|rewrite.ACK, nil, ""), k.fromServer(rewrite.FIN|rewrite.ACK, nil, "")}
	}
	for _, c := range []struct {
		name    string
		action  state.Action
		role    core.Role
		packets [][]byte
		lines   []string
		out     []string
		flow    string
	}{
		{
			"a plain client is relayed", state.Relay, "",
			append([][]byte{conn6.syn(), conn6.synack(), conn6.ack(nil)}, ends(conn6)...),
			[]string{"1: SYN: hold: SYN MP_CAPABLE v1 → server", "2: SYN+ACK: deliver: SYN+ACK → client"},
			[]string{"SYN MP_CAPABLE v1", "SYN+ACK", "ACK", "FIN+ACK", "FIN+ACK"},
			"plain relay closed fin",
		},
		{
			"a connection of the other box is relayed", state.Relay, "",
			append([][]byte{conn4.syn(capableSYN), conn4.synack(capableSYNACK), conn4.ack(capableACK)}, ends(conn4)...),
			[]string{"1: SYN MP_CAPABLE v1: hold: SYN → server", "2: SYN+ACK MP_CAPABLE v1: deliver: SYN+ACK MP_CAPABLE v1 → client"},
			[]string{"SYN", "SYN+ACK MP_CAPABLE v1", "ACK", "FIN+ACK", "FIN+ACK"},
			"multipath relay closed fin",
		},
		{
			"a server without MPTCP is bonded by the box", state.Relay, "",
			[][]byte{conn6.syn(capableSYN), conn6.synack(), conn6.ack(nil)},
			[]string{"1: SYN MP_CAPABLE v1: hold: SYN → server", "2: SYN+ACK: deliver: SYN+ACK MP_CAPABLE v1 → client"},
			[]string{"SYN", "SYN+ACK MP_CAPABLE v1", "ACK"},
			"multipath relay relaying",
		},
		{
			"version 0 is answered without MPTCP", state.Relay, "",
			[][]byte{conn6.syn(oldSYN), conn6.synack()},
			[]string{"1: SYN MP_CAPABLE v0: hold: SYN → server", "2: SYN+ACK: deliver: SYN+ACK → client"},
			[]string{"SYN", "SYN+ACK"},
			"multipath relay released",
		},
		{
			"a server refuses", state.Relay, "",
			[][]byte{conn6.syn(), refuse(conn6)},
			[]string{"1: SYN: hold: SYN MP_CAPABLE v1 → server", "2: RST+ACK: reset (refused): RST+ACK → client"},
			[]string{"SYN MP_CAPABLE v1", "RST+ACK"},
			"plain relay refused refused",
		},
		{
			"a router has no route", state.Relay, "",
			[][]byte{conn6.syn(), icmpError(core.NoRoute, router, client6.Addr(), conn6.syn())},
			[]string{"1: SYN: hold: SYN MP_CAPABLE v1 → server", "2: ICMPv6 no route: no-route (no-route): ICMPv6 no route → client"},
			[]string{"SYN MP_CAPABLE v1", "ICMPv6 no route"},
			"plain relay unreachable no-route",
		},
		{
			"a router prohibits IPv4: the errno is the one of an unreachable host", state.Relay, "",
			[][]byte{conn4.syn(), icmpError(core.Prohibited, server4.Addr(), client4.Addr(), conn4.syn())},
			[]string{"1: SYN: hold: SYN MP_CAPABLE v1 → server", "2: ICMP administratively prohibited: host-unreachable (host-unreachable): ICMP host unreachable → client"},
			[]string{"SYN MP_CAPABLE v1", "ICMP host unreachable"},
			"plain relay unreachable host-unreachable",
		},
		{
			"a SYN is repeated before and after its answer", state.Relay, "",
			[][]byte{conn6.syn(), conn6.syn(), conn6.synack(), conn6.syn(), conn6.synack(), conn6.ack(nil)},
			[]string{
				"1: SYN: hold: SYN MP_CAPABLE v1 → server", "2: SYN: hold (repeat): SYN MP_CAPABLE v1 → server",
				"3: SYN+ACK: deliver: SYN+ACK → client", "4: SYN: deliver (repeat): SYN+ACK → client",
			},
			[]string{"SYN MP_CAPABLE v1", "SYN MP_CAPABLE v1", "SYN+ACK", "SYN+ACK", "ACK"},
			"plain relay relaying",
		},
		{
			"a scanner resets", state.Relay, "",
			[][]byte{conn6.syn(), conn6.synack(), conn6.fromClient(rewrite.RST, nil, "")},
			[]string{"1: SYN: hold: SYN MP_CAPABLE v1 → server", "2: SYN+ACK: deliver: SYN+ACK → client"},
			[]string{"SYN MP_CAPABLE v1", "SYN+ACK", "RST"},
			"plain relay abandoned reset",
		},
		{
			"a SYN with data", state.Relay, "",
			[][]byte{conn6.synData("hello"), conn6.synack()},
			[]string{"1: SYN, 5 bytes: hold: SYN MP_CAPABLE v1 → server", "2: SYN+ACK: deliver: SYN+ACK → client"},
			[]string{"SYN MP_CAPABLE v1", "SYN+ACK"},
			"plain relay released",
		},
		{
			"end-to-end MPTCP passes a CPE", state.Relay, core.CPE,
			[][]byte{conn6.syn(capableSYN), conn6.synack(capableSYNACK), conn6.ack(capableACK)},
			[]string{"1: SYN MP_CAPABLE v1: rewrite (end-to-end): SYN MP_CAPABLE v1, DSCP 43 → server"},
			[]string{"SYN MP_CAPABLE v1", "SYN+ACK MP_CAPABLE v1", "ACK MP_CAPABLE v1"},
			"plain pass passed end-to-end",
		},
		{
			"a plain SYN passes a HAG", state.Relay, core.HAG,
			[][]byte{conn6.syn(), conn6.synack()},
			[]string{"1: SYN: accept (plain-tcp)"},
			[]string{"SYN", "SYN+ACK"},
			"multipath pass passed plain-tcp",
		},
		{
			"a SYN that passes is repeated", state.Pass, "",
			[][]byte{conn6.syn(), conn6.syn(), conn6.synack()},
			[]string{"1: SYN: accept", "2: SYN: accept"},
			[]string{"SYN", "SYN", "SYN+ACK"},
			"plain pass passed",
		},
		{
			"policy strips", state.Strip, "",
			[][]byte{conn6.syn(capableSYN), conn6.synack(), conn6.ack(nil)},
			[]string{"1: SYN MP_CAPABLE v1: rewrite: SYN → server"},
			[]string{"SYN", "SYN+ACK", "ACK"},
			"multipath strip passed",
		},
		{
			"policy learns of a server with MPTCP", state.Learn, "",
			[][]byte{conn6.syn(), conn6.synack(capableSYNACK), conn6.ack(nil)},
			[]string{"1: SYN: rewrite: SYN MP_CAPABLE v1 → server", "2: SYN+ACK MP_CAPABLE v1: rewrite (learnt-mptcp): SYN+ACK → client"},
			[]string{"SYN MP_CAPABLE v1", "SYN+ACK", "ACK"},
			"plain learn passed learnt-mptcp",
		},
		{
			"policy rejects", state.Reject, "",
			[][]byte{conn6.syn(), conn6.synack()},
			[]string{"1: SYN: prohibited: ICMPv6 administratively prohibited → client"},
			[]string{"ICMPv6 administratively prohibited"},
			"plain reject rejected",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := newCapture(t, Pcapng).add(c.packets...).bytes()
			p := replayFile(t, file, Config{Role: c.role, Policy: &core.Policy{Default: c.action, EndToEnd: 43}})
			p.wantLines(t, c.lines...)
			p.wantOut(t, c.out...)
			p.wantFlow(t, c.flow)
		})
	}
}

func TestReplayTimesOutByTimesOfCapture(t *testing.T) {
	f := newCapture(t, Pcapng).add(conn6.syn()).wait(time.Hour).add(conn4.syn())
	p := replayFile(t, f.bytes(), Config{})
	p.wantLines(t, "1: SYN: hold: SYN MP_CAPABLE v1 → server", "0: no answer: drop (no-answer)",
		"2: SYN: hold: SYN MP_CAPABLE v1 → server")
	if at := p.decisions[1].TimeUS; at != 20e6 {
		t.Errorf("timed out after %d µs, want 20 s", at)
	}
}

func TestReplayAbandonsSilentClient(t *testing.T) {
	f := newCapture(t, Pcapng).add(conn6.syn(), conn6.synack()).wait(2 * time.Minute).add(conn6.ack(nil))
	replayFile(t, f.bytes(), Config{}).wantFlow(t, "plain relay abandoned no-answer")
}

func TestReplayReportsReusedPortAsNewFlow(t *testing.T) {
	whole := [][]byte{
		conn6.syn(), conn6.synack(), conn6.ack(nil),
		conn6.fromClient(rewrite.FIN|rewrite.ACK, nil, ""), conn6.fromServer(rewrite.FIN|rewrite.ACK, nil, ""),
	}
	p := replayFile(t, newCapture(t, Pcapng).add(whole...).add(whole...).bytes(), Config{})
	if len(p.report.Flows) != 2 || p.report.Flows[1].State != "closed" || p.report.Flows[1].Frame != 6 {
		t.Errorf("flows %+v", p.report.Flows)
	}
}

func TestReplayCopiesOtherFramesUnchanged(t *testing.T) {
	arp := Frame{Data: append(make([]byte, 12), 8, 6, 0, 1, 2, 3), Comments: []string{"who has"}, Direction: Inbound}
	ether := func(packet []byte) Frame {
		return Frame{Data: slices.Concat([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd}, packet, []byte{0xde, 0xad})}
	}
	f := newCapture(t, Pcapng).on(Interface{Name: "eth0", LinkType: LinkEthernet})
	f.frame(arp).frame(ether(conn6.fromServer(rewrite.ACK, nil, "no handshake was captured")))
	f.frame(ether(conn6.fromClient(rewrite.FIN, nil, ""))).frame(Frame{Data: []byte{1}}).frame(Frame{Data: nil, Length: 60})
	file := f.bytes()
	p := replayFile(t, file, Config{})
	for i, want := range mustRead(t, file) {
		got := p.out[i]
		if !bytes.Equal(got.Data, want.Data) || !got.Time.Equal(want.Time) || got.Length != want.Length ||
			got.Direction != want.Direction || !slices.Equal(got.Comments, want.Comments) {
			t.Errorf("frame %d: %+v, want %+v", i+1, got, want)
		}
	}
	p.wantLines(t)
}

func TestReplayDecidesLikeCore(t *testing.T) {
	packets := [][]byte{
		conn6.syn(), conn4.syn(capableSYN), conn6.syn(), conn4.synData("data", oldSYN), conn6.synack(),
		conn6.syn(capableSYN), conn4.fromClient(rewrite.SYN|rewrite.RST, nil, ""),
	}
	for action := range state.Actions {
		cfg := Config{Role: core.CPE, Policy: &core.Policy{Default: state.Action(action), EndToEnd: 43}}
		p := replayFile(t, newCapture(t, Pcapng).add(packets...).bytes(), cfg)
		c := core.New(core.Config{Policy: cfg.Policy})
		var want []string
		expect := func(i int, acts []core.Action) {
			for _, a := range acts {
				if d := a.Decision; a.Kind == core.Decide && (d.Settles || d.Packet.Data != nil) {
					want = append(want, fmt.Sprintf("%d %v %v", i+1, d.Verdict, d.Reason))
				}
			}
		}
		for i, packet := range packets {
			var seg rewrite.Segment
			if err := seg.Parse(packet); err != nil {
				t.Fatal(err)
			}
			at := time.Duration(i) * time.Millisecond
			key := state.KeyOf(seg.Dst, seg.Src)
			flow, known := c.Flow(key)
			switch in := (core.Packet{ID: uint32(i + 1), Data: packet}); {
			case seg.IsSYN():
				expect(i, c.Packet(nil, at, in))
			case seg.IsSYNACK() && known && flow.State == state.Dialing:
				expect(i, c.DialEnded(nil, at, flow.ID, core.Dialed{MPTCP: true}))
			case seg.IsSYNACK() && cfg.Policy.Learns():
				in.Side = state.Multipath
				expect(i, c.Packet(nil, at, in))
			}
		}
		var got []string
		for _, d := range p.decisions {
			got = append(got, fmt.Sprintf("%d %s %s", d.Frame, d.Verdict, d.Reason))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%v: got %q, Core %q", state.Action(action), got, want)
		}
	}
}

func TestReplayReplaysTruncatedFileToItsEnd(t *testing.T) {
	file := newCapture(t, Pcapng).add(conn6.syn(), conn6.synack(), conn6.ack(nil)).bytes()
	p, err := tryReplay(t, file[:len(file)-5], Config{})
	if !errors.Is(err, ErrTruncated) {
		t.Errorf("error %v", err)
	}
	p.wantOut(t, "SYN MP_CAPABLE v1", "SYN+ACK")
	p.wantFlow(t, "plain relay released")
}

func TestReplayReturnsErrorOfOutput(t *testing.T) {
	file := newCapture(t, Pcapng).add(conn6.syn()).bytes()
	in, err := NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	full := errors.New("no space left")
	w := NewWriter(writerFunc(func([]byte) (int, error) { return 0, full }), Pcapng)
	if _, err := Replay(t.Context(), in, w, relay(Config{})); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

func TestReplayDoesNotAllocateForData(t *testing.T) {
	count := func(segments int) float64 {
		file := busy(t, 1, segments)
		return testing.AllocsPerRun(5, func() {
			in, err := NewReader(bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Replay(t.Context(), in, NewWriter(io.Discard, Pcapng), relay(Config{})); err != nil {
				t.Fatal(err)
			}
		})
	}
	if few, many := count(100), count(1100); many > few+20 {
		t.Errorf("%v allocations for 1,000 more segments", many-few)
	}
}

func TestReplaySeparatesFlowsOfBothDirectionsWithSamePorts(t *testing.T) {
	back := conn{conn6.server, conn6.client}
	for action := range state.Actions {
		f := newCapture(t, Pcapng).add(conn6.syn(), back.syn(), back.synack(capableSYNACK), conn6.synack(capableSYNACK), conn6.ack(nil))
		p := replayFile(t, f.bytes(), Config{Policy: &core.Policy{Default: state.Action(action)}})
		if p.report.Totals.Flows < 2 {
			t.Errorf("%v: %d flows", state.Action(action), p.report.Totals.Flows)
		}
	}
}
