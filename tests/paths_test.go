//go:build linux

package tests

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// pathsOf returns the paths that a box reports.
func pathsOf(t *testing.T, b *netlab.Box) *api.Paths {
	t.Helper()
	p, err := b.Paths(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pathOf returns one of the paths that a CPE reports.
func pathOf(t *testing.T, cpe *netlab.Box, name string) *api.PathState {
	t.Helper()
	all := pathsOf(t, cpe).Paths
	i := slices.IndexFunc(all, func(p api.Path) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("no path %s in %+v", name, all)
	}
	return all[i].PathState
}

// sees waits until a path that a CPE reports fulfils ok.
func sees(t *testing.T, cpe *netlab.Box, name, what string, ok func(p *api.PathState) bool) {
	t.Helper()
	var p *api.PathState
	eventually(t, name+" "+what, func() bool {
		p = pathOf(t, cpe, name)
		return ok(p)
	})
	if t.Failed() {
		t.Logf("%s is %+v", name, p)
	}
}

func isUp(p *api.PathState) bool   { return p.State == "up" && p.Probed }
func isDown(p *api.PathState) bool { return p.State == "down" }

// has reports whether a path has n subflows.
func has(n int) func(*api.PathState) bool {
	return func(p *api.PathState) bool { return p.Subflows == n }
}

// chatter opens a connection to an echo server.
func chatter(t *testing.T, n *netlab.Network, f family) net.Conn {
	t.Helper()
	l := listenAt(t, n.Server, f.server)
	serve(l, echo)
	c := dial(t, n.Client, addrOf(l))
	chat(t, c, "hello")
	return c
}

// TestConnectionsOutliveEveryLine makes one line after the other fail, by its carrier
// and by silence, under connections that send all the time.
func TestConnectionsOutliveEveryLine(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	for _, name := range []string{"dsl", "lte"} {
		sees(t, p.cpe, name, "is up", isUp)
	}
	conns := []net.Conn{chatter(t, p.Network, families[0]), chatter(t, p.Network, families[1])}
	talk := func() {
		t.Helper()
		for _, c := range conns {
			chat(t, c, strings.Repeat("still there? ", 10_000))
		}
	}
	for _, name := range []string{"dsl", "lte"} {
		line := p.Line(name)
		for _, way := range []struct {
			name, reason string
			set          func(failed bool) error
		}{
			{"loses its carrier", "no carrier", func(failed bool) error { return line.Carrier(!failed) }},
			{"is silent", "silent", line.Down},
		} {
			t.Run(name+" "+way.name, func(t *testing.T) {
				sees(t, p.cpe, name, "has its subflows", has(len(conns)))
				talk()
				if err := way.set(true); err != nil {
					t.Fatal(err)
				}
				talk()
				// The kernel may tell of a carrier a second late (linkwatch_event): silence
				// is noticed sooner.
				sees(t, p.cpe, name, "is down: "+way.reason, func(s *api.PathState) bool { return isDown(s) && s.Reason == way.reason })
				sees(t, p.cpe, name, "has lost its subflows", has(0))
				talk()
				if err := way.set(false); err != nil {
					t.Fatal(err)
				}
				talk()
			})
		}
	}
	for _, name := range []string{"dsl", "lte"} {
		sees(t, p.cpe, name, "has its subflows again", has(len(conns)))
	}
}

func TestNewFlowsWhileTheFirstPathIsDown(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	for _, c := range []struct{ does, action, from string }{
		{"pass", "pass", ""}, {"own-source", "relay", "lte"},
	} {
		t.Run(c.does, func(t *testing.T) {
			p := start(t, n, "--first-path-down", c.does)
			sees(t, p.cpe, "lte", "is up", isUp)
			if err := n.Line("dsl").Carrier(false); err != nil {
				t.Fatal(err)
			}
			sees(t, p.cpe, "dsl", "is down", isDown)
			for i, f := range families {
				l := listenAt(t, n.Server, f.server)
				serve(l, echo)
				// What passes finds a way as the machines' routing allows: not to the client here.
				ctx := within(t, 5*time.Second)
				go func() {
					if c, err := n.Client.Dial(ctx, "tcp", "", l.Addr().String()); err == nil {
						c.Close()
					}
				}()
				var flow api.Flow
				eventually(t, f.name+": the flow", func() (ok bool) {
					flow, ok = flowTo(t, p.cpe, addrOf(l))
					return ok && flow.State != "dialing" && flow.State != "released"
				})
				if flow.Action != c.action {
					t.Errorf("%s: the CPE did %s, want %s", f.name, flow.Action, c.action)
				}
				lte := []netip.Addr{n.Line("lte").CPE6, n.Line("lte").CPE4}[i]
				if relayed := flow.DialedFrom.Addr() == lte; relayed != (c.from != "") {
					t.Errorf("%s: dialed from %s", f.name, flow.DialedFrom)
				}
				if got := dump(t, p.cpe).Totals.Reasons["first-path-down"]; got < uint64(i+1) {
					t.Errorf("%s: %d flows say why", f.name, got)
				}
			}
			if err := n.Line("dsl").Carrier(true); err != nil {
				t.Fatal(err)
			}
			sees(t, p.cpe, "dsl", "is up", isUp)
			conn := chatter(t, n, families[0])
			if f, _ := flowFrom(t, p.cpe, conn); f.Action != "relay" || f.Reason != "" || f.DialedFrom.IsValid() {
				t.Errorf("afterwards a flow is %+v", f)
			}
			p.down(t)
		})
	}
}

func TestSubflowEndedByThePeerIsOpenedAgain(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	c := chatter(t, p.Network, families[1])
	sees(t, p.cpe, "lte", "has its subflow", has(1))
	flow, _ := flowFrom(t, p.cpe, c)
	i := slices.IndexFunc(flow.Subflows, func(s api.Subflow) bool { return s.Path == "lte" })
	if i < 0 {
		t.Fatalf("no subflow on lte: %+v", flow.Subflows)
	}
	before := flow.Subflows[i]
	err := p.HAG.Do(func() error {
		return netlink.SocketDestroy(net.TCPAddrFromAddrPort(before.Remote), net.TCPAddrFromAddrPort(before.Local))
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "another subflow", func() bool {
		flow, _ := flowFrom(t, p.cpe, c)
		return slices.ContainsFunc(flow.Subflows, func(s api.Subflow) bool { return s.Path == "lte" && s.Local != before.Local })
	})
	chat(t, c, "hello again")
}

func TestPathsAreShownByBothBoxesAndAsMetrics(t *testing.T) {
	const metrics = "127.0.0.1:9100"
	p := configured(t, netlabtest.Build(t, twoLines), `quota = "1GB"`, "", "--metrics", metrics, "--state-dir", scratch(t))
	chatter(t, p.Network, families[0])
	for _, name := range []string{"dsl", "lte"} {
		sees(t, p.cpe, name, "is up, with a subflow", func(p *api.PathState) bool { return isUp(p) && p.Subflows == 1 })
	}
	eventually(t, "the HAG has heard of both paths over both families", func() bool {
		peers := pathsOf(t, p.hag).Peers
		return len(peers) == 1 && len(peers[0].Paths) == 4
	})
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return p.CPE.Dial(ctx, "tcp", "", metrics)
	}, DisableKeepAlives: true}}
	resp, err := client.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	scraped, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for where, want := range map[string][]string{
		call(t, p.CPE, nil, "paths", "--control", p.cpe.Control).stdout: {"HAG is up", "dsl", "lte", "always", "normal", "of 1.0 GB"},
		call(t, p.HAG, nil, "paths", "--control", p.hag.Control).stdout: {p.Line("dsl").CPE6.String(), p.Line("lte").CPE4.String(), "up"},
		string(scraped): {
			"synbond_hag_up 1", `synbond_path_up{path="dsl"} 1`, `synbond_path_normal{path="lte"} 1`, `synbond_path_subflows{path="lte"} 1`,
			`synbond_path_rtt_seconds{path="lte"} 0.`, `synbond_path_loss_ratio{path="dsl"}`, `synbond_path_quota_bytes{path="lte"} 1e+09`,
			`synbond_path_quota_used_bytes{path="lte"}`, `synbond_path_bytes_total{direction="down",path="dsl"}`,
		},
	} {
		for _, w := range want {
			if !strings.Contains(where, w) {
				t.Errorf("%q is not in\n%s", w, where)
			}
		}
	}
}
