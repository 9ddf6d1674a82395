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
			if x.Look(l.at, 7, Standing{Alive: l.alive, Up: l.up}) == End {
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

func TestConnectionsThatStandStillAreHelped(t *testing.T) {
	type look struct {
		at           time.Duration
		acknowledged int64
		left         int
		moved        uint64
		half         bool
		want         Help
	}
	const ms = time.Millisecond
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"idle", []look{{0, 9, 0, 9, false, NoHelp}, {5000 * ms, 9, 0, 9, false, NoHelp}}},
		{"moving", []look{{0, 9, 5, 14, false, NoHelp}, {500 * ms, 10, 5, 15, false, NoHelp}, {1000 * ms, 11, 5, 16, false, NoHelp}}},
		{"standing still", []look{{0, 9, 5, 14, false, NoHelp}, {300 * ms, 9, 5, 14, false, NoHelp}, {500 * ms, 9, 5, 14, false, Push},
			{9000 * ms, 9, 8, 99, false, Push}, {9500 * ms, 10, 7, 99, false, NoHelp}}},
		{"after a while", []look{{0, 9, 5, 14, false, NoHelp}, {500 * ms, 14, 0, 14, false, NoHelp}, {5000 * ms, 14, 3, 17, false, NoHelp},
			{5500 * ms, 14, 3, 17, false, Push}}},
		{"a FIN", []look{{0, 8, 1, 9, true, NoHelp}, {500 * ms, 8, 1, 9, true, Push}, {2000 * ms, 8, 1, 9, true, Probe},
			{2500 * ms, 8, 1, 9, true, Probe}, {3000 * ms, 9, 0, 9, true, Push}, {3500 * ms, 9, 0, 9, true, NoHelp}}},
		{"one byte", []look{{0, 8, 1, 9, false, NoHelp}, {2000 * ms, 8, 1, 9, false, Probe}, {2500 * ms, 9, 4, 13, false, Push}, {3000 * ms, 9, 4, 13, false, Push}}},
		{"half-closed", []look{{0, 9, 0, 9, true, NoHelp}, {2500 * ms, 9, 0, 9, true, NoHelp}, {3000 * ms, 9, 0, 9, true, Probe},
			{3500 * ms, 9, 0, 9, true, Probe}, {4000 * ms, 9, 0, 10, true, Push}, {4500 * ms, 9, 0, 10, true, NoHelp}}},
	} {
		x := NewStranded(CPEPatience)
		for _, l := range c.looks {
			at := Standing{Alive: true, Acknowledged: l.acknowledged, Unacknowledged: l.left, Moved: l.moved, HalfClosed: l.half}
			if got := x.Look(l.at, 7, at); got != l.want {
				t.Errorf("%s: at %v %v, want %v", c.name, l.at, got, l.want)
			}
		}
		if x.Forget(7); len(x.still) != 0 {
			t.Errorf("%s: the connection is remembered", c.name)
		}
	}
}
