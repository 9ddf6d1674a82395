package box

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/google/gopacket/layers"

	"github.com/synbond/synbond/paths"
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
		{"another path than the first is down", paths.HAGUp, OwnSource, []paths.Status{up, down}, []paths.Use{normal, no}, Outlook{}},
		{"the HAG is down", paths.HAGDown, OwnSource, []paths.Status{up, up}, []paths.Use{normal, normal}, Outlook{Leg: NoLeg, Reason: "hag-down"}},
		{"the first path is down", paths.HAGUp, NoLeg, []paths.Status{down, up}, []paths.Use{no, normal}, Outlook{Leg: NoLeg, Reason: "first-path-down"}},
		{
			"another takes its place", paths.HAGUp, OwnSource, []paths.Status{down, up, up}, []paths.Use{no, normal, normal},
			Outlook{OwnSource, "first-path-down", [2]Source{{a6, "b"}, {a4, "b"}}},
		},
		{
			"rather than a backup", paths.HAGUp, OwnSource, []paths.Status{down, up, up}, []paths.Use{no, backup, normal},
			Outlook{OwnSource, "first-path-down", [2]Source{{a6, "c"}, {a4, "c"}}},
		},
		{
			"each family by itself", paths.HAGUp, OwnSource, []paths.Status{down, only4, only6}, []paths.Use{no, normal, normal},
			Outlook{OwnSource, "first-path-down", [2]Source{{a6, "c"}, {a4, "b"}}},
		},
		{
			"none is left", paths.HAGUnknown, OwnSource, []paths.Status{down, down}, []paths.Use{no, no},
			Outlook{Leg: OwnSource, Reason: "first-path-down"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{FirstPathDown: c.down, Paths: []paths.Path{{Interface: "a"}, {Interface: "b"}, {Interface: "c"}}}
			if got := cfg.outlook(c.hag, c.all, c.uses); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

func TestOutlookChangesOnlyWhatWouldBeRelayedOnward(t *testing.T) {
	own := Source{netip.MustParseAddr("2001:db8::7"), "lte"}
	pass := Outlook{Leg: NoLeg, Reason: "hag-down"}
	ownSource := Outlook{OwnSource, "first-path-down", [2]Source{own, {}}}
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

func TestRulesGrantTerms(t *testing.T) {
	terms := paths.Terms{Paths: 1, After: 1 << 20}
	core := NewCore(state.Config{}, state.LearntConfig{}, &Policy{Rules: []Rule{
		{Name: "https", Ports: []PortRange{{443, 443}}, Action: state.Relay, Terms: terms},
	}})
	if d := core.Packet(0, state.Plain, 7, syn(t, mss)); d.Terms != terms || d.Reason != "https" {
		t.Errorf("%+v because of %q, want %+v", d.Terms, d.Reason, terms)
	}
}
