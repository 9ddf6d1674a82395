//go:build linux

package tests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// What is in a box's way it finds, names, and forgets when it is mended.

// findings returns the IDs of a box's findings.
func findings(t *testing.T, b *netlab.Box) (ids []string) {
	t.Helper()
	p, err := b.Paths(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Findings {
		ids = append(ids, f.ID)
	}
	return ids
}

// doctor returns the lines of doctor on a host that are not ok, as "ID status".
func doctor(t *testing.T, h *netlab.Host, flags ...string) (lines []string) {
	t.Helper()
	program := synbond()
	cmd := h.Command(program.Path, append([]string{"doctor", "--json"}, flags...)...)
	cmd.Env = program.Env
	var out bytes.Buffer
	cmd.Stdout = &out
	_ = h.Run(cmd) // it fails where a box cannot run
	var d struct {
		Findings []struct{ Status, Name, ID, Source string }
	}
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatalf("doctor: %v: %s", err, out.String())
	}
	for _, f := range d.Findings {
		if f.Status != "ok" {
			lines = append(lines, strings.TrimSpace(f.ID+" "+f.Source))
		}
	}
	return lines
}

// wantFinding makes a box find an obstacle while it runs, and forget it when it is mended.
// Each function is called once; undo may be nil for obstacles that end by themselves.
func (p *pair) wantFinding(t *testing.T, b *netlab.Box, id string, make, undo func()) {
	t.Helper()
	found := func() bool { return slices.Contains(findings(t, b), id) }
	if found() {
		t.Fatalf("%s is found before", id)
	}
	make()
	eventually(t, b.Role+" finds "+id, found)
	if h := p.routers()[strings.ToUpper(b.Role)]; !slices.ContainsFunc(doctor(t, h, "--control", b.Control), func(l string) bool { return strings.HasPrefix(l, id) }) {
		t.Errorf("doctor does not find %s", id)
	}
	if !(dump(t, b).Totals.Findings[id] > 0) {
		t.Errorf("flows do not show %s", id)
	}
	undo()
	eventually(t, b.Role+" finds "+id+" no longer", func() bool { return !found() })
}

// firewallRules are rules that let the router forward, and drop what passes by the box.
var firewallRules = []struct{ name, id, chains string }{
	{"input", "input-drops", "chain c { type filter hook input priority 0; policy drop; iif lo accept; ct state established,related accept; meta l4proto udp accept; tcp dport 9000 accept; meta l4proto { icmp, icmpv6 } accept; }"},
	{"input from one side", "input-drops", "chain c { type filter hook input priority 0; iifname { lan, dsl } tcp dport > 1024 ct state untracked drop; }"},
	{"input, one family", "input-drops", "chain c { type filter hook input priority 0; meta nfproto ipv4 ct state untracked reject; }"},
	{"output", "output-drops", "chain c { type filter hook output priority 0; meta l4proto tcp ct state untracked oifname != lo drop; }"},
	{"output without lo", "loop-drops", "chain c { type filter hook output priority 0; policy drop; oifname { lan, wan, dsl, lte } accept; }"},
	{"spoofed loopback", "loop-drops", "chain c { type filter hook prerouting priority -300; iifname lo ip saddr != 127.0.0.0/8 drop; }"},
	{"SYNs beyond a rate", "loop-drops", "chain c { type filter hook input priority 0; tcp flags & (fin | syn | rst | ack) == syn jump flood; }; chain flood { limit rate 25/second burst 50 packets return; drop; }"},
	{"marks overwritten", "mark-lost", "chain c { type filter hook prerouting priority 2000; meta mark set 0x7; }"},
	{"joins", "join-drops", "chain c { type filter hook input priority 0; meta l4proto { tcp, udp } th dport 9000 drop; meta l4proto { tcp, udp } th sport 9000 drop; }"},
	{"probes before routing", "join-drops", "chain c { type filter hook prerouting priority -300; iifname lte meta l4proto udp drop; }"},
}

// TestFirewallsInTheWayAreSaid gives both routers a firewall that does no harm without boxes.
// Boxes that start beside it say what is in their way, and so do boxes that run already.
func TestFirewallsInTheWayAreSaid(t *testing.T) {
	long(t)
	t.Parallel()
	tooltest.Need(t, "the boxes beside firewalls", "nft", "ip", "sh")
	for _, c := range firewallRules {
		t.Run(c.name, func(t *testing.T) {
			p := &pair{Network: netlabtest.Build(t, twoLines), dir: scratch(t)}
			add, remove := "nft 'table inet fw { "+c.chains+"; }'", "nft delete table inet fw"
			admin(t, p.CPE, add)
			admin(t, p.HAG, add)
			for _, f := range families {
				if got := greeting(t, p.Client, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")); got != "hello" {
					t.Fatalf("%s without boxes: %q", f.name, got)
				}
			}
			p.up(t)
			t.Cleanup(func() { p.down(t) })
			for _, b := range []*netlab.Box{p.cpe, p.hag} {
				if !slices.Contains(findings(t, b), c.id) {
					t.Errorf("%s does not find %s when it starts", b.Role, c.id)
				}
			}
			for _, f := range families { // relayed, or not: as without boxes
				if got := greeting(t, p.Client, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")); got != "hello" {
					t.Errorf("%s with boxes: %q", f.name, got)
				}
			}
			for _, b := range []*netlab.Box{p.cpe, p.hag} {
				h := p.routers()[strings.ToUpper(b.Role)]
				admin(t, h, remove)
				eventually(t, b.Role+" finds "+c.id+" no longer", func() bool { return !slices.Contains(findings(t, b), c.id) })
				p.wantFinding(t, b, c.id, func() { admin(t, h, add) }, func() { admin(t, h, remove) })
			}
			sees(t, p.cpe, "dsl", "is up", isUp) // probes may have been dropped, too
			for _, f := range families {
				p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
			}
		})
	}
}

// TestConnectionsPassBesideAFirewallThatStopsRelayedOnes gives a router a firewall like that of a
// home router, which rejects what comes in for the router itself.
func TestConnectionsPassBesideAFirewallThatStopsRelayedOnes(t *testing.T) {
	const zones = "chain input { type filter hook input priority 0; policy drop; iif lo accept; ct state established,related accept; " +
		"meta l4proto { icmp, icmpv6 } accept; th dport 9000 accept; meta l4proto tcp reject with tcp reset; }"
	p := neighbours(t)
	for role, h := range p.routers() {
		t.Run(role, func(t *testing.T) {
			b := map[string]*netlab.Box{"CPE": p.cpe, "HAG": p.hag}[role]
			t.Run("stopped", func(t *testing.T) {
				ruleset(t, h, zones)
				eventually(t, role+" finds the firewall", func() bool { return slices.Contains(findings(t, b), "input-drops") })
				for _, f := range families {
					to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
					if got := greeting(t, p.Client, to); got != "hello" {
						t.Errorf("%s: %q", f.name, got)
					}
					if flow, _ := flowTo(t, b, to); flow.Reason != "filtered" {
						t.Errorf("%s has the flow %+v, want the reason filtered", role, flow)
					}
				}
			})
			eventually(t, role+" finds the firewall no longer", func() bool { return len(findings(t, b)) == 0 })
			for _, f := range families {
				p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
			}
		})
	}
}

// TestSettingsInTheWayAreSaid changes settings of both routers while the boxes run.
func TestSettingsInTheWayAreSaid(t *testing.T) {
	t.Parallel()
	settings := []struct{ id, key, bad, good string }{
		{"not-forwarding", "net.ipv4.ip_forward", "0", "1"}, // of every interface, too
		{"not-forwarding", "net.ipv4.conf.dsl.forwarding", "0", "1"},
		{"not-forwarding", "net.ipv6.conf.all.forwarding", "0", "1"},
		{"no-family", "net.ipv6.conf.lte.disable_ipv6", "1", "0"},
		{"syn-cookies", "net.ipv4.tcp_syncookies", "2", "1"},
		{"abort-on-overflow", "net.ipv4.tcp_abort_on_overflow", "1", "0"},
		{"shrink-window", "net.ipv4.tcp_shrink_window", "1", "0"},
		{"small-queue", "net.core.somaxconn", "64", "4096"},
		{"small-queue", "net.ipv4.tcp_max_syn_backlog", "64", "2048"},
	}
	p := neighbours(t)
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		h := p.routers()[strings.ToUpper(b.Role)]
		for _, s := range settings {
			admin(t, h, "sysctl -qw "+s.key+"="+s.bad)
		}
		for _, s := range settings {
			eventually(t, b.Role+" finds "+s.id, func() bool { return slices.Contains(findings(t, b), s.id) })
			if !slices.ContainsFunc(doctor(t, h, "--control", b.Control), func(l string) bool { return strings.HasPrefix(l, s.id) }) {
				t.Errorf("doctor does not find %s", s.id)
			}
		}
		for _, s := range settings {
			admin(t, h, "sysctl -qw "+s.key+"="+s.good)
		}
		for _, s := range settings {
			eventually(t, b.Role+" finds "+s.id+" no longer", func() bool { return !slices.Contains(findings(t, b), s.id) })
		}
	}
}

// TestTranslatedSourcesAreDialedFromTheBox has a router translate the sources of all that
// leaves towards the server, since nobody there knows the way back to the client.
func TestTranslatedSourcesAreDialedFromTheBox(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "the boxes beside masquerade", "nft", "ip", "sh")
	for _, c := range []struct{ role, out, elsewhere string }{
		{"cpe", "{ dsl, lte }", "hag"}, {"hag", "wan", "server"},
	} {
		for i, masquerade := range []string{
			"nft 'table inet nat { chain p { type nat hook postrouting priority srcnat; oifname " + c.out + " masquerade; }; }'",
			"nft 'table inet nat { chain p { type nat hook postrouting priority srcnat; iifname lo accept; oifname " + c.out + " jump out; }; chain out { meta nfproto { ipv4, ipv6 } masquerade; }; }'",
			"nft 'table inet nat { chain p { type nat hook postrouting priority srcnat; oifname " + c.out + " rt ipsec missing masquerade; }; }'",
			"nft 'table inet nat { chain m { type filter hook prerouting priority mangle; meta mark set meta mark | 0x8000; }; chain p { type nat hook postrouting priority srcnat; oifname " + c.out + " meta mark & 0x8000 != 0 masquerade; }; }'",
		} {
			t.Run(c.role, func(t *testing.T) {
				if i > 0 {
					long(t)
				}
				p := &pair{Network: netlabtest.Build(t, twoLines), dir: scratch(t)}
				h, far := p.CPE, p.HAG
				if c.role == "hag" {
					h, far = p.HAG, p.Server
				}
				admin(t, far, "ip route add blackhole "+netlab.Client4.String()+"/32", "ip -6 route add blackhole "+netlab.Client6.String()+"/128")
				admin(t, h, masquerade)
				seen := func() (all []netip.Addr) {
					for _, f := range families {
						l := listen(t, p.Server, "tcp", netip.AddrPortFrom(f.server, 0))
						serve(l, func(c net.Conn) { io.WriteString(c, c.RemoteAddr().String()) }) //nolint:errcheck // the client will notice
						peer, err := netip.ParseAddrPort(greeting(t, p.Client, addrOf(l)))
						if err != nil {
							t.Errorf("%s: %v", f.name, err)
						}
						all = append(all, peer.Addr())
					}
					return all
				}
				want := seen() // without boxes
				p.up(t)
				t.Cleanup(func() { p.down(t) })
				b := map[string]*netlab.Box{"cpe": p.cpe, "hag": p.hag}[c.role]
				if got := seen(); !slices.Equal(got, want) {
					t.Errorf("the server sees %v, want %v as without boxes", got, want)
				}
				if d := dump(t, b); d.Totals.Entered["relaying"] != uint64(len(families)) {
					t.Errorf("%d connections are relayed, want %d", d.Totals.Entered["relaying"], len(families))
				}
				if !slices.Contains(findings(t, b), "own-source") {
					t.Errorf("%s does not say that it dials from its own address", c.role)
				}
				admin(t, h, "nft delete table inet nat")
				eventually(t, "the rule is gone", func() bool { return !slices.Contains(findings(t, b), "own-source") })
				admin(t, h, masquerade)
				eventually(t, "the rule is found while the box runs", func() bool { return slices.Contains(findings(t, b), "own-source") })
				if got := seen(); !slices.Equal(got, want) {
					t.Errorf("then the server sees %v, want %v", got, want)
				}
			})
		}
	}
}

// TestOldTablesInTheWayAreSaid has the older tables of iptables drop relayed packets, and
// translate sources.
func TestOldTablesInTheWayAreSaid(t *testing.T) {
	long(t)
	t.Parallel()
	tooltest.Need(t, "the boxes beside iptables", "iptables-legacy", "ip6tables-legacy", "sh")
	p := neighbours(t)
	lock := "XTABLES_LOCKFILE=" + scratch(t) + "/lock "
	for _, c := range []struct{ id, rule string }{
		{"input-drops", "ip6tables-legacy -t filter %s INPUT -p tcp -i lan -j DROP"},
		{"output-drops", "iptables-legacy -t mangle %s OUTPUT -p tcp -o dsl -m conntrack --ctstate UNTRACKED -j DROP"},
		{"input-drops", "iptables-legacy -t filter %s INPUT -p tcp -i lan -m state ! --state NEW,ESTABLISHED -j DROP"},
		{"loop-drops", "iptables-legacy -t filter %s INPUT -p tcp --syn -m hashlimit --hashlimit-name syns --hashlimit-mode srcip --hashlimit-above 25/s -j DROP"},
		{"not-counted", "iptables-legacy -t filter %s FORWARD -p tcp --syn -m connlimit --connlimit-above 50 -j REJECT"},
		{"loop-drops", "iptables-legacy -t raw %s PREROUTING -i lo ! -s 127.0.0.0/8 -j DROP"},
		{"own-source", "iptables-legacy -t nat %s POSTROUTING -o dsl -j MASQUERADE"},
	} {
		p.wantFinding(t, p.cpe, c.id,
			func() { admin(t, p.CPE, lock+fmt.Sprintf(c.rule, "-A")) }, func() { admin(t, p.CPE, lock+fmt.Sprintf(c.rule, "-D")) })
	}
}
