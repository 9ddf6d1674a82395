//go:build linux

package tests

import (
	"fmt"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/tooltest"
)

// heard waits until the HAG has heard the CPE at that many addresses.
func (p *pair) heard(t *testing.T, addresses int) {
	t.Helper()
	eventually(t, "the HAG hears the CPE", func() bool {
		peers := pathsOf(t, p.hag).Peers
		return len(peers) == 1 && len(peers[0].Paths) == addresses
	})
}

// TestFilterOfAHAGThatDropsNothingIsNotNamed gives a HAG a reverse-path filter of nftables. The
// probes of both paths go to the join address at the end of the second line, and come in by
// their own line.
func TestFilterOfAHAGThatDropsNothingIsNotNamed(t *testing.T) {
	t.Parallel()
	p := neighbours(t)
	p.heard(t, 4)
	ruleset(t, p.HAG, "chain c { type filter hook prerouting priority raw; iifname { dsl, lte } fib saddr . iif oif missing drop; }")
	time.Sleep(3 * time.Second) // longer than the time to a look at the rules
	if got := findings(t, p.hag); len(got) != 0 {
		t.Errorf("the HAG finds %v", got)
	}
	for _, s := range pathsOf(t, p.cpe).Paths {
		if !isUp(s.PathState) {
			t.Errorf("path %+v", s.PathState)
		}
	}
}

// TestStrictFilterOfAHAGIsNamed has a HAG's route to an address of a CPE lead to another path.
func TestStrictFilterOfAHAGIsNamed(t *testing.T) {
	long(t)
	t.Parallel()
	tooltest.Need(t, "the boxes beside a strict filter", "ip", "sysctl", "sh")
	p := neighbours(t)
	p.heard(t, 4)
	dsl, lte := p.Lines[0], p.Lines[1]
	admin(t, p.HAG, fmt.Sprintf("ip route add %s/32 via %s dev dsl onlink", lte.CPE4, dsl.CPE4))
	time.Sleep(3 * time.Second)
	if got := findings(t, p.hag); len(got) != 0 {
		t.Errorf("without a strict filter the HAG finds %v", got)
	}
	p.wantFinding(t, p.hag, "reverse-path-filter",
		func() { admin(t, p.HAG, "sysctl -qw net.ipv4.conf.lte.rp_filter=1") }, func() { admin(t, p.HAG, "sysctl -qw net.ipv4.conf.lte.rp_filter=2") })
}
