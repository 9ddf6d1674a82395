package core

import (
	"fmt"
	"os"
	"reflect"
	"slices"
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
		{"hop limit of one", state.Plain, hopLimit(plain, 1), state.Relay, Accept, "hop-limit", 0, false},
		{"hop limit of a traceroute", state.Plain, hopLimit(plain, 30), state.Relay, Accept, "hop-limit", 0, false},
		{"low hop limit from the other box", state.Multipath, hopLimit(syn(t, mss, capable), 30), state.Relay, Hold, "", state.Dialing, true},
		{"cut packet", state.Plain, plain[:50], state.Relay, Accept, "truncated", 0, false},
		{"no packet at all", state.Plain, nil, state.Relay, Accept, "truncated", 0, false},
		{"fragment", state.Plain, fragment(plain), state.Relay, Accept, "fragment", 0, false},
		{"source route", state.Plain, sourceRouted(plain), state.Relay, Accept, "source-routed", 0, false},
		{"MP_CAPABLE of a length that does not exist", state.Plain, syn(t, mss, badCapable), state.Relay, Accept, "bad-option", 0, false},
		{"two MP_CAPABLE", state.Multipath, syn(t, capable, capable), state.Relay, Accept, "bad-option", 0, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			core := newCore(t, c.action)
			d := core.decide(time.Second, c.side, 7, c.packet)
			if d.Verdict != c.verdict || d.Reason.String() != c.reason || d.Supersedes {
				t.Errorf("decision %+v, want %v because of %q", d, c.verdict, c.reason)
			}
			var flows []state.Flow
			for f := range core.Flows() {
				flows = append(flows, f)
			}
			if c.reason != "" && counted(core, c.reason) != 1 {
				t.Errorf("%q is not counted", c.reason)
			}
			if !c.flow {
				if len(flows) != 0 || d.Key != (state.Key{}) {
					t.Errorf("flows %+v begin", flows)
				}
				return
			}
			want := state.Flow{Key: key6, Side: c.side, State: c.state, Reason: reasonNamed(c.reason), Held: 7, Began: time.Second, Changed: time.Second}
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
	core := newCore(t, state.Relay)
	d := core.decide(0, state.Plain, 7, segment(t, client4, server4, func(tcp *layers.TCP) { tcp.SYN = true }))
	if d.Verdict != Hold || d.Key != key4 {
		t.Errorf("decision %+v", d)
	}
}

func TestRepeatOfAHeldSYNTakesItsPlace(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t, mss))
	for id := uint32(8); id < 11; id++ {
		d := core.decide(0, state.Plain, id, syn(t)) // the options need not be the same
		if d.Verdict != Hold || !d.Supersedes || d.Key != key6 {
			t.Errorf("repeat %d: %+v", id, d)
		}
		if old := core.acts[1].Decision; len(core.acts) != 2 || old.Packet.ID != id-1 || old.Verdict != Drop {
			t.Errorf("repeat %d: actions %+v, want the SYN before dropped", id, core.acts)
		}
	}
	d, ok := core.dialed(0, key6, nil)
	if !ok || d.Verdict != Deliver || d.Packet.ID != 10 {
		t.Errorf("decision %+v, want the newest SYN delivered", d)
	}
	if n := core.Totals().Entered[state.Dialing]; n != 1 {
		t.Errorf("%d flows began", n)
	}
}

func TestRepeatAfterTheReleaseIsDelivered(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t))
	core.dialed(0, key6, nil)
	for _, s := range []state.State{state.Released, state.Relaying} {
		if s == state.Relaying {
			core.acts, _ = core.Paired(nil, 0, core.id(key6))
		}
		d := core.decide(0, state.Plain, 8, syn(t))
		if d.Verdict != Deliver || d.Supersedes || d.Reason != state.Repeat {
			t.Errorf("%v: decision %+v", s, d)
		}
	}
	core.close(0, key6)
	if d := core.decide(0, state.Plain, 9, syn(t)); d.Verdict != Hold || d.Supersedes {
		t.Errorf("after the end: decision %+v, want a new flow", d)
	}
}

func TestFullTablePassesAndCountsIt(t *testing.T) {
	for _, c := range []struct {
		reason  string
		cfg     state.Config
		relayed bool
	}{
		{"half-open-full", state.Config{MaxHalfOpen: 1}, false},
		{"flows-full", state.Config{MaxFlows: 1}, true},
	} {
		core := newDriver(t, Config{Table: c.cfg, Policy: new(Policy)})
		core.decide(0, state.Plain, 7, syn(t))
		if c.relayed {
			core.pair(0, key6)
		}
		other := segment(t, client4, server4, func(tcp *layers.TCP) { tcp.SYN = true })
		if d := core.decide(0, state.Plain, 8, other); d.Verdict != Accept || d.Reason.String() != c.reason {
			t.Errorf("%s: decision %+v", c.reason, d)
		}
		if n := counted(core, c.reason); n != 1 {
			t.Errorf("%s is counted %d times", c.reason, n)
		}
		// What needs no room keeps its own reason, and a repeat its flow.
		joining := segment(t, client4, server4, func(tcp *layers.TCP) { tcp.SYN = true }, join)
		if d := core.decide(0, state.Plain, 9, joining); d.Reason != state.MPJoin {
			t.Errorf("%s: a join is passed because of %q", c.reason, d.Reason)
		}
		if d := core.decide(0, state.Plain, 10, syn(t)); d.Reason != state.Repeat {
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
			core := newCore(t, state.Relay)
			core.decide(0, state.Plain, 7, syn(t))
			core.Tick(nil, 2*time.Second) // patience is over
			id := core.id(key6)
			d, ok := core.dialed(2*time.Second, key6, c.err)
			if slices.Contains(core.kinds(), Connect) { // MPTCP, or the client's port, may have been the cause
				id = core.id(key6)
				d, ok = core.dialed(2*time.Second, key6, c.err)
			}
			want := Decision{
				Packet: Packet{ID: 7}, Verdict: c.verdict, Reason: reasonNamed(c.reason), Key: key6, Settles: true, Held: 2 * time.Second, Reuses: c.verdict == Accept,
			}
			if !ok || !reflect.DeepEqual(d, want) {
				t.Errorf("decision %+v, %v, want %v because of %q", d, ok, c.verdict, c.reason)
			}
			f, _ := core.Flow(key6)
			if f.State != c.state || f.Reason != reasonNamed(c.reason) || f.Held != 7 || f.Changed != 2*time.Second {
				t.Errorf("flow %+v, want it %v", f, c.state)
			}
			core.acts = core.DialEnded(core.acts[:0], 2*time.Second, id, Dialed{Err: c.err})
			if d, ok := core.decision(); ok {
				t.Errorf("a second outcome is decided on: %+v", d)
			}
		})
	}
	if len(outcomes) != 13 {
		t.Errorf("%d outcomes are in the table, and 13 in this test", len(outcomes))
	}
}

func TestOutcomeThatComesTooLateFindsNoSYN(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t))
	id := core.id(key6)
	core.acts = core.Tick(core.acts[:0], time.Hour)
	if d, ok := core.decision(); !ok || d.Packet.ID != 7 || d.Verdict != Drop || d.Reason != state.NoAnswer {
		t.Fatalf("after the timeout: %+v", core.acts)
	}
	core.acts = core.DialEnded(core.acts[:0], time.Hour, id, Dialed{})
	if !slices.Equal(core.kinds(), []Kind{Abort}) {
		t.Errorf("connected too late: %+v, want the leg aborted", core.acts)
	}
	core.acts = core.DialEnded(core.acts[:0], time.Hour, id, Dialed{Err: unix.ECONNREFUSED})
	if len(core.acts) != 0 {
		t.Errorf("refused too late: %+v", core.acts)
	}
}

func TestEveryVerdictHasAName(t *testing.T) {
	seen := make(map[string]bool)
	for v := Accept; v <= Prohibited; v++ {
		if v.String() == "" || seen[v.String()] {
			t.Errorf("verdict %d is named %q", v, v)
		}
		seen[v.String()] = true
	}
}

// reasonNamed returns the reason with that name.
func reasonNamed(name string) state.Reason {
	for r := state.None; r < state.NumReasons; r++ {
		if r.String() == name {
			return r
		}
	}
	panic("no reason is named " + name)
}

// counted returns how often a reason was given.
func counted(d *driver, name string) uint64 { return d.Totals().Reasons[reasonNamed(name)] }

func TestRepeatedSYNCostsNoAllocation(t *testing.T) {
	core := newCore(t, state.Relay)
	packet := syn(t, mss)
	acts := core.Packet(nil, 0, Packet{ID: 1, Data: packet})
	if n := testing.AllocsPerRun(100, func() { acts = core.Packet(acts[:0], 0, Packet{ID: 2, Data: packet}) }); n != 0 {
		t.Errorf("a repeated SYN costs %v allocations", n)
	}
}
