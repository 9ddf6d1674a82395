//go:build linux

package tests

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// Where a box's machine stops relayed connections, connections pass as without boxes, and the
// box says why.

// patience is the limit for a connection whose client repeats its SYN once.
const patience = 5 * time.Second

// wantStopped has a host do something that stops relayed connections, and then undo it.
// Meanwhile connections work, and the box says so; slowly reports whether the first of each
// address family may wait for its client's second SYN.
func (p *pair) wantStopped(t *testing.T, role, id, reason string, slowly bool, do, undo []string) {
	t.Helper()
	h := p.routers()[role]
	b := map[string]*netlab.Box{"CPE": p.cpe, "HAG": p.hag}[role]
	admin(t, h, do...)
	passes := func(f family) bool {
		to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
		word := greetingWithin(t, p.Client, to, patience)
		flow, _ := flowTo(t, b, to)
		return word == "hello" && flow.Reason == reason
	}
	if !slowly {
		for _, f := range families {
			eventually(t, role+" has the finding act on "+f.name, func() bool { return passes(f) })
		}
	}
	for range 3 {
		for _, f := range families {
			to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
			if got := greetingWithin(t, p.Client, to, patience); got != "hello" {
				t.Errorf("%s: %q", f.name, got)
			}
			if flow, _ := flowTo(t, b, to); flow.Reason != reason {
				t.Errorf("%s has the flow %+v, want the reason %s", role, flow, reason)
			}
		}
	}
	eventually(t, role+" finds "+id, func() bool { return slices.Contains(findings(t, b), id) })
	admin(t, h, undo...)
}

// only returns those of the IDs that are like one.
func only(ids []string, id string) []string {
	return slices.DeleteFunc(ids, func(other string) bool { return other != id })
}

func TestConnectionsPassWhereOthersUseTheBoxsMarks(t *testing.T) {
	p := neighbours(t)
	for role := range p.routers() {
		t.Run(role, func(t *testing.T) {
			p.wantStopped(t, role, "mark-taken", "filtered", false,
				[]string{"ip rule add pref 50 fwmark 0x1/0x1 unreachable", "ip -6 rule add pref 50 fwmark 0x80/0x80 unreachable"},
				[]string{"ip rule del pref 50", "ip -6 rule del pref 50"})
			for _, b := range []*netlab.Box{p.cpe, p.hag} {
				eventually(t, b.Role+" finds it no longer", func() bool { return len(only(findings(t, b), "mark-taken")) == 0 })
			}
			for _, f := range families {
				p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
			}
		})
	}
}

func TestConnectionsPassWhereRoutingRefusesTheBoxsDials(t *testing.T) {
	p := neighbours(t)
	for role := range p.routers() {
		t.Run(role, func(t *testing.T) {
			p.wantStopped(t, role, "dials-refused", "dial-failed", true,
				[]string{"ip rule add pref 50 iif lo ipproto tcp prohibit", "ip -6 rule add pref 50 iif lo ipproto tcp prohibit"},
				[]string{"ip rule del pref 50", "ip -6 rule del pref 50"})
			for _, f := range families {
				p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
			}
		})
	}
}

// TestConnectionsPassWhereHandshakesAreLost has a router lose the SYNs that the box loops, by a
// rule with a match that no check evaluates.
func TestConnectionsPassWhereHandshakesAreLost(t *testing.T) {
	p := neighbours(t)
	p.wantStopped(t, "CPE", "not-delivered", "not-delivered", true,
		[]string{"nft 'table inet lost { chain c { type filter hook prerouting priority -300; iif lo meta length 1-65535 meta l4proto tcp drop; }; }'"},
		[]string{"nft delete table inet lost"})
	eventually(t, "handshakes are completed again", func() bool {
		to := greet(t, p.Server, netip.AddrPortFrom(netlab.Server6, 0), "hello")
		word := greetingWithin(t, p.Client, to, patience)
		flow, _ := flowTo(t, p.cpe, to)
		return word == "hello" && flow.MPTCP
	})
}
