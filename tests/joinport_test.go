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

// TestFilteredJoinPortIsNamed drops what goes to the join port over the second line, by
// protocol. Connections over the first line go on meanwhile.
func TestFilteredJoinPortIsNamed(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "a filter on a line", "nft", "sh")
	for _, c := range []struct {
		protocol, finding string
		subflows          bool // the line has some nevertheless
	}{{"udp", "probes-unanswered", true}, {"tcp", "refuses-subflows", false}} {
		t.Run(c.protocol, func(t *testing.T) {
			n := netlabtest.Build(t, twoLines)
			admin(t, n.Line("lte").Router(), "nft 'add table inet filter; add chain inet filter forward { type filter hook forward priority 0; }'",
				fmt.Sprintf("nft 'add rule inet filter forward %s dport %d drop'", c.protocol, netlab.JoinPort))
			p := start(t, n)
			conn := newPrompter(t, n, families[0])
			sees(t, p.cpe, "lte", "is up, with subflows or without", func(s *api.PathState) bool {
				return s.State == "up" && s.Probed != c.subflows && s.Subflows > 0 == c.subflows
			})
			want := fmt.Sprintf("%s port %d of ", strings.ToUpper(c.protocol), netlab.JoinPort)
			eventually(t, "the finding", func() bool {
				for _, f := range pathsOf(t, p.cpe).Findings {
					if f.ID == c.finding && f.Path == "lte" && strings.Contains(f.Obstacle, want) {
						return true
					}
				}
				return false
			})
			conn.speak(t, "over the first line")
			if log := strings.Join(p.cpe.Log(), "\n"); strings.Count(log, "finding="+c.finding) != 1 {
				t.Errorf("the log names %s not once:\n%s", c.finding, log)
			}
		})
	}
}

// TestPathsWhoseProbesBecomeFilteredAreUsed drops UDP to the join port over both lines while
// the boxes run.
func TestPathsWhoseProbesBecomeFilteredAreUsed(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "a filter on a line", "nft", "sh")
	p := start(t, netlabtest.Build(t, twoLines))
	for _, name := range []string{"dsl", "lte"} {
		sees(t, p.cpe, name, "is up", isUp)
		middlebox(t, p.Line(name).Router(), fmt.Sprintf("udp dport %d drop", netlab.JoinPort))
	}
	conn := newPrompter(t, p.Network, families[0])
	for _, name := range []string{"dsl", "lte"} {
		sees(t, p.cpe, name, "is watched by TCP, and has a subflow", func(s *api.PathState) bool {
			return s.State == "up" && s.Reason == "probes are not answered, TCP is" && s.Subflows > 0
		})
	}
	conn.speak(t, "over both lines")
	for _, f := range families {
		to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
		p.wantGreeting(t, to, "hello", true)
	}
	eventually(t, "the finding", func() bool { return slices.Contains(findings(t, p.cpe), "probes-unanswered") })
	silence := meddle(t, p, "lte", "drop")
	sees(t, p.cpe, "lte", "is silent", func(s *api.PathState) bool { return s.State == "down" && s.Reason == "silent" })
	conn.speak(t, "over the first line")
	silence()
	sees(t, p.cpe, "lte", "is up again", func(s *api.PathState) bool { return s.State == "up" })
}

// TestRefusedProbesAreNamed has a firewall reject probes, at the HAG and on a line, and then
// leaves an address family out at the HAG.
func TestRefusedProbesAreNamed(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "a firewall that rejects probes", "nft", "sh")
	p := start(t, netlabtest.Build(t, twoLines))
	named := func(path, port string) bool {
		return slices.ContainsFunc(pathsOf(t, p.cpe).Findings, func(f api.Finding) bool {
			return f.ID == "probes-refused" && f.Path == path && strings.Contains(f.Obstacle, port)
		})
	}
	port := fmt.Sprintf("UDP port %d of ", netlab.JoinPort)
	for _, c := range []struct{ name, rule, want, not string }{
		{"both families", "udp dport %d reject with icmpx port-unreachable", "", ""},
		{"IPv6", "meta nfproto ipv6 udp dport %d reject with icmpx port-unreachable", p.Lines[1].HAG6.String(), p.Lines[1].HAG4.String()},
	} {
		t.Run(c.name, func(t *testing.T) {
			undo := meddle(t, p, "lte", fmt.Sprintf(c.rule, netlab.JoinPort))
			eventually(t, "the line is named", func() bool { return named("lte", port) && named("lte", c.want) })
			if c.not != "" && named("lte", c.not) || named("dsl", port) {
				t.Errorf("findings %+v", pathsOf(t, p.cpe).Findings)
			}
			for _, f := range families {
				p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
			}
			undo()
			eventually(t, "the line is named no longer", func() bool { return !named("lte", port) })
		})
	}
}
