package box

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/state"
)

func TestOutlookFollowsTheHAGAndTheFirstPath(t *testing.T) {
	a6, a4 := netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("192.0.2.7")
	up := paths.Status{Up: true, Addr6: a6, Addr4: a4}
	only4 := paths.Status{Up: true, Addr4: a4}
	only6 := paths.Status{Up: true, Addr6: a6}
	down := paths.Status{Addr6: a6, Addr4: a4}
	const no, backup, normal = paths.Closed, paths.Backup, paths.Normal
	for _, c := range []struct {
		name string
		hag  paths.HAGState
		down Leg // what to do while the first path is down
		all  []paths.Status
		uses []paths.Use
		want Outlook
	}{
		{"all is well", paths.HAGUp, NoLeg, []paths.Status{up, up}, []paths.Use{normal, normal}, Outlook{}},
		{"a HAG that was never heard of may be there", paths.HAGUnknown, NoLeg, []paths.Status{up, up}, []paths.Use{normal, normal}, Outlook{}},
		{"another path than the first is down", paths.HAGUp, OwnSource, []paths.Status{up, down}, []paths.Use{normal, no}, Outlook{Down: []string{"b"}}},
		{"the HAG is down", paths.HAGDown, OwnSource, []paths.Status{up, up}, []paths.Use{normal, normal}, Outlook{Leg: NoLeg, Reason: "hag-down"}},
		{"the first path is down", paths.HAGUp, NoLeg, []paths.Status{down, up}, []paths.Use{no, normal}, Outlook{Leg: NoLeg, Reason: "first-path-down", Down: []string{""}}},
		{
			"another takes its place", paths.HAGUp, OwnSource, []paths.Status{down, up, up}, []paths.Use{no, normal, normal},
			Outlook{OwnSource, "first-path-down", [2]Source{{a6, "b"}, {a4, "b"}}, []string{""}},
		},
		{
			"rather than a backup", paths.HAGUp, OwnSource, []paths.Status{down, up, up}, []paths.Use{no, backup, normal},
			Outlook{OwnSource, "first-path-down", [2]Source{{a6, "c"}, {a4, "c"}}, []string{""}},
		},
		{
			"each family by itself", paths.HAGUp, OwnSource, []paths.Status{down, only4, only6}, []paths.Use{no, normal, normal},
			Outlook{OwnSource, "first-path-down", [2]Source{{a6, "c"}, {a4, "b"}}, []string{""}},
		},
		{
			"none is left", paths.HAGUnknown, OwnSource, []paths.Status{down, down}, []paths.Use{no, no},
			Outlook{Leg: OwnSource, Reason: "first-path-down", Down: []string{"", "b"}},
		},
		{
			"the HAG is silent on all", paths.HAGDown, OwnSource, []paths.Status{down, down}, []paths.Use{no, no},
			Outlook{Leg: NoLeg, Reason: "hag-down", Down: []string{"", "b"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{FirstPathDown: c.down, Paths: []paths.Path{{Interface: "a"}, {Interface: "b"}, {Interface: "c"}}}
			got := cfg.outlook(c.hag, c.all, c.uses)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			for _, from := range got.From {
				if from.Addr.IsValid() && slices.Contains(got.Down, from.Interface) {
					t.Errorf("%+v is offered, and down", from)
				}
			}
		})
	}
}

func TestOutlookChangesOnlyWhatWouldBeRelayedOnward(t *testing.T) {
	own := Source{netip.MustParseAddr("2001:db8::7"), "lte"}
	pass := Outlook{Leg: NoLeg, Reason: "hag-down"}
	ownSource := Outlook{Leg: OwnSource, Reason: "first-path-down", From: [2]Source{own, {}}}
	syn4 := segment(t, client4, server4, func(h *layers.TCP) { h.SYN = true }, mss)
	for _, c := range []struct {
		name    string
		outlook Outlook
		side    state.Side
		action  state.Action
		packet  []byte
		verdict Verdict
		reason  string
		from    Source
	}{
		{"the HAG is down", pass, state.Plain, state.Relay, syn(t, mss), Accept, "hag-down", Source{}},
		{"by own-source", ownSource, state.Plain, state.Relay, syn(t, mss), Hold, "first-path-down", own},
		{"by own-source, but there is no address", ownSource, state.Plain, state.Relay, syn4, Accept, "first-path-down", Source{}},
		{"a host's own MPTCP", ownSource, state.Plain, state.Relay, syn(t, mss, capable), Accept, "end-to-end", Source{}},
		{"what policy passes", pass, state.Plain, state.Pass, syn(t, mss), Accept, "", Source{}},
		{"what policy rejects", pass, state.Plain, state.Reject, syn(t, mss), Prohibited, "", Source{}},
		{"what comes from the other box", pass, state.Multipath, state.Relay, syn(t, mss, capable), Hold, "", Source{}},
		{"by own-source from the other box", ownSource, state.Multipath, state.Relay, syn(t, mss, capable), Hold, "", Source{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			core := newCore(c.action)
			core.SetOutlook(c.outlook)
			d := core.Packet(0, c.side, 7, c.packet)
			if d.Verdict != c.verdict || d.Reason != c.reason || d.From != c.from {
				t.Errorf("%v because of %q, from %v; want %v because of %q, from %v", d.Verdict, d.Reason, d.From, c.verdict, c.reason, c.from)
			}
		})
	}
}

func TestHeldSYNIsDecidedOnAgainWhenItsPathFalls(t *testing.T) {
	lte := Source{netip.MustParseAddr("2001:db8::7"), "lte"}
	usb := Source{netip.MustParseAddr("2001:db8::8"), "usb"}
	by := func(from Source, down ...string) Outlook {
		return Outlook{OwnSource, "first-path-down", [2]Source{from, {}}, append(down, "")}
	}
	pass := Outlook{Leg: NoLeg, Reason: "first-path-down", Down: []string{""}}
	hagDown := Outlook{Leg: NoLeg, Reason: "hag-down"}
	for _, c := range []struct {
		name          string
		side          state.Side
		before, after Outlook
		fallen        bool // a path
		doomed        bool // the dial
		state         state.State
		verdict       Verdict
		reason        string
		from          Source
	}{
		{"the first path falls", state.Plain, Outlook{}, pass, true, true, state.Passed, Accept, "first-path-down", Source{}},
		{"another takes its place", state.Plain, Outlook{}, by(lte), true, true, state.Dialing, Hold, "first-path-down", lte},
		{"that one falls, too", state.Plain, by(lte), by(usb, "lte"), true, true, state.Dialing, Hold, "first-path-down", usb},
		{"and so does the last", state.Plain, by(usb), by(Source{}, "usb"), true, true, state.Passed, Accept, "first-path-down", Source{}},
		{"another falls", state.Plain, by(lte), by(lte, "usb"), true, false, 0, 0, "", Source{}},
		{"another is better", state.Plain, by(lte), by(usb), false, false, 0, 0, "", Source{}},
		{"the first path is back", state.Plain, by(lte), Outlook{}, false, false, 0, 0, "", Source{}},
		{"the HAG falls, its paths do not", state.Plain, Outlook{}, hagDown, false, false, 0, 0, "", Source{}},
		{"what comes from the other box", state.Multipath, Outlook{}, pass, true, false, 0, 0, "", Source{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			core := newCore(state.Relay)
			core.SetOutlook(c.before)
			packet := syn(t, mss)
			if c.side == state.Multipath {
				packet = syn(t, mss, capable)
			}
			d := core.Packet(0, c.side, 7, packet)
			if fallen := core.SetOutlook(c.after); fallen != c.fallen {
				t.Errorf("a path has fallen: %v", fallen)
			}
			if got := core.Doomed(c.side, d.From); got != c.doomed {
				t.Errorf("the dial is doomed: %v", got)
			}
			if !c.doomed {
				return
			}
			d, f, held := core.Reconsider(time.Second, c.side, key6)
			want := Decision{Verdict: c.verdict, Reason: c.reason, Key: key6, From: c.from}
			if !held || !reflect.DeepEqual(d, want) {
				t.Errorf("%+v, held: %v, want %+v", d, held, want)
			}
			if f.State != c.state || f.Held != 7 || f.Changed != time.Second {
				t.Errorf("the flow is %+v, want it %v", f, c.state)
			}
			if d.Verdict == Hold && core.Doomed(c.side, d.From) {
				t.Error("the next dial is doomed as well")
			}
		})
	}
}

func TestSYNThatIsHeldNoMoreIsNotDecidedOnAgain(t *testing.T) {
	core := newCore(state.Relay)
	if _, _, held := core.Reconsider(0, state.Plain, key6); held {
		t.Error("an unknown flow has a SYN held")
	}
	core.Packet(0, state.Plain, 7, syn(t, mss))
	core.Connected(0, key6, nil)
	core.SetOutlook(Outlook{Leg: NoLeg, Reason: "hag-down"})
	if d, _, held := core.Reconsider(0, state.Plain, key6); held {
		t.Errorf("a SYN that was delivered is %+v", d)
	}
	if f, _ := core.Table.Lookup(key6); f.State != state.Released || f.Reason != "" {
		t.Errorf("its flow is %+v", f)
	}
}

func TestRulesGrantTerms(t *testing.T) {
	terms := paths.Terms{Paths: 1, After: 1 << 20}
	core := NewCore(state.Config{}, state.LearntConfig{}, &Policy{Rules: []Rule{
		{Name: "https", Ports: []PortRange{{443, 443}}, Action: state.Relay, Terms: terms},
	}})
	if d := core.Packet(0, state.Plain, 7, syn(t, mss)); d.Terms != terms || d.Reason != "https" {
		t.Errorf("%+v because of %q, want %+v", d.Terms, d.Reason, terms)
	}
}
