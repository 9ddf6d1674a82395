//go:build linux

package box

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
)

func cpe() Config {
	return Config{Role: CPE, Policy: &core.Policy{}, Plain: []string{"lan"}, Paths: []paths.Path{
		{Name: "dsl", Interface: "ppp0", Join: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:7100")}},
		{Name: "lte", Interface: "wwan0"},
	}}
}

func hag() Config {
	return Config{
		Role: HAG, Policy: &core.Policy{}, Plain: []string{"wan"}, Paths: []paths.Path{{Name: "dsl", Interface: "eth1"}},
		Join: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:7100"), netip.MustParseAddrPort("192.0.2.1:7100")},
	}
}

func TestConfigurationSaysWhatIsWrongWithIt(t *testing.T) {
	join := func(s string) []netip.AddrPort { return []netip.AddrPort{netip.MustParseAddrPort(s)} }
	cases := []struct {
		name   string
		base   func() Config
		change func(*Config)
		want   string // "": nothing is wrong
	}{
		{"a CPE", cpe, func(*Config) {}, ""},
		{"a HAG", hag, func(*Config) {}, ""},
		{"a CPE without a join address has one path's worth", cpe, func(c *Config) { c.Paths[0].Join = nil }, ""},
		{"own-source4 on a CPE", cpe, func(c *Config) { c.OwnSource4 = true }, ""},
		{"no plain interface", cpe, func(c *Config) { c.Plain = nil }, "no plain interface: name one with --plain"},
		{"no path", cpe, func(c *Config) { c.Paths = nil }, "no path: name one with --path"},
		{"own-source4 on a HAG", hag, func(c *Config) { c.OwnSource4 = true }, "own-source4 is for a CPE"},
		{"a plain interface twice", cpe, func(c *Config) { c.Plain = []string{"lan", "lan"} }, "interface lan is named twice"},
		{"an interface on both sides", cpe, func(c *Config) { c.Plain = []string{"ppp0"} }, "interface ppp0 is named twice"},
		{"one interface for two paths", cpe, func(c *Config) { c.Paths[1].Interface = "ppp0" }, "interface ppp0 is named twice"},
		{"two paths of one name", cpe, func(c *Config) { c.Paths[1].Name = "dsl" }, `two paths are named "dsl"`},
		{"a HAG without a join address", hag, func(c *Config) { c.Join = nil }, "no join address: name one per address family with --join ADDR:PORT"},
		{"a HAG whose path has one", hag, func(c *Config) { c.Paths[0].Join = join("192.0.2.1:1") }, "path dsl: join= is for a CPE"},
		{"two join addresses of a family", hag, func(c *Config) { c.Join[1] = c.Join[0] }, "one of this address family already"},
		{"a join address without a port", hag, func(c *Config) { c.Join = join("192.0.2.1:0") }, "join address 192.0.2.1:0"},
		{"a join address that is none", hag, func(c *Config) { c.Join = join("[::]:7100") }, "join address [::]:7100"},
		{"no join address at all", cpe, func(c *Config) { c.Paths[0].Join = []netip.AddrPort{{}} }, "join address invalid AddrPort"},
		{"a path that overflows", cpe, func(c *Config) { c.Paths[1].Mode, c.Paths[1].Busy.Rate = paths.Overflow, 16e6 }, ""},
		{"but nobody knows when", cpe, func(c *Config) { c.Paths[1].Mode = paths.Overflow }, "path lte: mode overflow"},
		{"a quota without a period", cpe, func(c *Config) { c.Paths[1].Quota.Bytes = 1 }, "path lte: quota"},
		{"a HAG's path of a mode", hag, func(c *Config) { c.Paths[0].Mode = paths.Standby }, "path dsl: modes, quotas and rates are for a CPE"},
		{"a HAG's path with a quota", hag, func(c *Config) { c.Paths[0].Quota = paths.Quota{Bytes: 1, Period: paths.Day} }, "path dsl: modes, quotas and rates are for a CPE"},
		{"a HAG's path with a rate", hag, func(c *Config) { c.Paths[0].Rate = 1e6 }, "path dsl: modes, quotas and rates are for a CPE"},
		{"a HAG's rule about paths", hag, func(c *Config) { c.Policy.Rules = []core.Rule{{Subflows: core.SubflowPolicy{After: 1}}} }, "rules with paths or after are for a CPE"},
		{"nine paths", cpe, func(c *Config) {
			for _, name := range strings.Split("abcdefg", "") {
				c.Paths = append(c.Paths, paths.Path{Name: name, Interface: name})
			}
		}, "9 paths"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := c.base()
			c.change(&cfg)
			err := cfg.Validate()
			switch {
			case err == nil && c.want == "":
			case err == nil || c.want == "" || !strings.Contains(err.Error(), c.want):
				t.Errorf("Validate gives %v, want %q", err, c.want)
			case strings.Contains(err.Error(), "\n"):
				t.Errorf("the error has more than one line: %q", err)
			}
		})
	}
}

func TestRulesKnowWhereTheHAGTakesJoins(t *testing.T) {
	near, far := netip.MustParseAddrPort("[2001:db8:f::1]:9000"), netip.MustParseAddrPort("[2001:db8:f::2]:9000")
	c := cpe()
	c.Paths[0].Join, c.Paths[1].Join = []netip.AddrPort{near}, []netip.AddrPort{far, near}
	if r := c.Rules(nfq.Listeners{}, new(core.Policy)); r.AcceptJoins || !slices.Equal(r.Joins, []netip.AddrPort{near, far}) {
		t.Errorf("a CPE has %v, takes them: %v", r.Joins, r.AcceptJoins)
	}
	h := hag()
	h.Join = []netip.AddrPort{near}
	if r := h.Rules(nfq.Listeners{}, new(core.Policy)); !r.AcceptJoins || !slices.Equal(r.Joins, h.Join) {
		t.Errorf("a HAG has %v, takes them: %v", r.Joins, r.AcceptJoins)
	}
}

func TestRulesNameTheInterfacesOfBothSides(t *testing.T) {
	cfg := cpe()
	cfg.Queue = 5
	at := []netip.AddrPort{netip.MustParseAddrPort("[::1]:7000")}
	listeners := nfq.Listeners{Plain: at, Paths: at}
	got := cfg.Rules(listeners, new(core.Policy))
	want := nfq.Rules{Role: "cpe", Plain: []string{"lan"}, Paths: []string{"ppp0", "wwan0"}, Queue: 5, Listeners: listeners, Joins: got.Joins}
	if got.String() != want.String() {
		t.Errorf("rules\n%s\nwant\n%s", got, want)
	}
}

func TestInterfaceThatIsNotThereIsNamed(t *testing.T) {
	cfg := cpe()
	if err := cfg.interfaces(); err == nil || !strings.Contains(err.Error(), "interface lan: there is no such interface") {
		t.Errorf("interfaces gives %v", err)
	}
}

func TestCPEWithoutAJoinAddressBondsNothing(t *testing.T) {
	join := cpe().Paths[0].Join
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   bool
	}{
		{"further path with a join address", func(c *Config) { c.Paths[1].Join = join }, false},
		{"further path without one", func(*Config) {}, true},
		{"one path", func(c *Config) { c.Paths = c.Paths[:1] }, false},
	} {
		cfg := cpe()
		c.change(&cfg)
		if got := cfg.bondsNothing(); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if cfg := hag(); cfg.bondsNothing() {
		t.Error("a HAG takes joins, and needs no address in its paths")
	}
}
