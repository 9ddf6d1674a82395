package paths

import (
	"net/netip"
	"testing"
)

func TestObstaclesOfAPathAreNamedByFamily(t *testing.T) {
	join6, join4 := netip.MustParseAddrPort("[2001:db8:fe::1]:7100"), netip.MustParseAddrPort("203.0.113.1:7100")
	from6, from4 := Source{Addr: netip.MustParseAddr("2001:db8:20::2")}, Source{Addr: netip.MustParseAddr("198.51.100.2")}
	strict := from4
	strict.Filter, strict.FilterRemedy = "all.rp_filter=1", "lte.rp_filter=2"
	perhaps := strict
	perhaps.MarkMatters = true
	const drops = "all.rp_filter=1 drops the answers: set lte.rp_filter=2"
	both, only4 := link(3, "2001:db8:20::2", "198.51.100.2"), link(3, "198.51.100.2")
	for _, c := range []struct {
		name               string
		link               Link
		six, four          Reach
		want6, want4, none string
	}{
		{"both families work", both, Reach{Join: join6, Source: from6}, Reach{Join: join4, Source: from4}, "", "", ""},
		{"no IPv6 address", only4, Reach{Join: join6}, Reach{Join: join4, Source: from4}, "no address", "", ""},
		{"no IPv6 route", both, Reach{Join: join6}, Reach{Join: join4, Source: from4}, "no route to the join address", "", ""},
		{"no answer over IPv4", both, Reach{Join: join6, Source: from6}, Reach{Join: join4, Source: from4, Silent: true}, "", "no answer to probes", ""},
		{"probes over IPv6 are refused", both, Reach{Join: join6, Source: from6, Refused: true}, Reach{Join: join4, Source: from4}, "probes are refused", "", ""},
		{"a strict filter", both, Reach{Join: join6, Source: from6}, Reach{Join: join4, Source: strict}, "", drops, ""},
		{"a strict filter on the only family", only4, Reach{}, Reach{Join: join4, Source: strict}, "", drops, drops},
		{"a strict filter, and no IPv6 address", only4, Reach{Join: join6}, Reach{Join: join4, Source: strict}, "no address", drops, drops},
		{"a filter that marks may pass", both, Reach{Join: join6, Source: from6}, Reach{Join: join4, Source: perhaps}, "", "", ""},
		{"a filter that marks do not pass", both, Reach{Join: join6, Source: from6}, Reach{Join: join4, Source: perhaps, Silent: true}, "", drops, ""},
		{"no route at all", both, Reach{Join: join6}, Reach{Join: join4}, "no route to the join address", "no route to the join address", "no route to the join address"},
		{"no join address", both, Reach{}, Reach{}, "", "", ""},
		{"no join address, and no address", link(3), Reach{}, Reach{}, "", "", "no address"},
	} {
		reasons, fault := c.link.Reaches([2]Reach{c.six, c.four})
		if want := [2]string{c.want6, c.want4}; reasons != want || fault != c.none {
			t.Errorf("%s: %q and %q, want %q and %q", c.name, reasons, fault, want, c.none)
		}
	}
}

func TestLinkNamesItsNearestFault(t *testing.T) {
	port := link(3, "198.51.100.2")
	port.Master = "br0"
	for _, c := range []struct {
		link Link
		want string
	}{
		{Link{}, "no interface"},
		{Link{Index: 3}, "interface is down"},
		{port, "port of br0: name br0 in its place"},
		{Link{Index: 3, Enabled: true}, "no carrier"},
		{link(3, "198.51.100.2"), "no route"},
	} {
		if got := c.link.Fault("no route"); got != c.want {
			t.Errorf("%+v: %q, want %q", c.link, got, c.want)
		}
	}
}
