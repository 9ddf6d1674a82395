package paths

import (
	"testing"
	"time"
)

func TestConnectionWithoutSubflowsIsEndedUnlessItsPathsAreDown(t *testing.T) {
	type look struct {
		at        time.Duration
		alive, up bool
	}
	const s = time.Second
	for _, c := range []struct {
		name  string
		looks []look
		end   time.Duration // 0: never
	}{
		{"alive", []look{{0, true, true}, {100 * s, true, true}}, 0},
		{"without a subflow", []look{{0, true, true}, {1 * s, false, true}, {2 * s, false, true}, {4 * s, false, true}}, 4 * s},
		{"with one again", []look{{1 * s, false, true}, {2 * s, true, true}, {3 * s, false, true}, {5 * s, false, true}}, 0},
		{"while all paths are down", []look{{1 * s, false, false}, {100 * s, false, false}, {101 * s, false, true}, {102 * s, false, true}}, 0},
		{"after that", []look{{1 * s, false, false}, {99 * s, false, false}, {100 * s, false, true}, {103 * s, false, true}}, 103 * s},
	} {
		x := NewStranded(CPEPatience)
		var end time.Duration
		for _, l := range c.looks {
			if x.Look(l.at, 7, l.alive, l.up) {
				end = l.at
			}
		}
		if end != c.end {
			t.Errorf("%s: ended at %v, want %v", c.name, end, c.end)
		}
		if x.Forget(7); len(x.since) != 0 {
			t.Errorf("%s: the connection is remembered", c.name)
		}
	}
}
