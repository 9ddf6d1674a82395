package core

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/state"
)

// Sources on the second and third path.
var (
	lte = Source{1, netip.MustParseAddr("2001:db8::7"), "lte"}
	usb = Source{2, netip.MustParseAddr("2001:db8::8"), "usb"}
)

// Sets of paths that are down.
const (
	firstDown PathSet = 1 << iota
	lteDown
	usbDown
)

func TestDialPolicyAppliesOnlyToFlowsRelayedOnward(t *testing.T) {
	pass := DialPolicy{Mode: NoBox, Reason: state.HAGDown}
	ownSource := DialPolicy{Mode: OwnSource, Reason: state.FirstPathDown, Sources: [2]Source{lte, {}}}
	syn4 := segment(t, client4, server4, func(h *layers.TCP) { h.SYN = true }, mss)
	for _, c := range []struct {
		name    string
		policy  DialPolicy
		side    state.Side
		action  state.Action
		packet  []byte
		verdict Verdict
		reason  state.Reason
		from    Source
	}{
		{"the HAG is down", pass, state.Plain, state.Relay, syn(t, mss), Accept, state.HAGDown, Source{}},
		{"by own-source", ownSource, state.Plain, state.Relay, syn(t, mss), Hold, state.FirstPathDown, lte},
		{"by own-source, but there is no address", ownSource, state.Plain, state.Relay, syn4, Accept, state.FirstPathDown, Source{}},
		{"a host's own MPTCP", ownSource, state.Plain, state.Relay, syn(t, mss, capable), Accept, state.EndToEnd, Source{}},
		{"policy passes the SYN", pass, state.Plain, state.Pass, syn(t, mss), Accept, state.None, Source{}},
		{"policy rejects the SYN", pass, state.Plain, state.Reject, syn(t, mss), Prohibited, state.None, Source{}},
		{"a SYN of the other box", pass, state.Multipath, state.Relay, syn(t, mss, capable), Hold, state.None, Source{}},
		{"by own-source from the other box", ownSource, state.Multipath, state.Relay, syn(t, mss, capable), Hold, state.None, Source{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			core := newCore(t, c.action)
			core.SetDialPolicy(nil, 0, c.policy)
			d := core.decide(0, c.side, 7, c.packet)
			if d.Verdict != c.verdict || d.Reason != c.reason {
				t.Errorf("%v because of %q, want %v because of %q", d.Verdict, d.Reason, c.verdict, c.reason)
			}
			if from := core.acts[len(core.acts)-1].Dial.From; from != c.from {
				t.Errorf("dial from %v, want %v", from, c.from)
			}
		})
	}
}

func TestHeldSYNIsDecidedOnAgainWhenItsPathFalls(t *testing.T) {
	by := func(from Source, down PathSet) DialPolicy {
		return DialPolicy{Mode: OwnSource, Reason: state.FirstPathDown, Sources: [2]Source{from, {}}, Down: down | firstDown}
	}
	pass := DialPolicy{Mode: NoBox, Reason: state.FirstPathDown, Down: firstDown}
	hagDown := DialPolicy{Mode: NoBox, Reason: state.HAGDown}
	again := []Kind{Abort, Connect}
	released := []Kind{Abort, Decide}
	for _, c := range []struct {
		name          string
		side          state.Side
		before, after DialPolicy
		want          []Kind
		state         state.State
		from          Source
	}{
		{"the first path falls", state.Plain, DialPolicy{}, pass, released, state.Passed, Source{}},
		{"another takes its place", state.Plain, DialPolicy{}, by(lte, 0), again, state.Dialing, lte},
		{"that one falls, too", state.Plain, by(lte, 0), by(usb, lteDown), again, state.Dialing, usb},
		{"and so does the last", state.Plain, by(usb, 0), by(Source{}, usbDown), released, state.Passed, Source{}},
		{"another falls", state.Plain, by(lte, 0), by(lte, usbDown), nil, state.Dialing, Source{}},
		{"another is better", state.Plain, by(lte, 0), by(usb, 0), nil, state.Dialing, Source{}},
		{"the first path is back", state.Plain, by(lte, 0), DialPolicy{}, nil, state.Dialing, Source{}},
		{"the HAG falls, its paths do not", state.Plain, DialPolicy{}, hagDown, nil, state.Dialing, Source{}},
		{"the dial is for the other box", state.Multipath, DialPolicy{}, pass, nil, state.Dialing, Source{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			core := newCore(t, state.Relay)
			core.SetDialPolicy(nil, 0, c.before)
			packet := syn(t, mss)
			if c.side == state.Multipath {
				packet = syn(t, mss, capable)
			}
			core.decide(0, c.side, 7, packet)
			first := core.id(key6)
			core.acts = core.SetDialPolicy(core.acts[:0], time.Second, c.after)
			if !slices.Equal(core.kinds(), c.want) {
				t.Fatalf("actions %+v, want %v", core.acts, c.want)
			}
			f, _ := core.Flow(key6)
			if f.State != c.state || f.Held != 7 {
				t.Errorf("the flow is %+v, want it %v", f, c.state)
			}
			if len(core.acts) == 0 {
				return
			}
			if core.acts[0].Flow != first {
				t.Errorf("flow %x is aborted, want %x", core.acts[0].Flow, first)
			}
			switch a := core.acts[1]; a.Kind {
			case Connect:
				if a.Flow != f.ID || a.Flow == first || a.Dial.From != c.from || c.after.Down.Has(a.Dial.From.Path) {
					t.Errorf("dial %+v, want it from %v", a, c.from)
				}
			case Decide:
				d := a.Decision
				if d.Verdict != Accept || d.Reason != c.after.Reason || d.Packet.ID != 7 || !d.Settles {
					t.Errorf("decision %+v", d)
				}
			}
			if d, ok := core.settleFirst(first); ok {
				t.Errorf("the outcome of the dial that was given up decides: %+v", d)
			}
		})
	}
}

// settleFirst ends a dial with success and returns the decision that it leads to, if any.
func (d *driver) settleFirst(id state.ID) (Decision, bool) {
	d.acts = d.DialEnded(d.acts[:0], time.Second, id, Dialed{MPTCP: true})
	return d.decision()
}

func TestSYNThatIsHeldNoMoreIsNotDecidedOnAgain(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t, mss))
	core.dialed(0, key6, nil)
	down := DialPolicy{Mode: NoBox, Reason: state.FirstPathDown, Down: firstDown}
	if acts := core.SetDialPolicy(nil, 0, down); len(acts) != 0 {
		t.Errorf("a SYN that was delivered leads to %+v", acts)
	}
	if f, _ := core.Flow(key6); f.State != state.Released || f.Reason != state.None {
		t.Errorf("its flow is %+v", f)
	}
}

func TestRuleGrantsSubflows(t *testing.T) {
	want := SubflowPolicy{Paths: 1, After: 1 << 20}
	core := newDriver(t, Config{Policy: &Policy{Rules: []Rule{
		{Name: "https", Ports: []PortRange{{443, 443}}, Action: state.Relay, Subflows: want},
	}}})
	if d := core.decide(0, state.Plain, 7, syn(t, mss)); d.Rule != "https" || d.Reason != state.None {
		t.Errorf("rule %q, reason %q", d.Rule, d.Reason)
	}
	core.dialed(0, key6, nil)
	if a := core.acts[0]; a.Kind != Track || a.Subflows != want {
		t.Errorf("first action %+v, want the leg tracked with %+v", a, want)
	}
	if n := core.Totals().Rules["https"]; n != 1 {
		t.Errorf("the rule is counted %d times", n)
	}
}
