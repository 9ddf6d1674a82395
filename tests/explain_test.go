//go:build linux

package tests

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// explain asks a box what it would do with a SYN.
func explain(t *testing.T, b *netlab.Box, q api.ExplainQuery) api.Explanation {
	t.Helper()
	answer, err := api.Client{Socket: b.Control}.Get(within(t, 5*time.Second), q.Request())
	if err != nil {
		t.Fatal(err)
	}
	var e api.Explanation
	if err := json.Unmarshal(answer, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// text joins the steps of an explanation.
func text(e api.Explanation) string {
	var lines []string
	for _, s := range e.Steps {
		lines = append(lines, s.Step+": "+s.Detail)
	}
	return strings.Join(lines, "\n")
}

// A box does what it says that it would do, to a connection on whatever way, and saying it
// begins no flow.
func TestBoxDoesWhatItExplains(t *testing.T) {
	t.Parallel()
	p := start(t, netlabtest.Build(t, twoLines), "--config", configFile(t, "[[rule]]\nname = \"odd\"\nports = [\"7\"]\naction = \"pass\"\n"))
	for _, f := range families {
		relayed := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "relayed")
		passed := greet(t, p.Server, netip.AddrPortFrom(f.server, 7), "passed")
		client := netip.AddrPortFrom(f.client, 0)
		for _, c := range []struct {
			name    string
			to      netip.AddrPort
			box     *netlab.Box
			verdict string
			want    []string
		}{
			{"relayed by the CPE", relayed, p.cpe, "hold", []string{
				"route: in by lan, out by dsl", "hook: taken from the plain side", "paths: HAG up; path dsl up, normal", "policy: relay, by the default action",
				"dial: new flows are dialed from the client's address", "limits: 0 of ", "outcome: hold the SYN, and dial with MPTCP from the client's address by dsl"}},
			{"relayed by the HAG", relayed, p.hag, "hold", []string{"hook: taken from the multipath side", "outcome: hold the SYN, and dial with TCP"}},
			{"passed by a rule", passed, p.cpe, "accept", []string{"policy: pass, by rule odd", "outcome: let the SYN pass, by rule odd"}},
		} {
			t.Run(f.name+", "+c.name, func(t *testing.T) {
				eventually(t, "the HAG is up", func() bool {
					return strings.Contains(text(explain(t, p.cpe, api.ExplainQuery{Client: client, Server: relayed})), "HAG up")
				})
				before := len(dump(t, c.box).Flows)
				e := explain(t, c.box, api.ExplainQuery{Client: client, Server: c.to})
				if !e.Taken || e.Verdict != c.verdict {
					t.Errorf("%+v", e)
				}
				for _, want := range c.want {
					if !strings.Contains(text(e), want) {
						t.Errorf("it does not say %q:\n%s", want, text(e))
					}
				}
				if after := len(dump(t, c.box).Flows); after != before {
					t.Errorf("%d flows have become %d", before, after)
				}
				greeting(t, p.Client, c.to)
				if f, ok := flowTo(t, c.box, c.to); !ok || f.Action != e.Action || f.Rule != e.Rule || f.Side != e.Side {
					t.Errorf("explained %+v\nwas %+v", e, f)
				}
			})
		}
	}
}

// What the box would not see it says as well.
func TestBoxExplainsWhatItDoesNotSee(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "what a box says of connections that it does not see", "ip", "sh")
	p := start(t, netlabtest.Build(t, twoLines))
	for _, f := range families {
		client, server := netip.AddrPortFrom(f.client, 0), netip.AddrPortFrom(f.server, 443)
		to := func(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), 443) }
		nowhere, family := "198.18.0.1", "ip"
		if f.client.Is6() {
			nowhere, family = "fd99:9::1", "ip -6"
		}
		admin(t, p.CPE, fmt.Sprintf("%s route add prohibit %s", family, nowhere))
		for _, c := range []struct {
			name string
			q    api.ExplainQuery
			want string
		}{
			{"a prohibited destination", api.ExplainQuery{Client: client, Server: to(nowhere)}, "outcome: the box does not see the SYN: this machine does not forward it"},
			{"another interface", api.ExplainQuery{Client: client, Server: server, In: "lo"}, "outcome: the box does not see the SYN"},
			{"back to the client's side", api.ExplainQuery{Client: server, Server: netip.AddrPortFrom(f.client, 80)}, "hook: taken from the multipath side"},
			{"among hosts of one side", api.ExplainQuery{Client: client, Server: netip.AddrPortFrom(f.client.Next(), 443)}, "hook: not taken: lan is on the plain side, lan is on the plain side"},
		} {
			e := explain(t, p.cpe, c.q)
			if !strings.Contains(text(e), c.want) || e.Taken != strings.Contains(c.want, "hook: taken") {
				t.Errorf("%s, %s: want %q:\n%s", f.name, c.name, c.want, text(e))
			}
		}
	}
}
