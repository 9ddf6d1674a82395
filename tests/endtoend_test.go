//go:build linux

package tests

import (
	"context"
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/rewrite"
)

// cell connects client and server by a further link beside the boxes, like a phone's,
// and returns their addresses on it.
func cell(t *testing.T, n *netlab.Network) (client, server netip.Addr) {
	t.Helper()
	client, server = netip.MustParseAddr("2001:db8:c::1"), netip.MustParseAddr("2001:db8:c::2")
	err := netlab.Connect(n.Client, "cell", n.Server, "cell")
	if err == nil {
		err = n.Client.AddAddress("cell", netip.PrefixFrom(client, 64))
	}
	if err == nil {
		err = n.Server.AddAddress("cell", netip.PrefixFrom(server, 64))
	}
	if err == nil {
		for _, at := range []struct {
			host   *netlab.Host
			ifname string
		}{{n.Client, "cell"}, {n.Server, "cell"}} {
			err = at.host.AddRoute(netlab.Route{To: netip.PrefixFrom(client, 64).Masked(), Dev: at.ifname})
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return client, server
}

// handshakes returns the last SYN and the last SYN+ACK that a tap has seen.
func handshakes(t *testing.T, tap *netlab.Tap) (syn, synack rewrite.Segment) {
	t.Helper()
	for _, h := range tap.Handshakes() {
		var s rewrite.Segment
		if err := s.Parse(h.Packet); err != nil {
			t.Fatal(err)
		}
		if s.IsSYN() {
			syn = s
		} else {
			synack = s
		}
	}
	return syn, synack
}

// TestPhonesConnectionsStayEndToEnd connects a client and a server with MPTCP through
// both boxes, and then adds a subflow over a further link:
//
//	client ── CPE ══ HAG ── server
//	   ╚═══════ cell ═════════╝
func TestPhonesConnectionsStayEndToEnd(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	local, remote := cell(t, n)
	if err := n.Client.Sysctl("net.mptcp.pm_type", "1"); err != nil {
		t.Fatal(err)
	}
	p := start(t, n)
	seen := tap(t, n)
	onCell, err := netlab.OpenTap(n.Server, "cell")
	if err != nil {
		t.Fatal(err)
	}
	defer onCell.Close()
	manager := pathManagerOf(t, n.Client)
	l := listen(t, n.Server, "mptcp", netip.AddrPortFrom(netip.IPv6Unspecified(), 0))
	serve(l, echo)
	server := netip.AddrPortFrom(netlab.Server6, addrOf(l).Port())
	c, err := n.Client.Dial(within(t, 10*time.Second), "mptcp", "", server.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	chat(t, c, "hello")

	var key uint64
	for name, at := range map[string]*netlab.Tap{"client": seen.client, "line": seen.first, "server": seen.server} {
		if got, want := kinds(t, at), map[string]int{"capable": 1, "capable answer": 1}; !maps.Equal(got, want) {
			t.Errorf("at the %s: %v, want %v", name, got, want)
		}
		syn, synack := handshakes(t, at)
		if want := map[string]uint8{"line": 43}[name]; syn.DSCP() != want {
			t.Errorf("at the %s the SYN has DSCP %d, want %d", name, syn.DSCP(), want)
		}
		m, err := synack.MPTCP()
		if err != nil || key != 0 && m.SenderKey != key {
			t.Errorf("at the %s the server's key is %x, elsewhere %x (%v)", name, m.SenderKey, key, err)
		}
		key = m.SenderKey
	}
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		if f, ok := flowFrom(t, b, c); !ok || f.State != "passed" || f.Reason != "end-to-end" {
			t.Errorf("%s has %+v", b.Role, f)
		}
	}
	manager.join(t, mptcp.Address{AddrPort: netip.AddrPortFrom(local, 0), ID: 1},
		mptcp.Address{AddrPort: netip.AddrPortFrom(remote, server.Port())})
	eventually(t, "the server takes the client's join", func() bool {
		return maps.Equal(kinds(t, onCell), map[string]int{"join": 1, "join answer": 1})
	})
	chat(t, c, "still there")
}

// pathManager is a userspace path manager on a host.
type pathManager struct {
	pm     *mptcp.PM
	tokens chan uint32 // of established connections
}

func pathManagerOf(t *testing.T, h *netlab.Host) pathManager {
	t.Helper()
	m := pathManager{tokens: make(chan uint32, 8)}
	var events *mptcp.Events
	err := h.Do(func() (err error) {
		if m.pm, err = mptcp.Open(); err == nil {
			events, err = mptcp.Listen()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- events.Run(ctx, func(ev mptcp.Event) {
			if ev.Type == mptcp.Established {
				m.tokens <- ev.Token
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		events.Close()
		m.pm.Close()
	})
	return m
}

// join opens a subflow of the next established connection.
func (m pathManager) join(t *testing.T, local, remote mptcp.Address) {
	t.Helper()
	select {
	case token := <-m.tokens:
		if err := m.pm.CreateSubflow(token, local, remote); err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no connection is established")
	}
}

// clientsFlow finds the client's last flow to server, and none of the joins.
func clientsFlow(t *testing.T, b *netlab.Box, server netip.AddrPort) (last api.Flow, ok bool) {
	t.Helper()
	for _, f := range dump(t, b).Flows {
		if f.Client.Addr() == netlab.Client6 && f.Server == server && (!ok || f.AgeMS < last.AgeMS) {
			last, ok = f, true
		}
	}
	return last, ok
}

// TestHAGThatPrefersEndToEndLeavesMPTCPServersAlone lets a HAG learn whether servers
// speak MPTCP. Connections to those that do are bonded by CPE and server, with joins
// at the server's own address. The HAG relays the others, from the second one on.
func TestHAGThatPrefersEndToEndLeavesMPTCPServersAlone(t *testing.T) {
	for _, c := range []struct {
		network       string
		first, second string // states of the flows at the HAG
		reason        string // of the second
	}{
		{"mptcp", "passed", "passed", "learnt-mptcp"},
		{"tcp", "passed", "closed", "fin"},
	} {
		t.Run("a server with "+c.network, func(t *testing.T) {
			n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Rate: 50e6}, {Name: "lte", Rate: 50e6}}})
			hag := alone(t, n.HAG, "hag", "--config", configFile(t, `end_to_end = "prefer"`), "--plain", netlab.HAGWanInterface,
				"--path", "dsl", "--path", "lte", "--join", netip.AddrPortFrom(n.Lines[1].HAG6, 9000).String())
			cpe := alone(t, n.CPE, "cpe", "--plain", netlab.CPELanInterface, "--path", "dsl",
				"--path", "lte,join="+netip.AddrPortFrom(n.Lines[1].HAG6, 9000).String())
			server := serveOver(t, n, c.network, netlab.Server6)
			for i, want := range []string{c.first, c.second} {
				_, before := n.Lines[1].Bytes()
				if _, err := netlab.Transfer(within(t, 20*time.Second), dialer(n, server), netlab.Down, 5_000_000); err != nil {
					t.Fatal(err)
				}
				var f api.Flow
				eventually(t, "the HAG's flow is "+want, func() (ok bool) {
					f, ok = clientsFlow(t, hag, server)
					return ok && f.State == want && (i == 0 || f.Reason == c.reason)
				})
				if t.Failed() {
					t.Fatalf("connection %d at the HAG: %+v", i+1, f)
				}
				bonded := c.network == "mptcp" || i == 1
				if _, after := n.Lines[1].Bytes(); bonded != (after-before > 1_000_000) {
					t.Errorf("connection %d moves %d bytes over the second line", i+1, after-before)
				}
				eventually(t, "the CPE's flow is relayed", func() bool {
					f, ok := clientsFlow(t, cpe, server)
					return ok && f.State == "closed" && f.MPTCP == bonded
				})
			}
		})
	}
}
