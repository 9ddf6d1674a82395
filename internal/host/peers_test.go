//go:build linux

package host

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/ruleset"
)

// Addresses of a HAG with two paths, and of a CPE on each.
var (
	hagDSL, hagLTE = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	cpeDSL, cpeLTE = netip.MustParseAddr("192.0.2.77"), netip.MustParseAddr("10.64.0.9")
)

// twoPaths is a HAG with a join address on one of two paths, that hears a CPE by both.
func twoPaths() (double, Survey) {
	d := router()
	d.addresses = map[string][]netip.Prefix{"dsl": {netip.PrefixFrom(hagDSL, 24)}, "lte": {netip.PrefixFrom(hagLTE, 24)}}
	d.links = map[string]paths.Link{"dsl": {Index: 2}, "lte": {Index: 3}}
	return d, Survey{
		HAG: true, Running: true, Paths: []paths.Path{{Name: "dsl", Interface: "dsl"}, {Name: "lte", Interface: "lte"}},
		Join:  []netip.AddrPort{netip.AddrPortFrom(hagLTE, 9000)},
		Peers: []Peer{{Addr: cpeDSL, Interface: "dsl"}, {Addr: cpeLTE, Interface: "lte"}},
	}
}

// TestJoinsAreJudgedByThePeersOfTheirPath has a filter drop what comes in by another
// interface than that of the route back: no CPE does that.
func TestJoinsAreJudgedByThePeersOfTheirPath(t *testing.T) {
	d, s := twoPaths()
	asked := make(map[string]bool)
	d.hook = func(h ruleset.Hook, p ruleset.Packet) ruleset.Outcome {
		if h == ruleset.Prerouting && p.In != "lo" {
			from, _ := netip.AddrFromSlice(p.Data[12:16])
			asked[from.String()+" by "+p.In] = true
		}
		return ruleset.Outcome{}
	}
	s.Surroundings = d
	for _, r := range s.Check(Everything) {
		check(t, r.Err)
	}
	for _, want := range []string{cpeDSL.String() + " by dsl", cpeLTE.String() + " by lte"} {
		if !asked[want] {
			t.Errorf("not asked: %s", want)
		}
	}
	for _, other := range []string{cpeDSL.String() + " by lte", cpeLTE.String() + " by dsl"} {
		if asked[other] {
			t.Errorf("asked in vain: %s", other)
		}
	}
}

func TestStrictFilterOfAHAGIsNamedWhenACPEIsMissing(t *testing.T) {
	for _, c := range []struct {
		name     string
		filtered netip.Addr
		missing  bool
		want     []string
	}{
		{"no filter, and the CPE is missing", netip.Addr{}, true, nil},
		{"a filter, and the CPE is heard", cpeLTE, false, nil}, // it comes in elsewhere
		{"a filter, and the CPE is missing", cpeLTE, true, []string{"reverse-path-filter on lte: sysctl net.ipv4.conf.lte.rp_filter=2"}},
		{"a filter for another CPE", cpeDSL, true, nil},
	} {
		d, s := twoPaths()
		d.filtered, s.Peers[1].Missing = c.filtered, c.missing
		s.Surroundings = d
		var got []string
		for _, r := range s.Check(Everything) {
			check(t, r.Err)
			for _, f := range r.Findings {
				remedy, _, _ := strings.Cut(f.Remedy, ",")
				got = append(got, f.ID+" on "+f.Path+": "+remedy)
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: found %q, want %q", c.name, got, c.want)
		}
	}
}
