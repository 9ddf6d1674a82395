package core

import (
	"net/netip"
	"testing"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

func TestPolicyTakesTheFirstRuleThatMatches(t *testing.T) {
	yes, plain := true, state.Plain
	policy := &Policy{
		Default: state.Relay,
		Rules: []Rule{
			{Name: "guests", From: []netip.Prefix{netip.MustParsePrefix("2001:db8:9::/48")}, Action: state.Pass},
			{Name: "mail", Ports: []PortRange{{25, 25}, {993, 995}}, Action: state.Reject},
			{Name: "bank", To: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}, Side: &plain, Action: state.Pass},
			{Name: "phones", Capable: &yes, Side: &plain, Action: state.Reject},
			{Name: "again", From: []netip.Prefix{netip.MustParsePrefix("2001:db8:9::/48")}, Action: state.Reject},
		},
	}
	none, capable, join := rewrite.MPTCP{}, rewrite.MPTCP{Capable: true}, rewrite.MPTCP{Join: true}
	cases := []struct {
		name           string
		side           state.Side
		client, server string
		syn            rewrite.MPTCP
		want           state.Action
		reason         string
	}{
		{"no rule matches: the default", state.Plain, "[2001:db8::1]:1", "[2001:db8:2::1]:80", none, state.Relay, ""},
		{"a source prefix", state.Plain, "[2001:db8:9::1]:1", "[2001:db8:2::1]:80", none, state.Pass, "guests"},
		{"the first of two rules", state.Plain, "[2001:db8:9::1]:1", "[2001:db8:2::1]:25", none, state.Pass, "guests"},
		{"a single port", state.Plain, "[2001:db8::1]:1", "[2001:db8:2::1]:25", none, state.Reject, "mail"},
		{"the last port of a range", state.Plain, "[2001:db8::1]:1", "[2001:db8:2::1]:995", none, state.Reject, "mail"},
		{"a port beyond a range", state.Plain, "[2001:db8::1]:1", "[2001:db8:2::1]:996", none, state.Relay, ""},
		{"a destination of IPv4", state.Plain, "198.51.100.1:1", "203.0.113.9:80", none, state.Pass, "bank"},
		{"the other side", state.Multipath, "198.51.100.1:1", "203.0.113.9:80", capable, state.Relay, ""},
		{"what a host bonds itself", state.Plain, "[2001:db8::1]:1", "[2001:db8:2::1]:80", capable, state.Reject, "phones"},
		{"a plain SYN of the other box", state.Multipath, "[2001:db8::1]:1", "[2001:db8:2::1]:80", none, state.Pass, "plain-tcp"},
		{"a rule for a plain SYN of the other box", state.Multipath, "[2001:db8::1]:1", "[2001:db8:2::1]:25", none, state.Reject, "mail"},
		{"a join belongs to its ends, whatever the rules", state.Plain, "[2001:db8::1]:1", "[2001:db8:2::1]:25", join, state.Pass, "mp-join"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			seg := rewrite.Segment{Src: netip.MustParseAddrPort(c.client), Dst: netip.MustParseAddrPort(c.server)}
			if got := policy.Choose(c.side, &seg, c.syn); got.Action != c.want || why(got) != c.reason {
				t.Errorf("%v because of %q, want %v because of %q", got.Action, why(got), c.want, c.reason)
			}
		})
	}
}

func TestRuleToRelayLeavesWhatCannotBeRelayed(t *testing.T) {
	policy := &Policy{Rules: []Rule{{Name: "all", Action: state.Relay}}, Default: state.Pass}
	seg := rewrite.Segment{Src: netip.MustParseAddrPort("[2001:db8::1]:1"), Dst: netip.MustParseAddrPort("[2001:db8::2]:2")}
	for _, c := range []struct {
		side    state.Side
		capable bool
		want    state.Action
		reason  string
	}{
		{state.Plain, false, state.Relay, "all"},
		{state.Plain, true, state.Pass, "end-to-end"},
		{state.Multipath, true, state.Relay, "all"},
		{state.Multipath, false, state.Pass, "plain-tcp"},
	} {
		got := policy.Choose(c.side, &seg, rewrite.MPTCP{Capable: c.capable})
		if got.Action != c.want || why(got) != c.reason {
			t.Errorf("from the %v side, MP_CAPABLE %v: %v because of %q, want %v because of %q", c.side, c.capable, got.Action, why(got), c.want, c.reason)
		}
	}
}

// why returns the reason of a choice, or else its rule.
func why(c Choice) string {
	d := Decision{Reason: c.Reason, Rule: c.Rule}
	return d.Why()
}
