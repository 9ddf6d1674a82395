//go:build linux

package tests

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/socks"
	"github.com/synbond/synbond/internal/tooltest"
)

// startHAGWithGateway starts a HAG that is a gateway, too.
func startHAGWithGateway(t *testing.T, n *netlab.Network, flags ...string) *gateway {
	t.Helper()
	all := append([]string{"--socks", n.GatewayAt(false).String(), "--socks", n.GatewayAt(true).String()}, flags...)
	b, err := n.StartHAG(synbond(), t.TempDir(), all...)
	netlabtest.Check(t, err)
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Errorf("%v; log: %s", err, strings.Join(b.Log(), "\n"))
		}
	})
	return &gateway{Network: n, Box: b, t: t}
}

// One box is the HAG of a CPE, and the gateway of everybody else. The rules of the policy that
// are about SYNs do not concern requests.
func TestHAGWithAGateway(t *testing.T) {
	n := netlabtest.TwoLines(t)
	file := filepath.Join(t.TempDir(), "hag.toml")
	netlabtest.Check(t, os.WriteFile(file, fmt.Appendf(nil, `
[gateway]
users = %q
[[rule]]
name = "no-bonding"
ports = ["7777"]
action = "strip"
[[rule]]
name = "not-for-alice"
users = ["alice"]
ports = ["6666"]
action = "reject"
`, usersFile(t)), 0o600))
	g := startHAGWithGateway(t, n, "--config", file)
	cpe, err := n.StartCPE(synbond(), t.TempDir(), nil)
	netlabtest.Check(t, err)
	defer func() { netlabtest.Check(t, cpe.Stop()) }()
	for _, f := range families {
		server := echoServer(t, n, "tcp", f.server)
		ordinary, err := n.Client.Dial(within(t, 20*time.Second), "tcp", "", server.String())
		netlabtest.Check(t, err)
		defer ordinary.Close()
		chat(t, ordinary, "relayed")
		if flow := g.flow(t, ordinary.LocalAddr().String()); flow.User != "" || !flow.MPTCP || flow.Action != "relay" {
			t.Errorf("%s: an ordinary flow: %+v", f.name, flow)
		}
		// A host of the LAN asks the gateway: the CPE bonds its connection like any other. The
		// CPE's own machine asks like a phone.
		for _, host := range []*netlab.Host{n.Client, n.CPE} {
			asked, err := netlab.SOCKS{Host: host, Network: "tcp", Gateway: g.at(f.server.Is6()), Login: alice}.Dial(within(t, 20*time.Second), server.String())
			netlabtest.Check(t, err)
			defer asked.Close()
			chat(t, asked, "asked for")
			if flow := g.flow(t, asked.LocalAddr().String()); flow.User != userName || flow.Server != server || flow.MPTCP != (host == n.Client) {
				t.Errorf("%s: asked for by %s: %+v", f.name, host.Name, flow)
			}
		}
	}
	for port, want := range map[uint16]error{7777: nil, 6666: socks.NotAllowed} {
		serve(listen(t, n.Server, "tcp", netip.AddrPortFrom(netlab.Server4, port)), echo)
		to := netip.AddrPortFrom(netlab.Server4, port).String()
		if _, err := g.ask("mptcp", g.at(false), alice, to); !errors.Is(err, want) {
			t.Errorf("asked for port %d: %v, want %v", port, err, want)
		}
		c, err := n.Client.Dial(within(t, 20*time.Second), "tcp", "", to)
		netlabtest.Check(t, err)
		defer c.Close()
		chat(t, c, "ordinary")
	}
	d, err := g.Flows(t.Context())
	netlabtest.Check(t, err)
	if d.Role != "hag" || d.Totals.Gateway == nil || d.Totals.Rules["no-bonding"] != 1 || d.Totals.Rules["not-for-alice"] != 1 {
		t.Errorf("role %s, gateway %+v, rules %v", d.Role, d.Totals.Gateway, d.Totals.Rules)
	}
	netlabtest.Check(t, g.Reload()) // reads the users' file again, too
	c, err := g.ask("mptcp", g.at(true), alice, netip.AddrPortFrom(netlab.Server4, 7777).String())
	netlabtest.Check(t, err)
	chat(t, c, "after a reload")
}

// A phone bonds its radios at a HAG that is a gateway: it joins at the join address that the
// HAG announces, as the HAG's kernel takes no joins elsewhere.
func TestPhoneBondsItsRadiosThroughAHAG(t *testing.T) {
	tooltest.Need(t, "a phone's endpoints", "ip")
	n := netlabtest.TwoLines(t)
	g := startHAGWithGateway(t, n, "--users", usersFile(t))
	netlabtest.Check(t, n.BePhone())
	netlabtest.Check(t, n.SwitchRadio(n.Lines[1], true))
	server := echoServer(t, n, "tcp", netlab.Server4)
	for _, is6 := range []bool{false, true} {
		c, err := g.ask("mptcp", g.at(is6), alice, server.String())
		netlabtest.Check(t, err)
		chat(t, c, "hello")
		eventually(t, "a further subflow", func() bool {
			chat(t, c, "more")
			all := g.flow(t, c.LocalAddr().String()).Subflows
			return slices.ContainsFunc(all, func(s api.Subflow) bool { return s.Local.Port() == netlab.JoinPort })
		})
		netlabtest.Check(t, c.(*net.TCPConn).Close())
	}
}
