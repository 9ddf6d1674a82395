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

// newEncoder returns the encoder of a box that accepts subflows, with an open ring.
func newEncoder(t testing.TB) *encoder {
	t.Helper()
	e := &encoder{}
	e.init(RecorderConfig{
		Role: "hag", Plain: []string{"lan"}, Multipath: []string{"dsl"}, Join: []netip.AddrPort{joinAddress},
		Dir: t.TempDir(), Files: 2, FileSize: LeastFileSize,
	})
	e.nics.byIndex[lan], e.nics.byIndex[dsl] = e.nics.byName["lan"], e.nics.byName["dsl"]
	if err := e.ring.begin(time.Now()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.ring.close() })
	return e
}

// encodeAll encodes events, and returns a line for each frame.
func encodeAll(e *encoder, events ...event) (lines []string) {
	for _, ev := range events {
		rec, ok := e.encode(&ev)
		if !ok {
			continue
		}
		if rec.key != (state.Key{}) {
			e.ring.remember(rec.key)
		}
		what := "ICMP"
		if protocol, at, ok := transport(rec.Data); ok && protocol == protocolTCP {
			what = rewrite.Flags(rec.Data[at+13]).String()
		}
		lines = append(lines, strings.Join(append([]string{rec.in.Name, rec.Direction.String(), what}, rec.comments...), " · "))
	}
	return lines
}

// Events of an IPv6 flow from the plain side.
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

func TestEncoderRecordsHandshakes(t *testing.T) {
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
		{"a relayed flow", []event{
			in(lan, syn), hold, out(dsl, onward), in(dsl, synack), settle(core.Deliver, state.None), out(lan, synack),
			{kind: paired, key: flow6}, in(lan, fin),
		}, []string{
			"lan · inbound · SYN · hold", "dsl · outbound · SYN", "dsl · inbound · SYN|ACK",
			"lan · outbound · SYN|ACK · deliver: connected after 50ms",
			"lan · inbound · ACK · accepted; this ACK is inferred, its options and window are not known",
			"lan · inbound · FIN|ACK",
		}},
		{"an ACK from the tap is not inferred", []event{
			hold, settle(core.Deliver, state.None), out(lan, synack), in(lan, conn6.ack(rewrite.MPCapable{Version: 1, Form: rewrite.CapableKeys}.Append(nil))),
			{kind: paired, key: flow6},
		}, []string{"lan · inbound · SYN · hold", "lan · outbound · SYN|ACK · deliver: connected after 50ms", "lan · inbound · ACK"}},
		{"a repeated SYN, and a refusal", []event{
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
		{"no answer", []event{hold, settle(core.Drop, state.NoAnswer)}, []string{
			"lan · inbound · SYN · hold", "lan · outbound · SYN · drop: no-answer after 50ms; this SYN is not on the wire",
		}},
		{"a held SYN that goes on itself", []event{hold, settle(core.Accept, state.FilesFull), out(dsl, syn)}, []string{
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
		{"a subflow", []event{in(dsl, join)}, []string{"dsl · inbound · SYN"}},
		{"packets of other connections", []event{in(lan, syn), in(lan, fin), out(dsl, synack), out(elsewhere, onward)}, nil},
	} {
		if got := encodeAll(newEncoder(t), tt.events...); !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n%s\nwant\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

func TestEncoderOmitsDataAndCompletesChecksums(t *testing.T) {
	e := newEncoder(t)
	encodeAll(e, decide(conn6.syn(), core.Decision{Verdict: core.Hold}))
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
		rec, ok := e.encode(&event{iface: dsl, outgoing: true, packet: tt.packet})
		if !ok || !slices.Equal(rec.Data, tt.want) {
			t.Errorf("%s: % x\nwant % x", name, rec.Data, tt.want)
		}
	}
}

func TestEncoderBoundsHandshakes(t *testing.T) {
	e := newEncoder(t)
	for i := range 3 * maxHandshakes {
		e.open(handshakeOf(i), &handshake{})
	}
	if n := len(e.current) + len(e.previous); n > 2*maxHandshakes || e.handshake(handshakeOf(3*maxHandshakes-1)) == nil {
		t.Errorf("%d handshakes kept", n)
	}
}

func handshakeOf(i int) state.Key {
	return state.KeyOf(netip.AddrPortFrom(client6.Addr(), uint16(i)), netip.AddrPortFrom(server6.Addr(), uint16(i>>16)))
}

func TestRecorderCountsDroppedEvents(t *testing.T) {
	r := &Recorder{log: slog.New(slog.DiscardHandler), events: make(chan *event, 4)}
	r.pool.New = func() any { return new(event) }
	for range 10 {
		r.Decided(&core.Decision{Packet: core.Packet{Interface: lan, Data: conn6.syn()}, Verdict: core.Hold, Key: flow6})
	}
	if dropped := r.Totals().Dropped; dropped != 6 {
		t.Errorf("%d of 10 events dropped, want 6", dropped)
	}
}

// FuzzSeen encodes any packet from the tap.
func FuzzSeen(f *testing.F) {
	for _, p := range [][]byte{
		conn6.syn(), conn4.synack(), conn6.fromClient(rewrite.FIN|rewrite.ACK, nil, "x"),
		icmpError(core.NoRoute, server4.Addr(), client4.Addr(), conn4.syn()),
	} {
		f.Add(p, true)
		f.Add(p[:len(p)-1], false)
	}
	e := newEncoder(f)
	encodeAll(e, decide(conn6.syn(), core.Decision{Verdict: core.Hold}), settle(core.Deliver, state.None))
	f.Fuzz(func(t *testing.T, packet []byte, outgoing bool) {
		rec, ok := e.encode(&event{iface: lan, packet: slices.Clone(packet), outgoing: outgoing})
		if ok && (len(rec.Data) > len(packet) || rec.Length > len(packet)) {
			t.Errorf("%d bytes recorded of a packet of %d", len(rec.Data), len(packet))
		}
	})
}

// BenchmarkDecided measures the part of a recording that delays the verdict on a SYN.
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
