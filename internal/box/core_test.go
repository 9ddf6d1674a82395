package box

import (
	"fmt"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/state"
)

var (
	key6 = state.KeyOf(client6, server6)
	key4 = state.KeyOf(client4, server4)
)

func newCore(action state.Action) *Core {
	return NewCore(state.Config{}, state.LearntConfig{}, &Policy{Default: action})
}

func TestDecisionAboutASYN(t *testing.T) {
	flagged := func(set func(*layers.TCP)) []byte { return segment(t, client6, server6, set, mss) }
	plain := syn(t, mss)
	cases := []struct {
		name    string
		side    state.Side
		packet  []byte
		action  state.Action
		verdict Verdict
		reason  string
		state   state.State // of the flow
		flow    bool        // whether one begins
	}{
		{"plain SYN from a host", state.Plain, plain, state.Relay, Hold, "", state.Dialing, true},
		{"plain SYN without options", state.Plain, syn(t), state.Relay, Hold, "", state.Dialing, true},
		{"SYN with ECN", state.Plain, flagged(func(h *layers.TCP) { h.SYN, h.ECE, h.CWR = true, true, true }), state.Relay, Hold, "", state.Dialing, true},
		{"MP_CAPABLE from a host", state.Plain, syn(t, mss, capable), state.Relay, Accept, "end-to-end", state.Passed, true},
		{"MP_JOIN from a host", state.Plain, syn(t, mss, join), state.Relay, Accept, "mp-join", state.Passed, true},
		{"MP_CAPABLE from the other box", state.Multipath, syn(t, mss, capable), state.Relay, Hold, "", state.Dialing, true},
		{"plain SYN from the multipath side", state.Multipath, plain, state.Relay, Accept, "plain-tcp", state.Passed, true},
		{"MP_JOIN from the multipath side", state.Multipath, syn(t, mss, join), state.Relay, Accept, "mp-join", state.Passed, true},

		{"SYN with a TCP-MD5 signature", state.Plain, syn(t, md5), state.Relay, Accept, "authenticated", state.Passed, true},
		{"policy rejects a SYN with a TCP-MD5 signature", state.Plain, syn(t, md5), state.Reject, Prohibited, "", state.Rejected, true},

		{"policy passes a host's SYN", state.Plain, plain, state.Pass, Accept, "", state.Passed, true},
		{"policy rejects a host's SYN", state.Plain, plain, state.Reject, Prohibited, "", state.Rejected, true},
		{"policy rejects the other box's SYN", state.Multipath, syn(t, capable), state.Reject, Prohibited, "", state.Rejected, true},
		{"policy does not reject a join", state.Multipath, syn(t, join), state.Reject, Accept, "mp-join", state.Passed, true},

		{"policy strips MP_CAPABLE of the other box", state.Multipath, syn(t, mss, capable), state.Strip, Rewrite, "", state.Passed, true},
		{"policy strips MP_CAPABLE of a host", state.Plain, syn(t, mss, capable), state.Strip, Rewrite, "", state.Passed, true},
		{"policy rejects MP_CAPABLE of a host", state.Plain, syn(t, mss, capable), state.Reject, Prohibited, "", state.Rejected, true},
		{"policy strips what has no MP_CAPABLE", state.Plain, plain, state.Strip, Accept, "", state.Passed, true},
		{"policy learns from a host's SYN", state.Plain, plain, state.Learn, Rewrite, "", state.Learning, true},
		{"policy learns from the other box's SYN, which asks by itself", state.Multipath, syn(t, mss, capable), state.Learn, Accept, "", state.Learning, true},

		{"SYN+RST", state.Plain, flagged(func(h *layers.TCP) { h.SYN, h.RST = true, true }), state.Relay, Accept, "not-a-syn", 0, false},
		{"ACK", state.Plain, flagged(func(h *layers.TCP) { h.ACK = true }), state.Relay, Accept, "not-a-syn", 0, false},
		{"bad checksum", state.Plain, damaged(plain), state.Relay, Accept, "bad-checksum", 0, false},
		{"hop limit of one", state.Plain, lastHop(plain), state.Relay, Accept, "hop-limit", 0, false},
		{"cut packet", state.Plain, plain[:50], state.Relay, Accept, "truncated", 0, false},
		{"no packet at all", state.Plain, nil, state.Relay, Accept, "truncated", 0, false},
		{"fragment", state.Plain, fragment(plain), state.Relay, Accept, "fragment", 0, false},
		{"source route", state.Plain, sourceRouted(plain), state.Relay, Accept, "source-routed", 0, false},
		{"MP_CAPABLE of a length that does not exist", state.Plain, syn(t, mss, badCapable), state.Relay, Accept, "bad-option", 0, false},
		{"two MP_CAPABLE", state.Multipath, syn(t, capable, capable), state.Relay, Accept, "bad-option", 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			core := newCore(c.action)
			d := core.Packet(time.Second, c.side, 7, c.packet)
			if d.Verdict != c.verdict || d.Reason != c.reason || d.Supersedes {
				t.Errorf("decision %+v, want %v because of %q", d, c.verdict, c.reason)
			}
			var flows []state.Flow
			for f := range core.Table.All() {
				flows = append(flows, f)
			}
			if c.reason != "" && core.Table.Totals().Reasons[c.reason] != 1 {
				t.Errorf("%q is not counted", c.reason)
			}
			if !c.flow {
				if len(flows) != 0 || d.Key != (state.Key{}) {
					t.Errorf("flows %+v begin", flows)
				}
				return
			}
			want := state.Flow{Key: key6, Side: c.side, State: c.state, Reason: c.reason, Held: 7, Began: time.Second, Changed: time.Second}
			want.Action = c.action
			if c.state != state.Learning && c.verdict != Rewrite {
				want.Action = map[Verdict]state.Action{Hold: state.Relay, Accept: state.Pass, Prohibited: state.Reject}[c.verdict]
			}
			if len(flows) != 1 || d.Key != key6 || !sameFlow(flows[0], want) {
				t.Errorf("flows %+v, want %+v", flows, want)
			}
		})
	}
}

// sameFlow compares what a table tells of two flows.
func sameFlow(a, b state.Flow) bool {
	return a.Key == b.Key && a.Side == b.Side && a.Action == b.Action && a.State == b.State && a.Reason == b.Reason &&
		a.Held == b.Held && a.Began == b.Began && a.Changed == b.Changed && a.Setup == b.Setup
}

func TestIPv4FlowsAreHeldUnderTheirOwnKey(t *testing.T) {
	core := newCore(state.Relay)
	d := core.Packet(0, state.Plain, 7, segment(t, client4, server4, func(tcp *layers.TCP) { tcp.SYN = true }))
	if d.Verdict != Hold || d.Key != key4 {
		t.Errorf("decision %+v", d)
	}
}

func TestRepeatOfAHeldSYNTakesItsPlace(t *testing.T) {
	core := newCore(state.Relay)
	core.Packet(0, state.Plain, 7, syn(t, mss))
	for id := uint32(8); id < 11; id++ {
		d := core.Packet(0, state.Plain, id, syn(t)) // the options need not be the same
		if d.Verdict != Hold || !d.Supersedes || d.Superseded != id-1 || d.Key != key6 {
			t.Errorf("repeat %d: %+v", id, d)
		}
	}
	d, f, ok := core.Connected(0, key6, nil)
	if !ok || d.Verdict != Deliver || f.Held != 10 {
		t.Errorf("decision %+v for SYN %d, want the newest delivered", d, f.Held)
	}
	if n := core.Table.Totals().Entered["dialing"]; n != 1 {
		t.Errorf("%d flows began", n)
	}
}

func TestRepeatAfterTheReleaseIsDelivered(t *testing.T) {
	core := newCore(state.Relay)
	core.Packet(0, state.Plain, 7, syn(t))
	core.Connected(0, key6, nil)
	for _, s := range []state.State{state.Released, state.Relaying} {
		if s == state.Relaying {
			core.Table.Move(0, key6, s, "")
		}
		d := core.Packet(0, state.Plain, 8, syn(t))
		if d.Verdict != Deliver || d.Supersedes || d.Reason != "repeat" {
			t.Errorf("%v: decision %+v", s, d)
		}
	}
	core.Table.Move(0, key6, state.Closed, "fin")
	if d := core.Packet(0, state.Plain, 9, syn(t)); d.Verdict != Hold || d.Supersedes {
		t.Errorf("after the end: decision %+v, want a new flow", d)
	}
}

func TestFullTablePassesAndCountsIt(t *testing.T) {
	for _, c := range []struct {
		reason string
		cfg    state.Config
		to     []state.State
	}{
		{"half-open-full", state.Config{MaxHalfOpen: 1}, nil},
		{"flows-full", state.Config{MaxFlows: 1}, []state.State{state.Released, state.Relaying}},
	} {
		core := NewCore(c.cfg, state.LearntConfig{}, &Policy{})
		core.Packet(0, state.Plain, 7, syn(t))
		for _, s := range c.to {
			core.Table.Move(0, key6, s, "")
		}
		other := segment(t, client4, server4, func(tcp *layers.TCP) { tcp.SYN = true })
		if d := core.Packet(0, state.Plain, 8, other); d.Verdict != Accept || d.Reason != c.reason {
			t.Errorf("%s: decision %+v", c.reason, d)
		}
		if n := core.Table.Totals().Reasons[c.reason]; n != 1 {
			t.Errorf("%s is counted %d times", c.reason, n)
		}
		// What needs no room keeps its own reason, and a repeat its flow.
		joining := segment(t, client4, server4, func(tcp *layers.TCP) { tcp.SYN = true }, join)
		if d := core.Packet(0, state.Plain, 9, joining); d.Reason != "mp-join" {
			t.Errorf("%s: a join is passed because of %q", c.reason, d.Reason)
		}
		if d := core.Packet(0, state.Plain, 10, syn(t)); d.Reason != "repeat" {
			t.Errorf("%s: a repeat is %+v", c.reason, d)
		}
	}
}

func TestOutcomeOfADialIsWhatTheClientIsToSee(t *testing.T) {
	dial := func(e unix.Errno) error {
		return fmt.Errorf("dial: %w", os.NewSyscallError("connect", e))
	}
	for _, c := range []struct {
		err     error
		state   state.State
		verdict Verdict
		reason  string
	}{
		{nil, state.Released, Deliver, ""},
		{unix.ECONNREFUSED, state.Refused, Reset, "refused"},
		{dial(unix.ENETUNREACH), state.Unreachable, NoRoute, "no-route"},
		{dial(unix.EHOSTUNREACH), state.Unreachable, HostUnreachable, "host-unreachable"},
		{dial(unix.EHOSTDOWN), state.Unreachable, HostUnreachable, "host-unreachable"},
		{dial(unix.EACCES), state.Unreachable, Prohibited, "prohibited"},
		{dial(unix.ETIMEDOUT), state.TimedOut, Drop, "no-answer"},
		{dial(unix.EADDRNOTAVAIL), state.Failed, Drop, "tuple-busy"},
		{dial(unix.EADDRINUSE), state.Failed, Accept, "port-in-use"},
		{dial(unix.EMFILE), state.Failed, Accept, "files-full"},
		{dial(unix.ENFILE), state.Failed, Accept, "files-full"},
		{dial(unix.ENOBUFS), state.Failed, Accept, "memory-full"},
		{dial(unix.ENOMEM), state.Failed, Accept, "memory-full"},
		// What nobody foresaw costs bonding, never connectivity.
		{dial(unix.EPROTO), state.Failed, Accept, "dial-failed"},
		{fmt.Errorf("not an errno"), state.Failed, Accept, "dial-failed"},
	} {
		t.Run(fmt.Sprint(c.err), func(t *testing.T) {
			core := newCore(state.Relay)
			core.Packet(0, state.Plain, 7, syn(t))
			d, f, ok := core.Connected(time.Second, key6, c.err)
			if !ok || !reflect.DeepEqual(d, Decision{Verdict: c.verdict, Reason: c.reason, Key: key6}) {
				t.Errorf("decision %+v, %v, want %v because of %q", d, ok, c.verdict, c.reason)
			}
			if f.State != c.state || f.Reason != c.reason || f.Held != 7 || f.Changed != time.Second {
				t.Errorf("flow %+v, want it %v", f, c.state)
			}
			if _, _, ok := core.Connected(time.Second, key6, c.err); ok {
				t.Error("a second outcome finds a SYN held")
			}
		})
	}
	if len(outcomes) != 13 {
		t.Errorf("%d outcomes are in the table, and 13 in this test", len(outcomes))
	}
}

func TestOutcomeThatComesTooLateFindsNoSYN(t *testing.T) {
	core := newCore(state.Relay)
	if _, _, ok := core.Connected(0, key6, nil); ok {
		t.Error("an unknown flow has a SYN held")
	}
	core.Packet(0, state.Plain, 7, syn(t))
	if moved := core.Table.Expire(time.Hour, 1); len(moved) != 1 || moved[0].Held != 7 {
		t.Fatalf("expired %+v", moved)
	}
	for _, err := range []error{nil, unix.ECONNREFUSED} {
		if _, f, ok := core.Connected(time.Hour, key6, err); ok {
			t.Errorf("%v: the flow that timed out is %+v", err, f)
		}
	}
}

func TestEveryVerdictHasANameAndAWay(t *testing.T) {
	seen := make(map[string]bool)
	for v := Accept; v <= Prohibited; v++ {
		if v.String() == "" || seen[v.String()] {
			t.Errorf("verdict %d is named %q", v, v)
		}
		seen[v.String()] = true
		_, marked := marks[v]
		if unmarked := v == Accept || v == Rewrite || v == Drop || v == Hold; unmarked == marked {
			t.Errorf("%v has a mark: %v", v, marked)
		}
	}
}

func TestDecisionCostsOneAllocation(t *testing.T) {
	core := newCore(state.Relay)
	packet := syn(t, mss)
	core.Packet(0, state.Plain, 1, packet)
	if n := testing.AllocsPerRun(100, func() { core.Packet(0, state.Plain, 2, packet) }); n != 0 {
		t.Errorf("a repeated SYN costs %v allocations", n)
	}
}
