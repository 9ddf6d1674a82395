package pcaps

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Interfaces of a box by index.
const lan, dsl, elsewhere = 1, 2, 3

var joinAddress = netip.MustParseAddrPort("[2001:db8:f::1]:9000")

// newEncoder is one of a box that takes joins, with an open ring.
func newEncoder(t testing.TB) *encoder {
	t.Helper()
	s := &encoder{}
	s.init(RecorderConfig{
		Role: "hag", Plain: []string{"lan"}, Multipath: []string{"dsl"}, Join: []netip.AddrPort{joinAddress},
		Dir: t.TempDir(), Files: 2, FileSize: LeastFileSize,
	})
	s.nics.byIndex[lan], s.nics.byIndex[dsl] = s.nics.byName["lan"], s.nics.byName["dsl"]
	if err := s.ring.begin(time.Now()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.ring.close() })
	return s
}

// tell has the encoder read events, and says in a line each what it records.
func tell(s *encoder, events ...event) (lines []string) {
	for _, n := range events {
		rec, ok := s.encode(&n)
		if !ok {
			continue
		}
		if rec.key != (state.Key{}) {
			s.ring.remember(rec.key)
		}
		what := "ICMP"
		if protocol, at, ok := transport(rec.Data); ok && protocol == protocolTCP {
			what = rewrite.Flags(rec.Data[at+13]).String()
		}
		lines = append(lines, strings.Join(append([]string{rec.in.Name, rec.Direction.String(), what}, rec.comments...), " · "))
	}
	return lines
}

// Notes of a flow of IPv6 from the plain side.
var flow6 = state.KeyOf(client6, server6)

func decide(packet []byte, d core.Decision) event {
	d.Key = flow6
	return event{kind: decided, iface: lan, packet: packet, key: flow6, decision: d}
}

func settle(v core.Verdict, reason state.Reason) event {
	return event{kind: settled, key: flow6, decision: core.Decision{Verdict: v, Reason: reason, Settles: true, Held: 50 * time.Millisecond}}
}

func in(iface int, packet []byte) event  { return event{iface: iface, packet: packet} }
func out(iface int, packet []byte) event { return event{iface: iface, packet: packet, outgoing: true} }

func TestRecordedHandshakes(t *testing.T) {
	syn, synack := conn6.syn(), conn6.synack()
	onward := conn6.syn(rewrite.MPCapable{Version: 1, Flags: 1}.Append(nil))
	hold := decide(syn, core.Decision{Verdict: core.Hold})
	fin := conn6.fromClient(rewrite.FIN|rewrite.ACK, nil, "last words")
	join := conn{client6, joinAddress}.syn(rewrite.MPJoinSYN{Token: 1}.Append(nil))
	for _, tt := range []struct {
		name   string
		events []event
		want   []string
	}{
		{"a flow that is relayed", []event{
			in(lan, syn), hold, out(dsl, onward), in(dsl, synack), settle(core.Deliver, state.None), out(lan, synack),
			{kind: paired, key: flow6}, in(lan, fin),
		}, []string{
			"lan · inbound · SYN · hold", "dsl · outbound · SYN", "dsl · inbound · SYN|ACK",
			"lan · outbound · SYN|ACK · deliver: connected after 50ms",
			"lan · inbound · ACK · accepted; this ACK is inferred, its options and window are not known",
			"lan · inbound · FIN|ACK",
		}},
		{"an ACK that was seen is not inferred", []event{
			hold, settle(core.Deliver, state.None), out(lan, synack), in(lan, conn6.ack(rewrite.MPCapable{Version: 1, Form: rewrite.CapableKeys}.Append(nil))),
			{kind: paired, key: flow6},
		}, []string{"lan · inbound · SYN · hold", "lan · outbound · SYN|ACK · deliver: connected after 50ms", "lan · inbound · ACK"}},
		{"a SYN that is repeated and refused", []event{
			hold, decide(syn, core.Decision{Verdict: core.Hold, Reason: state.Repeat, Supersedes: true}),
			settle(core.Reset, state.WasRefused), out(lan, conn6.fromServer(rewrite.RST|rewrite.ACK, nil, "")),
		}, []string{
			"lan · inbound · SYN · hold", "lan · inbound · SYN · hold: repeat, in the place of the SYN before",
			"lan · outbound · RST|ACK · reset: refused after 50ms",
		}},
		{"an ICMP error", []event{
			hold, settle(core.HostUnreachable, state.HostUnreachable),
			out(lan, icmpError(core.HostUnreachable, server6.Addr(), client6.Addr(), syn)),
		}, []string{"lan · inbound · SYN · hold", "lan · outbound · ICMP · host-unreachable after 50ms"}},
		{"nobody answers", []event{hold, settle(core.Drop, state.NoAnswer)}, []string{
			"lan · inbound · SYN · hold", "lan · outbound · SYN · drop: no-answer after 50ms; this SYN is not on the wire",
		}},
		{"a SYN that goes on after all", []event{hold, settle(core.Accept, state.FilesFull), out(dsl, syn)}, []string{
			"lan · inbound · SYN · hold", "dsl · outbound · SYN · accept: files-full after 50ms",
		}},
		{"learning", []event{
			decide(syn, core.Decision{Verdict: core.Rewrite, Rule: "curious", Asks: true}), out(dsl, onward), in(dsl, synack),
			{kind: decided, iface: dsl, packet: synack, key: flow6, decision: core.Decision{Verdict: core.Rewrite, Reason: state.LearntMPTCP}},
			out(lan, synack), in(dsl, synack),
			{kind: decided, iface: dsl, packet: synack, key: flow6, decision: core.Decision{Reason: state.NotAsked}},
		}, []string{
			"lan · inbound · SYN · rewrite: curious, asks whether the server speaks MPTCP", "dsl · outbound · SYN",
			"dsl · inbound · SYN|ACK · rewrite: learnt-mptcp", "lan · outbound · SYN|ACK", "dsl · inbound · SYN|ACK",
		}},
		{"a subflow that joins", []event{in(dsl, join)}, []string{"dsl · inbound · SYN"}},
		{"what is not the box's", []event{in(lan, syn), in(lan, fin), out(dsl, synack), out(elsewhere, onward)}, nil},
	} {
		if got := tell(newEncoder(t), tt.events...); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

func TestRecordedPacketsAreCompleteButForTheirData(t *testing.T) {
	s := newEncoder(t)
	tell(s, decide(conn6.syn(), core.Decision{Verdict: core.Hold}))
	fin := conn6.fromClient(rewrite.FIN|rewrite.ACK, nil, "a secret")
	synack := conn6.synack()
	partial := slices.Clone(synack)
	sum := ^rewrite.Checksum(pseudoHeader(server6.Addr(), client6.Addr(), protocolTCP, len(synack)-ipv6Size))
	partial[ipv6Size+16], partial[ipv6Size+17] = byte(sum>>8), byte(sum)
	padded := append(slices.Clone(synack), 0, 0, 0, 0)
	for name, tt := range map[string]struct{ packet, want []byte }{
		"data":               {fin, fin[:len(fin)-len("a secret")]},
		"a partial checksum": {partial, synack},
		"padding":            {padded, synack},
	} {
		rec, ok := s.encode(&event{iface: dsl, outgoing: true, packet: tt.packet})
		if !ok || !slices.Equal(rec.Data, tt.want) {
			t.Errorf("%s: % x\nwant % x", name, rec.Data, tt.want)
		}
	}
}

// TestOpeningsAreBounded begins more handshakes than a encoder keeps in mind.
func TestOpeningsAreBounded(t *testing.T) {
	s := newEncoder(t)
	for i := range 3 * maxHandshakes {
		s.open(handshakeOf(i), &handshake{})
	}
	if n := len(s.current) + len(s.previous); n > 2*maxHandshakes || s.handshake(handshakeOf(3*maxHandshakes-1)) == nil {
		t.Errorf("%d openings are kept", n)
	}
}

func handshakeOf(i int) state.Key {
	return state.KeyOf(netip.AddrPortFrom(client6.Addr(), uint16(i)), netip.AddrPortFrom(server6.Addr(), uint16(i>>16)))
}

// TestRecorderThatIsNotServedDropsAndCounts tells more than a recorder can hold.
func TestRecorderThatIsNotServedDropsAndCounts(t *testing.T) {
	r := &Recorder{log: slog.New(slog.DiscardHandler), events: make(chan *event, 4)}
	r.pool.New = func() any { return new(event) }
	for range 10 {
		r.Decided(&core.Decision{Packet: core.Packet{Interface: lan, Data: conn6.syn()}, Verdict: core.Hold, Key: flow6})
	}
	if dropped := r.Totals().Dropped; dropped != 6 {
		t.Errorf("%d of 10 are dropped, 4 being kept", dropped)
	}
}

// FuzzSeen has the encoder look at any packet.
func FuzzSeen(f *testing.F) {
	for _, p := range [][]byte{
		conn6.syn(), conn4.synack(), conn6.fromClient(rewrite.FIN|rewrite.ACK, nil, "x"),
		icmpError(core.NoRoute, server4.Addr(), client4.Addr(), conn4.syn()),
	} {
		f.Add(p, true)
		f.Add(p[:len(p)-1], false)
	}
	s := newEncoder(f)
	tell(s, decide(conn6.syn(), core.Decision{Verdict: core.Hold}), settle(core.Deliver, state.None))
	f.Fuzz(func(t *testing.T, packet []byte, outgoing bool) {
		rec, ok := s.encode(&event{iface: lan, packet: slices.Clone(packet), outgoing: outgoing})
		if ok && (len(rec.Data) > len(packet) || rec.Length > len(packet)) {
			t.Errorf("%d bytes of %d are recorded", len(rec.Data), len(packet))
		}
	})
}

// BenchmarkDecided is what a recording costs where SYNs wait for their verdict.
func BenchmarkDecided(b *testing.B) {
	r := &Recorder{events: make(chan *event, 1)}
	r.pool.New = func() any { return new(event) }
	d := core.Decision{Packet: core.Packet{Interface: lan, Data: conn6.syn()}, Verdict: core.Hold, Key: flow6}
	b.ReportAllocs()
	for b.Loop() {
		r.Decided(&d)
		r.pool.Put(<-r.events)
	}
}
