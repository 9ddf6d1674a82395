//go:build linux

package host

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/paths"
)

// twoModems makes a host with the interfaces dsl and lte.
func twoModems(t *testing.T) *netlab.Host {
	t.Helper()
	netlabtest.Require(t)
	leftOver(t)
	var hosts [2]*netlab.Host
	for i := range hosts {
		h, err := netlab.NewHost("modem")
		check(t, err)
		t.Cleanup(func() { check(t, h.Close()) })
		hosts[i] = h
	}
	for _, name := range []string{"dsl", "lte"} {
		check(t, netlab.Connect(hosts[0], name, hosts[1], name))
	}
	return hosts[0]
}

// sourceByLTE returns the local end of packets to dst by the interface lte.
func sourceByLTE(t *testing.T, h *netlab.Host, dst string) (s paths.Source) {
	t.Helper()
	check(t, h.Do(func() error {
		m := &Machine{}
		if err := m.read(); err != nil {
			return err
		}
		s = m.Source(netip.MustParseAddr(dst), m.Link("lte").Index)
		return nil
	}))
	return s
}

// routing is the addresses and routes of a host, as words: "lte ADDR/LEN" is an address,
// "lte via ADDR METRIC TABLE" a default route, "from ADDR TABLE" and "mark 0x100 TABLE" policy
// rules.
func routing(t *testing.T, h *netlab.Host, lines ...string) {
	t.Helper()
	numbers := map[string]int{"-": 0, "100": 100, "200": 200, "1": 1, "2": 2}
	for _, line := range lines {
		w := strings.Fields(line)
		switch {
		case w[0] == "mark":
			check(t, h.Netlink(func(nl *netlink.Handle) error {
				r := netlink.NewRule()
				r.Family, r.Mark, r.Table, r.Priority = netlink.FAMILY_V4, 0x100, numbers[w[2]], 50
				return nl.RuleAdd(r)
			}))
		case w[0] == "from":
			check(t, h.AddSourceRule(netip.MustParseAddr(w[1]), numbers[w[2]], 50))
		case w[1] == "via":
			via := netip.MustParseAddr(w[2])
			any := netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			if via.Is4() {
				any = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			}
			check(t, h.AddRoute(netlab.Route{To: any, Via: via, Dev: w[0], Metric: numbers[w[3]], Table: numbers[w[4]]}))
		default:
			p := netip.MustParsePrefix(w[1])
			check(t, h.AddAddress(w[0], p))
			check(t, h.AddRoute(netlab.Route{To: p.Masked(), Dev: w[0]}))
		}
	}
}

func TestSourceIsTheKernelsChoice(t *testing.T) {
	const six, four = "2001:db8:f::2", "203.0.113.2"
	for _, c := range []struct {
		name  string
		lines []string
		dst   string
		want  string
	}{
		{"a unique local address added last", []string{"lte 2001:db8:32::2/64", "lte fdff::2/64", "lte via fdff::1 200 -"}, six, "2001:db8:32::2"},
		{"a unique local address added first", []string{"lte fdff::2/64", "lte 2001:db8:32::2/64", "lte via fdff::1 200 -"}, six, "2001:db8:32::2"},
		{"only by policy rules", []string{
			"lte 2001:db8:32::2/64", "lte fdff::2/64", "lte via fdff::1 200 2", "from fdff::2 2", "from 2001:db8:32::2 2",
		}, six, "2001:db8:32::2"},
		{"only by a rule for the other address", []string{"lte 2001:db8:32::2/64", "lte fdff::2/64", "lte via fdff::1 200 2", "from fdff::2 2"}, six, "fdff::2"},
		{"the modem's own network first", []string{"lte 192.168.8.100/24", "lte 10.32.1.2/30", "lte via 10.32.1.1 200 -"}, four, "10.32.1.2"},
		{"the modem's own network last", []string{"lte 10.32.1.2/30", "lte 192.168.8.100/24", "lte via 10.32.1.1 200 -"}, four, "10.32.1.2"},
		{"two networks, only by policy rules", []string{
			"lte 192.168.8.100/24", "lte 10.32.1.2/30", "lte via 10.32.1.1 200 2", "from 192.168.8.100 2", "from 10.32.1.2 2",
		}, four, "10.32.1.2"},
		{"two networks, a rule for one", []string{"lte 192.168.8.100/24", "lte 10.32.1.2/30", "lte via 10.32.1.1 200 2", "from 10.32.1.2 2"}, four, "10.32.1.2"},
		{"beside a better line", []string{
			"dsl 198.51.100.2/24", "dsl via 198.51.100.1 100 -", "lte 10.32.1.2/30", "lte via 10.32.1.1 200 -",
		}, four, "10.32.1.2"},
		{"two lines with one address", []string{
			"dsl 192.168.8.100/24", "dsl via 192.168.8.1 100 -", "lte 192.168.8.100/24", "lte via 192.168.8.1 200 -",
		}, four, "192.168.8.100"},
		{"no route by the interface", []string{"dsl 198.51.100.2/24", "dsl via 198.51.100.1 100 -", "lte 10.32.1.2/30"}, four, ""},
		{"no IPv6 route by the interface", []string{"dsl fd01::2/64", "dsl via fd01::1 100 -", "lte fdff::2/64"}, six, ""},
		{"no address of the family", []string{"lte 10.32.1.2/30", "lte via 10.32.1.1 200 -"}, six, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := twoModems(t)
			routing(t, h, c.lines...)
			var want netip.Addr
			if c.want != "" {
				want = netip.MustParseAddr(c.want)
			}
			if got := sourceByLTE(t, h, c.dst); got.Addr != want {
				t.Errorf("from %v, want %v", got.Addr, want)
			}
		})
	}
}

func TestSourceFollowsRoutesRulesAndSettings(t *testing.T) {
	h := twoModems(t)
	routing(t, h, "dsl 198.51.100.2/24", "dsl via 198.51.100.1 100 -", "lte 10.32.1.2/30", "lte 192.168.8.100/24", "lte via 10.32.1.1 200 -")
	m := machine(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	done := netlabtest.Inside(t, h, func() error { return m.Watch(ctx, true) })
	dst := netip.MustParseAddr("203.0.113.2")
	for _, c := range []struct {
		name   string
		change func()
		from   string
		filter string
	}{
		{"as built", func() {}, "10.32.1.2", ""},
		{"another gateway", func() { routing(t, h, "lte via 192.168.8.1 200 -") }, "192.168.8.100", ""},
		{"a strict filter", func() { check(t, h.Sysctl("net.ipv4.conf.lte.rp_filter", "1")) }, "192.168.8.100", "net.ipv4.conf.lte.rp_filter=1"},
		{"a rule for the way back", func() { routing(t, h, "lte via 192.168.8.1 200 2", "from 192.168.8.100 2") }, "192.168.8.100", ""},
	} {
		changed := m.Changed()
		c.change()
		eventually(t, c.name+" is not followed", func() (as bool) {
			check(t, h.Do(func() error {
				s := m.Source(dst, m.Link("lte").Index)
				as = s.Addr.String() == c.from && s.Filter == c.filter
				return nil
			}))
			return as
		})
		<-changed // nobody would ask again without it
	}
	cancel()
	check(t, <-done)
}

func TestStrictReversePathFilterIsNamed(t *testing.T) {
	two := []string{"dsl 198.51.100.2/24", "dsl via 198.51.100.1 100 -", "lte 10.32.1.2/30", "lte via 10.32.1.1 200 -"}
	marked := append(slices.Clone(two), "lte via 10.32.1.1 200 2", "mark 0x100 2")
	for _, c := range []struct {
		name        string
		routes      []string
		settings    []string
		filter      string
		markMatters bool
	}{
		{"off", two, []string{"all.rp_filter=0", "lte.rp_filter=0"}, "", false},
		{"of the interface", two, []string{"all.rp_filter=0", "lte.rp_filter=1"}, "net.ipv4.conf.lte.rp_filter=1", false},
		{"of all interfaces", two, []string{"all.rp_filter=1", "lte.rp_filter=0"}, "net.ipv4.conf.all.rp_filter=1", false},
		{"loose here", two, []string{"all.rp_filter=1", "lte.rp_filter=2"}, "", false},
		{"with marks that lead nowhere", two, []string{"all.src_valid_mark=1", "all.rp_filter=1"}, "net.ipv4.conf.all.rp_filter=1", false},
		{"with a mark that leads back", marked, []string{"all.src_valid_mark=1", "all.rp_filter=1"}, "net.ipv4.conf.all.rp_filter=1", true},
		{"with marks that are not looked at", marked, []string{"all.src_valid_mark=0", "all.rp_filter=1"}, "net.ipv4.conf.all.rp_filter=1", false},
		{"beside a rule for the source", append(slices.Clone(two), "lte via 10.32.1.1 200 2", "from 10.32.1.2 2"), []string{"all.rp_filter=1"}, "", false},
		{"on the better line", []string{"lte 10.32.1.2/30", "lte via 10.32.1.1 100 -"}, []string{"all.rp_filter=1"}, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := twoModems(t)
			routing(t, h, c.routes...)
			for _, s := range c.settings {
				key, value, _ := strings.Cut(s, "=")
				check(t, h.Sysctl("net.ipv4.conf."+key, value))
			}
			s := sourceByLTE(t, h, "203.0.113.2")
			if s.Filter != c.filter || s.MarkMatters != c.markMatters || s.Usable() == (c.filter != "" && !c.markMatters) {
				t.Errorf("%+v, want the filter %q", s, c.filter)
			}
			if c.filter != "" && s.FilterRemedy != "net.ipv4.conf.lte.rp_filter=2" {
				t.Errorf("the remedy is %q", s.FilterRemedy)
			}
		})
	}
}

func TestAddressThatIsRemovedAndAddedAgainIsNoticed(t *testing.T) {
	h := twoModems(t)
	a := netip.MustParsePrefix("10.32.1.2/30")
	routing(t, h, "lte "+a.String(), "lte 2001:db8:32::2/64")
	m := machine(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	done := netlabtest.Inside(t, h, func() error { return m.Watch(ctx, false) })
	other := netip.MustParseAddr("10.32.1.77")
	check(t, h.AddAddress("lte", netip.PrefixFrom(other, 32))) // the watch knows it: it has begun
	eventually(t, "the watch does not begin", func() bool { return slices.Contains(m.Link("lte").Addrs, other) })
	for _, p := range []netip.Prefix{a, netip.MustParsePrefix("2001:db8:32::2/64")} {
		before := m.Link("lte")
		check(t, h.Netlink(func(nl *netlink.Handle) error {
			lte, err := nl.LinkByName("lte")
			if err != nil {
				return err
			}
			addr, err := netlink.ParseAddr(p.String())
			if err != nil {
				return err
			}
			return nl.AddrDel(lte, addr)
		}))
		check(t, h.AddAddress("lte", p))
		eventually(t, p.String()+" counts as never away", func() bool { return m.Link("lte").Lost(before, []netip.Addr{p.Addr()}) })
		if m.Link("lte").Lost(before, []netip.Addr{other}) {
			t.Error("another address counts as away")
		}
	}
	cancel()
	check(t, <-done)
}

func TestPortsOfBridgesAreKnown(t *testing.T) {
	h := twoModems(t)
	check(t, h.Netlink(func(nl *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = "bridge"
		bridge := &netlink.Bridge{LinkAttrs: attrs}
		if err := nl.LinkAdd(bridge); err != nil {
			return err
		}
		lte, err := nl.LinkByName("lte")
		if err != nil {
			return err
		}
		return nl.LinkSetMaster(lte, bridge)
	}))
	m := machine(t, h)
	for name, want := range map[string]string{"lte": "bridge", "dsl": "", "bridge": ""} {
		if got := m.Link(name).Master; got != want {
			t.Errorf("%s is a port of %q, want %q", name, got, want)
		}
	}
}
