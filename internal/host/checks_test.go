//go:build linux

package host

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/ruleset"
	"github.com/synbond/synbond/nfq"
)

// double is a machine of these settings.
type double struct {
	sysctls, files map[string]string
	addresses      map[string][]netip.Prefix
	routes         map[netip.Addr]string // by destination
	hook           func(h ruleset.Hook, p ruleset.Packet) ruleset.Outcome
	links          map[string]paths.Link
	source         paths.Source  // of all that is sent
	age            time.Duration // of this version
	filtered       netip.Addr    // by reverse-path filters
}

func (d double) Sysctl(key string) (string, error) {
	if v, ok := d.sysctls[key]; ok {
		return v, nil
	}
	return "", os.ErrNotExist
}

func (d double) Now() time.Time { return Released.Add(d.age) }

func (d double) File(name string) (string, error) {
	if v, ok := d.files[name]; ok {
		return v, nil
	}
	return "", os.ErrNotExist
}

func (d double) Addresses(ifname string) []netip.Prefix { return d.addresses[ifname] }

func (d double) Route(dst, _ netip.Addr) string { return d.routes[dst] }

func (d double) Filter() (Filter, error)       { return d, nil }
func (d double) MarkRules(bool) []nfq.MarkRule { return nil }

// Hook implements [Filter].
func (d double) Hook(h ruleset.Hook, p ruleset.Packet, _ int, _ string) ruleset.Outcome {
	if d.hook == nil {
		return ruleset.Outcome{}
	}
	return d.hook(h, p)
}

func (d double) Network() (Network, error) { return d, nil }

func (d double) Link(name string) paths.Link { return d.links[name] }

func (d double) Source(netip.Addr, int) paths.Source { return d.source }

// Drops drops what comes from d.filtered by the path.
func (d double) Drops(remote, _ netip.Addr, ifname string) (filter, remedy string) {
	if remote == d.filtered {
		return "net.ipv4.conf." + ifname + ".rp_filter=1", "net.ipv4.conf." + ifname + ".rp_filter=2"
	}
	return "", ""
}

// tracked sets the figures of connection tracking.
func (d double) tracked(count, most string) {
	d.sysctls["net/netfilter/nf_conntrack_count"], d.sysctls["net/netfilter/nf_conntrack_max"] = count, most
}

// router has nothing in a box's way.
func router() double {
	lte := netip.MustParseAddr("198.51.100.2")
	return double{
		sysctls:   map[string]string{"net/ipv6/conf/all/forwarding": "1", "net/ipv4/ip_forward": "1"},
		addresses: map[string][]netip.Prefix{"lan": {netip.MustParsePrefix("192.168.1.1/24")}},
		links:     map[string]paths.Link{"lan": {Index: 2}, "lte": {Index: 3, Carrier: true, Usable: []netip.Addr{lte}}},
		source:    paths.Source{Addr: lte},
	}
}

func TestChecksFindEachObstacle(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*double)
		want   []string
	}{
		{"a router", func(*double) {}, nil},
		{"no IPv4", func(d *double) { delete(d.sysctls, "net/ipv4/ip_forward") }, []string{"no-family IPv4"}},
		{"no router", func(d *double) {
			d.sysctls["net/ipv4/ip_forward"], d.sysctls["net/ipv6/conf/all/forwarding"] = "0", "0"
		},
			[]string{"not-forwarding IPv6", "not-forwarding IPv4"}},
		{"no interface of that name", func(d *double) { delete(d.links, "lan") }, []string{"no-interface lan"}},
		{"a path without an interface", func(d *double) { delete(d.links, "lte") }, []string{"no-interface lte on mobile"}},
		{"a port of a bridge", func(d *double) { d.links["lan"] = paths.Link{Index: 2, Master: "br0"} }, []string{"port-of-master lan"}},
		{"a strict filter", func(d *double) { d.source.Filter = "net.ipv4.conf.all.rp_filter=1" }, []string{"reverse-path-filter lte on mobile"}},
		{"no route to the join address", func(d *double) { d.source = paths.Source{} }, []string{"no-join-route IPv4 on mobile"}},
		{"a filter that marks may pass", func(d *double) { d.source.Filter, d.source.MarkMatters = "net.ipv4.conf.all.rp_filter=1", true }, nil},
		{"IPv4 off on an interface", func(d *double) { d.sysctls["net/ipv4/conf/lte/forwarding"] = "0" }, []string{"not-forwarding net/ipv4/conf/lte/forwarding on mobile"}},
		{"IPv6 off on an interface", func(d *double) { d.sysctls["net/ipv6/conf/lan/disable_ipv6"] = "1" }, []string{"no-family net/ipv6/conf/lan/disable_ipv6"}},
		{"cookies for all", func(d *double) { d.sysctls["net/ipv4/tcp_syncookies"] = "2" }, []string{"syn-cookies net/ipv4/tcp_syncookies"}},
		{"cookies when needed", func(d *double) { d.sysctls["net/ipv4/tcp_syncookies"] = "1" }, nil},
		{"resets for want of room", func(d *double) { d.sysctls["net/ipv4/tcp_abort_on_overflow"] = "1" }, []string{"abort-on-overflow net/ipv4/tcp_abort_on_overflow"}},
		{"windows that shrink", func(d *double) { d.sysctls["net/ipv4/tcp_shrink_window"] = "1" }, []string{"shrink-window net/ipv4/tcp_shrink_window"}},
		{"a short queue", func(d *double) { d.sysctls["net/core/somaxconn"] = "128" }, []string{"small-queue net/core/somaxconn"}},
		{"a queue that is no number", func(d *double) { d.sysctls["net/core/somaxconn"] = "" }, nil},
		{"no MPTCP", func(d *double) { d.sysctls["net/mptcp/enabled"] = "0" }, []string{"mptcp-off net/mptcp/enabled"}},
		{"room for connections", func(d *double) { d.tracked("949", "1000") }, nil},
		{"no room for connections", func(d *double) { d.tracked("950", "1000") }, []string{"tracking-full "}},
		{"a clock that was not set", func(d *double) { d.age = -time.Second }, []string{"wrong-clock "}},
		{"a closed firewall", func(d *double) {
			d.hook = func(h ruleset.Hook, _ ruleset.Packet) ruleset.Outcome {
				return ruleset.Outcome{Dropped: h == ruleset.Input, By: ruleset.By{Chain: "inet fw"}}
			}
		}, []string{"loop-drops the policy of the chain inet fw", "input-drops the policy of the chain inet fw"}},
	} {
		d, got := router(), []string(nil)
		c.change(&d)
		at := Survey{Surroundings: d, Running: true, Plain: []string{"lan"}, Paths: []paths.Path{{
			Name: "mobile", Interface: "lte", Join: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:9000")},
		}}}
		for _, r := range at.Check(Everything) {
			check(t, r.Err)
			for _, f := range r.Findings {
				line := f.ID + " " + f.Subject
				if f.Path != "" {
					line += " on " + f.Path
				}
				got = append(got, line)
				if f.Obstacle == "" || f.Consequence == "" || f.Remedy == "" || f.Severity == "" {
					t.Errorf("%s: %+v is not complete", c.name, f)
				}
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestDropsOfConnectionTrackingAreCounted(t *testing.T) {
	d := router()
	d.tracked("1000", "1000")
	d.files = map[string]string{"/proc/thread-self/net/stat/nf_conntrack": "entries  found drop early_drop error\n00000010 00000000 0000000a 00000001 0\n00000010 00000000 00000001 00000000 0\n"}
	found, err := Survey{Surroundings: d}.tracking()
	check(t, err)
	if len(found) != 1 || !strings.Contains(found[0].Obstacle, "and 12 packets were dropped") {
		t.Errorf("%+v", found)
	}
}

func TestCheckThatPanicsIsOneThatCouldNotLook(t *testing.T) {
	r := Survey{}.result("odd", func(Survey) ([]Finding, error) {
		var none []Finding
		return none[1:2], nil
	})
	if r.Name != "odd" || r.Err == nil || r.Findings != nil {
		t.Errorf("result %+v", r)
	}
}
