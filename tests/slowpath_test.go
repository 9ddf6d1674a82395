//go:build linux

package tests

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// TestSlowPathDoesNotHoldTheOthersUp compares transfers over two lines with those over the
// same two and a third line of 2 Mbit/s that queues for a second.
func TestSlowPathDoesNotHoldTheOthersUp(t *testing.T) {
	long(t)
	const bytes = 40 << 20
	dsl, lte := netlab.LineConfig{Name: "dsl", Rate: 20e6}, netlab.LineConfig{Name: "lte", Rate: 40e6}
	slow := netlab.LineConfig{Name: "umts", Rate: 2e6, Buffer: 250_000}
	for _, order := range [][]netlab.LineConfig{{dsl, lte, slow}, {slow, dsl, lte}} {
		t.Run(order[0].Name+" first", func(t *testing.T) {
			var fast []netlab.LineConfig
			least := 0.85
			if order[0] == slow {
				least = 0.5 // what is queued on the first path before the others are open comes late
			}
			for _, l := range order {
				if l.Name != slow.Name {
					fast = append(fast, l)
				}
			}
			two := start(t, netlabtest.Build(t, netlab.Topology{Lines: fast}))
			three := start(t, netlabtest.Build(t, netlab.Topology{Lines: order}))
			for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
				took := func(p *pair) time.Duration {
					t.Helper()
					began := time.Now()
					to := traffic(t, p.Server, p.Client, netlab.Server6)
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
					defer cancel()
					if _, err := netlab.Transfer(ctx, to, d, bytes); err != nil {
						t.Fatal(err)
					}
					return time.Since(began)
				}
				first := took(three)
				direction := map[netlab.Direction]string{netlab.Down: "receiving", netlab.Up: "sending"}[d]
				if order[0] != slow { // else it carries little from the start
					sees(t, three.cpe, slow.Name, "is a backup", func(p *api.PathState) bool { return slices.Contains(p.Lagging, direction) })
				}
				best, later := took(two), took(three)
				share := best.Seconds() / min(first, later).Seconds()
				t.Logf("%v: two lines %v; three lines %v, then %v", d, best, first, later)
				if share < least {
					t.Errorf("%v: with the slow line %.2f of the rate without it", d, share)
				}
			}
			for _, l := range fast {
				if p := pathOf(t, three.cpe, l.Name); len(p.Lagging) > 0 {
					t.Errorf("%s lags, too: %v", l.Name, p.Lagging)
				}
			}
		})
	}
}
