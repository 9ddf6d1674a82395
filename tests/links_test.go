//go:build linux

package tests

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// What an administrator, a modem or an operator does to the interfaces of a box: addresses
// that are not the right ones, two lines with one address, filters, interfaces that come late,
// change their names or become ports of a bridge.

// renamed takes interfaces of the CPE down and gives them other names, "OLD NEW" each.
func renamed(t *testing.T, p *netlab.Network, pairs ...string) {
	t.Helper()
	for _, pair := range pairs {
		old, name, _ := strings.Cut(pair, " ")
		admin(t, p.CPE, "ip link set "+old+" down && ip link set "+old+" name "+name)
	}
}

// restored brings the CPE's interface of a line up, which has that name now, with all its
// addresses and routes.
func restored(t *testing.T, n *netlab.Network, i int, name string) {
	t.Helper()
	l := n.Lines[i]
	admin(t, n.CPE, "ip link set "+name+" up")
	for _, a := range []netip.Prefix{netip.PrefixFrom(l.CPE6, 64), netip.PrefixFrom(l.CPE4, 28)} {
		version, router := "-6", a.Masked().Addr().Next()
		if a.Addr().Is4() {
			version = "-4"
		}
		admin(t, n.CPE,
			fmt.Sprintf("ip %s addr replace %s dev %s nodad noprefixroute || true", version, a, name),
			fmt.Sprintf("ip %s route replace %s dev %s", version, a.Masked(), name),
			fmt.Sprintf("ip %s route replace default via %s dev %s metric %d", version, router, name, 100*(i+1)),
			fmt.Sprintf("ip %s route replace default via %s dev %s table %d", version, router, name, 100+i))
	}
}

// bonded waits until connections of each family have a subflow on each path.
func (p *pair) bonded(t *testing.T, when string) {
	t.Helper()
	for _, f := range families {
		c := chatter(t, p.Network, f)
		var flow api.Flow
		eventually(t, f.name+" is bonded "+when, func() bool {
			flow, _ = flowFrom(t, p.cpe, c)
			return len(flow.Subflows) == len(p.Lines)
		})
		if len(flow.Subflows) != len(p.Lines) {
			t.Logf("flow %+v", flow)
		}
		c.Close()
	}
}

// needTools says which tools these tests lack.
func needTools(t *testing.T) {
	t.Helper()
	tooltest.Need(t, "interfaces that change", "ip", "sysctl", "nft", "sh")
}

func TestSubflowsStartFromTheKernelsChoiceOfAddress(t *testing.T) {
	t.Parallel()
	needTools(t)
	n := netlabtest.Build(t, twoLines)
	lte := n.Lines[1]
	// The kernel lists the newest IPv6 address and the oldest IPv4 address first.
	admin(t, n.CPE,
		"ip addr flush dev lte", "ip addr add 192.168.8.100/24 dev lte", "ip addr add fdff::2/64 dev lte nodad",
		fmt.Sprintf("ip addr add %s/28 dev lte", lte.CPE4), fmt.Sprintf("ip addr add %s/64 dev lte nodad", lte.CPE6),
		"ip addr add fdff::3/64 dev lte nodad")
	restored(t, n, 1, "lte")
	p := start(t, n)
	sees(t, p.cpe, "lte", "starts from the right addresses", func(s *api.PathState) bool {
		return isUp(s) && s.Address4 == lte.CPE4 && s.Address6 == lte.CPE6
	})
	p.bonded(t, "from the right addresses")
	// The operator gives the line another prefix, and the old address stays.
	other := lte.CPE4.Next().Next()
	admin(t, n.CPE, fmt.Sprintf("ip addr add %s/28 dev lte", other),
		fmt.Sprintf("ip route replace default via %s dev lte metric 200 src %s", netip.PrefixFrom(lte.CPE4, 28).Masked().Addr().Next(), other))
	sees(t, p.cpe, "lte", "follows the route", func(s *api.PathState) bool { return isUp(s) && s.Address4 == other })
	p.bonded(t, "after a change of the route")
}

func TestFamilyThatAPathCannotUseIsNamed(t *testing.T) {
	t.Parallel()
	needTools(t)
	p := start(t, netlabtest.Build(t, twoLines))
	sees(t, p.cpe, "lte", "is up", func(s *api.PathState) bool { return isUp(s) && s.Reason == "" })
	ruleset(t, p.Lines[1].Router(), "chain forward { type filter hook forward priority 0; meta nfproto ipv4 drop; }")
	sees(t, p.cpe, "lte", "gets no answers over IPv4", func(s *api.PathState) bool {
		return isUp(s) && s.Reason == "IPv4: no answer to probes" && s.Reason4 == "no answer to probes" && s.Reason6 == ""
	})
	admin(t, p.CPE, "ip -4 addr flush dev lte")
	sees(t, p.cpe, "lte", "has no IPv4 address", func(s *api.PathState) bool { return isUp(s) && s.Reason4 == "no address" })
}

func TestStrictReversePathFilterOnAPathIsNamed(t *testing.T) {
	t.Parallel()
	needTools(t)
	n := netlabtest.Build(t, twoLines)
	p := start(t, n)
	sees(t, p.cpe, "lte", "is up", isUp)
	const drops = "net.ipv4.conf.lte.rp_filter=1 drops the answers: set net.ipv4.conf.lte.rp_filter=2"
	found := func() bool { return slices.Contains(findings(t, p.cpe), "reverse-path-filter") }
	admin(t, n.CPE, fmt.Sprintf("ip rule del from %s", n.Lines[1].CPE4), "sysctl -qw net.ipv4.conf.lte.rp_filter=1")
	sees(t, p.cpe, "lte", "names the filter", func(s *api.PathState) bool { return isUp(s) && s.Reason4 == drops })
	eventually(t, "the filter is a finding", found)
	file := configFile(t, fmt.Sprintf("plain = [\"lan\"]\n[[path]]\ninterface = \"dsl\"\n[[path]]\ninterface = \"lte\"\njoin = [\"%s:9000\"]\n", n.Lines[1].HAG4))
	if lines := doctor(t, n.CPE, "--config", file); !slices.Contains(lines, "reverse-path-filter") {
		t.Errorf("doctor finds %q", lines)
	}
	admin(t, n.CPE, "sysctl -qw net.ipv4.conf.lte.rp_filter=2")
	p.bonded(t, "with a loose filter")
	eventually(t, "the finding ends", func() bool { return !found() })
	admin(t, n.CPE, "sysctl -qw net.ipv4.conf.lte.rp_filter=0 net.ipv4.conf.all.rp_filter=1", "ip -6 addr flush dev lte")
	sees(t, p.cpe, "lte", "is down", func(s *api.PathState) bool {
		return isDown(s) && strings.HasPrefix(s.Reason, "net.ipv4.conf.all.rp_filter=1 drops the answers")
	})
}

// TestLinesWithTheSameAddress has two modems of one kind, each of which translates the address
// that it gives to the CPE.
func TestLinesWithTheSameAddress(t *testing.T) {
	t.Parallel()
	needTools(t)
	for _, c := range []struct{ name, first, second string }{
		{"the same address", "192.168.8.100", "192.168.8.100"},
		{"the same network", "192.168.8.100", "192.168.8.101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}, {Name: "lte"}, {Name: "lte2"}}})
			for i, address := range []string{c.first, c.second} {
				l := n.Lines[i+1]
				admin(t, l.Router(), "ip addr add 192.168.8.1/24 dev cpe",
					"nft 'add table inet nat; add chain inet nat post { type nat hook postrouting priority 100; }; add rule inet nat post oifname hag masquerade'")
				admin(t, n.CPE, "ip -6 addr flush dev "+l.Name, "ip -4 addr flush dev "+l.Name,
					"ip addr add "+address+"/24 dev "+l.Name, fmt.Sprintf("ip route replace default via 192.168.8.1 dev %s metric %d", l.Name, 200+i),
					fmt.Sprintf("ip route replace default via 192.168.8.1 dev %s table %d", l.Name, 101+i),
					fmt.Sprintf("ip rule add from %s lookup %d prio 40", address, 101+i),
					fmt.Sprintf("sysctl -qw net.ipv4.conf.%s.rp_filter=0 net.ipv4.conf.all.rp_filter=0", l.Name))
			}
			p := start(t, n)
			for _, name := range []string{"lte", "lte2"} {
				sees(t, p.cpe, name, "is up", isUp)
			}
			conn := chatter(t, n, families[1])
			subflows := func(names ...string) func() bool {
				return func() bool {
					f, _ := flowFrom(t, p.cpe, conn)
					t.Logf("%+v", f.Subflows)
					var on []string
					for _, s := range f.Subflows {
						on = append(on, s.Path)
					}
					slices.Sort(on)
					return slices.Equal(on, names)
				}
			}
			eventually(t, "a subflow on each line", subflows("dsl", "lte", "lte2"))
			for i, name := range []string{"lte", "lte2"} {
				before := sent(t, n.CPE, name)
				for range 20 {
					chat(t, conn, strings.Repeat("by all lines ", 10_000))
				}
				if sent(t, n.CPE, name) == before {
					t.Errorf("nothing leaves by %s", name)
				}
				other := []string{"lte2", "lte"}[i]
				if err := n.Line(name).Down(true); err != nil {
					t.Fatal(err)
				}
				sees(t, p.cpe, name, "is down", isDown)
				eventually(t, "the subflow of "+name+" only has ended", subflows("dsl", other))
				chat(t, conn, "still there?")
				if err := n.Line(name).Down(false); err != nil {
					t.Fatal(err)
				}
				sees(t, p.cpe, name, "is up again", isUp)
				eventually(t, "a subflow on each line again", subflows("dsl", "lte", "lte2"))
			}
			conn.Close()
		})
	}
}

func TestInterfacesThatComeAfterTheBox(t *testing.T) {
	t.Parallel()
	needTools(t)
	for i, name := range []string{"dsl", "lte"} {
		t.Run(name, func(t *testing.T) {
			n := netlabtest.Build(t, twoLines)
			renamed(t, n, name+" away")
			p := start(t, n)
			sees(t, p.cpe, name, "is down", func(s *api.PathState) bool { return isDown(s) && s.Reason == "no interface" })
			if !slices.Contains(findings(t, p.cpe), "no-interface") {
				t.Errorf("findings %q", findings(t, p.cpe))
			}
			renamed(t, n, "away "+name)
			restored(t, n, i, name)
			sees(t, p.cpe, name, "is up", isUp)
			p.bonded(t, "when the interface has come")
			eventually(t, "the finding ends", func() bool { return !slices.Contains(findings(t, p.cpe), "no-interface") })
		})
	}
}

func TestAlternativeNamesOfInterfaces(t *testing.T) {
	t.Parallel()
	needTools(t)
	n := netlabtest.Build(t, twoLines)
	admin(t, n.CPE, "ip link property add dev lan altname home-network", "ip link property add dev dsl altname enp1s0")
	p := &pair{Network: n, dir: scratch(t)}
	t.Cleanup(func() { p.down(t) })
	var err error
	if p.hag, err = n.StartHAG(synbond(), p.dir); err != nil {
		t.Fatal(err)
	}
	lte := n.Lines[1]
	p.cpe, err = synbond().StartBox(n.CPE, p.dir, "cpe", "--plain", "home-network", "--path", "enp1s0,name=dsl",
		"--path", fmt.Sprintf("lte,join=[%s]:%d,join=%s:%d", lte.HAG6, netlab.JoinPort, lte.HAG4, netlab.JoinPort))
	if err != nil {
		t.Fatal(err)
	}
	p.bonded(t, "by the other names")
	if found := findings(t, p.cpe); slices.Contains(found, "no-interface") {
		t.Errorf("findings %q", found)
	}
}

func TestPlainInterfaceThatComesAfterTheBox(t *testing.T) {
	t.Parallel()
	needTools(t)
	p := configuredPlain(t, netlabtest.Build(t, twoLines), "lan", "late")
	if err := netlab.Connect(p.CPE, "late", p.Client, "late"); err != nil {
		t.Fatal(err)
	}
	admin(t, p.CPE, "ip addr add 192.0.2.129/28 dev late", "ip route add 192.0.2.128/28 dev late || true")
	p.bonded(t, "by the interface that was there")
	eventually(t, "the finding ends", func() bool { return !slices.Contains(findings(t, p.cpe), "no-interface") })
}

// configuredPlain starts both boxes, the CPE with these plain interfaces.
func configuredPlain(t *testing.T, n *netlab.Network, plain ...string) *pair {
	t.Helper()
	p := &pair{Network: n, dir: scratch(t)}
	t.Cleanup(func() { p.down(t) })
	var err error
	if p.hag, err = n.StartHAG(synbond(), p.dir); err != nil {
		t.Fatal(err)
	}
	lte := n.Line("lte")
	flags := []string{"--path", "dsl", "--path", fmt.Sprintf("lte,join=[%s]:%d,join=%s:%d", lte.HAG6, netlab.JoinPort, lte.HAG4, netlab.JoinPort)}
	for _, name := range plain {
		flags = append(flags, "--plain", name)
	}
	if p.cpe, err = synbond().StartBox(n.CPE, p.dir, "cpe", flags...); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPortOfABridgeIsNamed names a port in the place of its bridge, and has another interface
// become a port.
func TestPortOfABridgeIsNamed(t *testing.T) {
	t.Parallel()
	needTools(t)
	n := netlabtest.Build(t, twoLines)
	admin(t, n.CPE,
		"ip link add bridge type bridge", "ip addr flush dev lan", "ip link set lan master bridge", "ip link set bridge up",
		"ip addr add "+netlab.CPELan4.String()+"/24 dev bridge", "ip addr add "+netlab.CPELan6.String()+"/64 dev bridge nodad")
	p := start(t, n)
	if !slices.Contains(findings(t, p.cpe), "port-of-master") {
		t.Errorf("findings %q", findings(t, p.cpe))
	}
	to := greet(t, p.Server, netip.AddrPortFrom(netlab.Server6, 0), "hello")
	p.wantGreeting(t, to, "hello", false) // as without a box
	admin(t, n.CPE, "ip link add other type bridge", "ip link set lte master other")
	sees(t, p.cpe, "lte", "is down", func(s *api.PathState) bool { return isDown(s) && s.Reason == "port of other: name other in its place" })
	admin(t, n.CPE, "ip link set lte nomaster", "ip link del other")
	restored(t, n, 1, "lte")
	sees(t, p.cpe, "lte", "is up", isUp)
}

// TestRatesFollowNames exchanges the names of interfaces, makes one again, and gives one another
// name. All that a box leaves on them must go when it ends.
func TestRatesFollowNames(t *testing.T) {
	t.Parallel()
	needTools(t)
	n := netlabtest.Build(t, twoLines)
	before := queueing(t, n.CPE)
	p := configured(t, n, `rate = "10mbit"`, "")
	shaped := func(names ...string) func() bool {
		return func() bool {
			var on []string
			for _, line := range queueing(t, n.CPE) {
				if name, is := strings.CutSuffix(line, ": htb 5b:0"); is && !strings.HasPrefix(name, "synbond") {
					on = append(on, name)
				}
			}
			slices.Sort(on)
			return slices.Equal(on, names)
		}
	}
	eventually(t, "the rate is on lte", shaped("lte"))
	p.bonded(t, "at the start")

	renamed(t, n, "lte away", "dsl lte", "away dsl")
	restored(t, n, 0, "lte")
	restored(t, n, 1, "dsl")
	eventually(t, "the rate is on the interface that is called lte now", shaped("lte"))
	for i, name := range []string{"lte", "dsl"} {
		sees(t, p.cpe, name, "is up on the other line", func(s *api.PathState) bool { return isUp(s) && s.Address4 == n.Lines[i].CPE4 })
	}
	for _, f := range families {
		p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
	}

	renamed(t, n, "lte away", "dsl lte", "away dsl")
	restored(t, n, 0, "dsl")
	restored(t, n, 1, "lte")
	for i, name := range []string{"dsl", "lte"} {
		sees(t, p.cpe, name, "is up on its own line", func(s *api.PathState) bool { return isUp(s) && s.Address4 == n.Lines[i].CPE4 })
	}
	p.bonded(t, "with the old names")

	renamed(t, n, "lte away")
	eventually(t, "no rate is on what was lte", shaped())
	eventually(t, "subflows have ended", func() bool { return pathOf(t, p.cpe, "lte").Subflows == 0 })
	renamed(t, n, "away lte")
	restored(t, n, 1, "lte")
	eventually(t, "the rate is on lte again", shaped("lte"))
	sees(t, p.cpe, "lte", "is up after a return", isUp)
	p.bonded(t, "after a return")

	admin(t, n.CPE, "ip link set lte down && ip link set lte name away && ip link set away up")
	p.down(t)
	renamed(t, n, "away lte")
	same(t, before, queueing(t, n.CPE))
	admin(t, n.CPE, "! ip rule | grep 'lookup 91'", "! ip -6 rule | grep 'lookup 91'", "! nft list ruleset | grep synbond")
}
