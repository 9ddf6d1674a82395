//go:build linux

package tests

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
)

// Other programs remove or change what the boxes have installed on their machines. The
// boxes put it back, and say so.

// changed returns what a box says of a thing that others have changed.
func changed(t *testing.T, b *netlab.Box, thing string) api.Kept {
	t.Helper()
	p, err := b.Paths(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.IndexFunc(p.Kept, func(k api.Kept) bool { return k.Thing == thing }); i >= 0 {
		return p.Kept[i]
	}
	return api.Kept{}
}

// running is a connection of the client that is relayed: its server sends bytes back.
type running struct{ net.Conn }

func runs(t *testing.T, p *pair, f family) running {
	t.Helper()
	l := listen(t, p.Server, "tcp", netip.AddrPortFrom(f.server, 0))
	serve(l, func(c net.Conn) { io.Copy(c, c) }) //nolint:errcheck // the client will notice
	c, err := p.Client.Dial(within(t, 5*time.Second), "tcp", "", addrOf(l).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return running{c}
}

// exchange sends a word on the connection, and returns the error unless it comes back.
func (r running) exchange(word string) error {
	if err := r.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(r, word); err != nil {
		return err
	}
	_, err := io.ReadFull(r, make([]byte, len(word)))
	return err
}

// changes are what others do on a box's machine, in shell, and the thing that the box puts
// back. ROLE is the box's.
var changes = []struct{ name, thing, line, only string }{
	{name: "the whole ruleset is loaded again", thing: "nftables rules", line: "nft flush ruleset"},
	{name: "a table is deleted", thing: "nftables rules", line: "nft delete table inet synbond_ROLE"},
	{name: "a table of one family is deleted", thing: "nftables rules", line: "nft delete table ip6 synbond_ROLE 2>/dev/null || nft delete table inet synbond_ROLE"},
	{name: "a chain is flushed", thing: "nftables rules", line: "nft flush chain inet synbond_ROLE sockets"},
	{name: "a rule is inserted", thing: "nftables rules", line: "nft insert rule inet synbond_ROLE sockets drop"},
	{name: "a table sleeps", thing: "nftables rules", line: "nft 'table inet synbond_ROLE { flags dormant; }'"},
	{name: "a set is emptied", thing: "nftables rules", line: "nft flush set inet synbond_ROLE paths"},
	{name: "IPv4 rules are deleted", thing: "policy routing for IPv4", line: "for i in 1 2 3; do ip rule del pref 1; done"},
	{name: "IPv6 rules are deleted", thing: "policy routing for IPv6", line: "for i in 1 2 3; do ip -6 rule del pref 1; done"},
	{name: "IPv4 route is deleted", thing: "policy routing for IPv4", line: "ip route flush table 91"},
	{name: "IPv6 route is deleted", thing: "policy routing for IPv6", line: "ip -6 route flush table 91"},
	{name: "IPv4 route is replaced", thing: "policy routing for IPv4", line: "ip route flush table 91; ip route add unreachable default table 91 2>/dev/null || true"},
	{name: "loopback goes down", thing: "loopback", line: "ip link set lo down"},
	{name: "loopback loses its addresses", thing: "loopback", line: "ip addr flush dev lo"},
	{name: "MPTCP is switched off", thing: "sysctl net.mptcp.enabled", line: "sysctl -qw net.mptcp.enabled=0"},
	{name: "the path manager is switched to the kernel", thing: "sysctl net.mptcp.pm_type", line: "sysctl -qw net.mptcp.pm_type=0", only: "cpe"},
	{name: "the path manager is switched to user space", thing: "sysctl net.mptcp.pm_type", line: "sysctl -qw net.mptcp.pm_type=1", only: "hag"},
	{name: "joins are allowed everywhere", thing: "sysctl net.mptcp.allow_join_initial_addr_port", line: "sysctl -qw net.mptcp.allow_join_initial_addr_port=1"},
	{name: "buffers are lowered", thing: "sysctl net.ipv4.tcp_rmem", line: "sysctl -qw net.ipv4.tcp_rmem='4096 131072 6291456'"},
	{name: "limits are lowered", thing: "MPTCP limits", line: "ip mptcp limits set subflow 0", only: "hag"},
	{name: "endpoints are flushed", thing: "MPTCP endpoints", line: "ip mptcp endpoint flush", only: "hag"},
}

func TestChangesByOthersArePutBack(t *testing.T) {
	long(t)
	t.Parallel()
	p := neighbours(t)
	var open []running
	for _, f := range families {
		open = append(open, runs(t, p, f))
	}
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		h := p.routers()[strings.ToUpper(b.Role)]
		for _, c := range changes {
			if c.only != "" && c.only != b.Role {
				continue
			}
			t.Run(b.Role+" "+c.name, func(t *testing.T) {
				time.Sleep(150 * time.Millisecond) // changes at once would count as one
				before := changed(t, b, c.thing)
				admin(t, h, strings.ReplaceAll(c.line, "ROLE", b.Role))
				var now api.Kept
				eventually(t, "the box has seen that "+c.name, func() bool {
					now = changed(t, b, c.thing)
					return now.Changes > before.Changes
				})
				if now.State != "kept" || now.Last == "" {
					t.Errorf("the box says %+v", now)
				}
				time.Sleep(100 * time.Millisecond) // some commands go on after their first change has been put back
				for _, f := range families {
					p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
				}
				for _, r := range open {
					if err := r.exchange(c.name); err != nil {
						t.Fatalf("a running connection: %v", err)
					}
				}
			})
		}
	}
}

// TestBoxStandsAside has a program remove the box's table again and again.
func TestBoxStandsAside(t *testing.T) {
	long(t)
	t.Parallel()
	for _, role := range []string{"cpe", "hag"} {
		t.Run(role, func(t *testing.T) {
			p := neighbours(t)
			b, h := map[string]*netlab.Box{"cpe": p.cpe, "hag": p.hag}[role], p.routers()[strings.ToUpper(role)]
			open := runs(t, p, families[0])
			if err := open.exchange("hello"); err != nil {
				t.Fatal(err)
			}
			admin(t, h, "for i in $(seq 40); do nft delete table inet synbond_"+role+" 2>/dev/null; sleep 0.15; done; true")
			var kept api.Kept
			eventually(t, "the box leaves its rules", func() bool {
				kept = changed(t, b, "nftables rules")
				return kept.State == "left"
			})
			if kept.By != "nft" || kept.AgainInMS <= 0 {
				t.Errorf("the box says %+v", kept)
			}
			eventually(t, "the finding", func() bool { return slices.Contains(findings(t, b), "stands-aside") })
			if there := output(t, h, "nft list ruleset; ip rule; ip -6 rule"); strings.Contains(there, "synbond") || strings.Contains(there, "lookup 91") {
				t.Errorf("it leaves:\n%s", there)
			}
			for _, f := range families {
				p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", false)
			}
			if err := open.exchange("hello"); err == nil {
				t.Error("a connection goes on whose packets the box does not get")
			}
		})
	}
}

// output returns what a line of shell prints on a host.
func output(t *testing.T, h *netlab.Host, line string) string {
	t.Helper()
	cmd := h.Command("sh", "-c", line)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Run(cmd); err != nil {
		t.Fatalf("on %s: %s: %v: %s", h.Name, line, err, out.String())
	}
	return out.String()
}

// TestEndpointsOfOthersCauseNoSubflowsToHosts gives the HAG's kernel endpoints from which it
// would open subflows to the clients of its connections.
func TestEndpointsOfOthersCauseNoSubflowsToHosts(t *testing.T) {
	t.Parallel()
	p := neighbours(t)
	ruleset(t, p.HAG, "chain out { type filter hook output priority -310; ip daddr "+netlab.Client4.String()+
		" tcp flags & (syn|ack) == syn counter; ip6 daddr "+netlab.Client6.String()+" tcp flags & (syn|ack) == syn counter; }")
	add := "ip mptcp limits set subflow 8 add_addr_accepted 8"
	for _, l := range p.Lines {
		for _, a := range []netip.Addr{l.HAG4, l.HAG6} {
			add += "; ip mptcp endpoint add " + a.String() + " subflow fullmesh"
		}
	}
	p.wantFinding(t, p.hag, "other-endpoints", func() { admin(t, p.HAG, add) }, func() {
		for _, f := range families {
			open := runs(t, p, f)
			for range 20 {
				if err := open.exchange(strings.Repeat("x", 10_000)); err != nil {
					t.Fatal(err)
				}
			}
			if flow, _ := flowTo(t, p.cpe, netip.MustParseAddrPort(open.RemoteAddr().String())); !flow.MPTCP {
				t.Errorf("%s: the flow is %+v, want MPTCP", f.name, flow)
			}
		}
		if rules := output(t, p.HAG, "nft list table inet neighbour"); strings.Count(rules, "packets 0 ") != 2 {
			t.Errorf("the HAG sends SYNs to clients:\n%s", rules)
		}
		admin(t, p.HAG, "for i in $(ip mptcp endpoint | grep fullmesh | sed 's/.* id \\([0-9]*\\).*/\\1/'); do ip mptcp endpoint delete id $i; done")
	})
}

// TestBoxesAloneFindNoOtherPathManager guards against taking a box for its own neighbour.
func TestBoxesAloneFindNoOtherPathManager(t *testing.T) {
	t.Parallel()
	p := neighbours(t)
	p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(families[0].server, 0), "hello"), "hello", true)
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		if found := findings(t, b); slices.Contains(found, "other-path-manager") || slices.Contains(found, "other-endpoints") {
			t.Errorf("%s finds %v", b.Role, found)
		}
	}
}
