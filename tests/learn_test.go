//go:build linux

package tests

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// alone starts one box on a host. It ends with the test.
func alone(t *testing.T, h *netlab.Host, role string, flags ...string) *netlab.Box {
	t.Helper()
	b, err := synbond().StartBox(h, scratch(t), role, flags...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Errorf("%s ended with %v: %q", role, err, b.Log())
		}
	})
	return b
}

// serveOver runs the traffic server at an address of the server with or without MPTCP.
func serveOver(t *testing.T, n *netlab.Network, network string, at netip.Addr) netip.AddrPort {
	t.Helper()
	l := listen(t, n.Server, network, netip.AddrPortFrom(at, 0))
	go netlab.ServeTraffic(l) //nolint:errcheck // ends with the listener
	return addrOf(l)
}

// move transfers bytes both ways over one connection each, and verifies them.
func move(t *testing.T, n *netlab.Network, to netip.AddrPort) {
	t.Helper()
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		if _, err := netlab.Transfer(within(t, 20*time.Second), dialer(n, to), d, 300_000); err != nil {
			t.Error(err)
		}
	}
}

func dialer(n *netlab.Network, to netip.AddrPort) netlab.Dialer {
	return func(ctx context.Context) (net.Conn, error) { return n.Client.Dial(ctx, "tcp", "", to.String()) }
}

// TestLearningFindsServersWithMPTCP runs a CPE alone, before servers with and without
// MPTCP. The first connection offers MPTCP and is plain TCP. Later connections are
// relayed to servers with MPTCP and passed to the others.
func TestLearningFindsServersWithMPTCP(t *testing.T) {
	for _, f := range families {
		for _, c := range []struct {
			network, asked string
			first, later   map[string]int // handshakes on the first line
			reason         string
		}{
			{"mptcp", "learnt-mptcp", map[string]int{"capable": 1, "capable answer": 1}, map[string]int{"capable": 2, "capable answer": 2}, "fin"},
			{"tcp", "learnt-plain", map[string]int{"capable": 1, "plain answer": 1}, map[string]int{"capable": 1, "plain": 1, "plain answer": 2}, "learnt-plain"},
		} {
			t.Run(f.name+" server with "+c.network, func(t *testing.T) {
				n := netlabtest.Build(t, twoLines)
				cpe := alone(t, n.CPE, "cpe", "--plain", netlab.CPELanInterface, "--path", "dsl", "--action", "learn")
				seen := tap(t, n)
				server := serveOver(t, n, c.network, f.server)
				once := func(reason string, wire map[string]int) {
					t.Helper()
					if _, err := netlab.Transfer(within(t, 20*time.Second), dialer(n, server), netlab.Down, 3_000_000); err != nil {
						t.Fatal(err)
					}
					eventually(t, "a flow because of "+reason, func() bool {
						flow, ok := flowTo(t, cpe, server)
						return ok && flow.Reason == reason
					})
					if got := kinds(t, seen.first); !maps.Equal(got, wire) {
						t.Errorf("on the line: %v, want %v", got, wire)
					}
				}
				once(c.asked, c.first)
				once(c.reason, c.later)
				if got, want := kinds(t, seen.client), map[string]int{"plain": 2, "plain answer": 2}; !maps.Equal(got, want) {
					t.Errorf("at the client: %v, want %v", got, want)
				}
				d := dump(t, cpe)
				if len(d.Learnt) != 1 || !d.Learnt[0].Prefix.Contains(f.server) || d.Learnt[0].MPTCP != (c.network == "mptcp") {
					t.Errorf("learnt: %+v", d.Learnt)
				}
				move(t, n, server)
			})
		}
	}
}

// TestHAGThatStripsStopsBondingOnly runs a HAG that strips MPTCP from all connections
// of a CPE.
func TestHAGThatStripsStopsBondingOnly(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	joins := []string{"--join", netip.AddrPortFrom(n.Lines[1].HAG6, 9000).String()}
	hag := alone(t, n.HAG, "hag", append(joins, "--plain", netlab.HAGWanInterface, "--path", "dsl", "--path", "lte", "--action", "strip")...)
	cpe := alone(t, n.CPE, "cpe", "--plain", netlab.CPELanInterface, "--path", "dsl", "--path", "lte,join="+joins[1])
	seen := tap(t, n)
	for _, f := range families {
		server := serveOver(t, n, "tcp", f.server)
		move(t, n, server)
		if flow, ok := flowTo(t, hag, server); !ok || flow.Action != "strip" || flow.State != "passed" {
			t.Errorf("%s: the HAG has %+v", f.name, flow)
		}
		eventually(t, "the CPE relays without MPTCP", func() bool {
			flow, ok := flowTo(t, cpe, server)
			return ok && flow.Action == "relay" && flow.Reason == "fin" && !flow.MPTCP
		})
	}
	if got, want := kinds(t, seen.first), map[string]int{"capable": 4, "plain answer": 4}; !maps.Equal(got, want) {
		t.Errorf("on the line: %v, want %v", got, want)
	}
	if got, want := kinds(t, seen.server), map[string]int{"plain": 4, "plain answer": 4}; !maps.Equal(got, want) {
		t.Errorf("at the server: %v, want %v", got, want)
	}
}

// TestFullHAGStripsAndBreaksNothing opens more connections than a HAG's limit.
func TestFullHAGStripsAndBreaksNothing(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	file := configFile(t, "[limits]\nflows = 2\n")
	hag := alone(t, n.HAG, "hag", "--config", file, "--plain", netlab.HAGWanInterface, "--path", "dsl", "--path", "lte",
		"--join", netip.AddrPortFrom(n.Lines[1].HAG6, 9000).String())
	alone(t, n.CPE, "cpe", "--plain", netlab.CPELanInterface, "--path", "dsl", "--path", "lte")
	l := listenAt(t, n.Server, netlab.Server6)
	serve(l, echo)
	for range 10 {
		c := dial(t, n.Client, addrOf(l)) // stays open
		chat(t, c, "hello")
	}
	d := dump(t, hag)
	if d.Totals.Reasons["flows-full"] != 8 || d.Totals.Live["relaying"] != 2 {
		t.Errorf("%d are stripped, %d relayed, want 8 and 2", d.Totals.Reasons["flows-full"], d.Totals.Live["relaying"])
	}
}
