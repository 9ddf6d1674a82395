//go:build linux

package lab

import (
	"slices"
	"testing"
	"time"
)

func TestMeanTakesWholeIntervalsOnly(t *testing.T) {
	s := Series{Mbits: []float64{10, 20, 60, 5}}
	line := Timeline{At: []float64{0.1, 0.3, 0.4, 0.6}, Lines: []Series{s}}
	for _, tt := range []struct {
		name     string
		from, to time.Duration
		want     float64
	}{
		{"all", 0, time.Second, (10*0.1 + 20*0.2 + 60*0.1 + 5*0.2) / 0.6},
		{"two of different length", 100 * time.Millisecond, 400 * time.Millisecond, (20*0.2 + 60*0.1) / 0.3},
		{"cut on both sides", 50 * time.Millisecond, 350 * time.Millisecond, 20},
		{"within one interval", 110 * time.Millisecond, 290 * time.Millisecond, 0},
		{"beyond the end", time.Second, 2 * time.Second, 0},
	} {
		if got := line.mean(s, tt.from, tt.to); got < tt.want-1e-9 || got > tt.want+1e-9 {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestMarksAreInOrderOfTime(t *testing.T) {
	var line Timeline
	for _, m := range []Mark{{2, "b"}, {1, "a"}, {2, "c"}, {3, "d"}} {
		line.addMark(m)
	}
	if want := []Mark{{1, "a"}, {2, "b"}, {2, "c"}, {3, "d"}}; !slices.Equal(line.Marks, want) {
		t.Errorf("%v, want %v", line.Marks, want)
	}
}

func TestAxesEndWithRoundFigures(t *testing.T) {
	for highest, want := range map[float64]float64{
		0: 1, 0.3: 1, 1: 1, 2.4: 3, 19.1: 20, 20.9: 20, 21.5: 30, 40: 40, 61: 60, 70: 80, 99: 100, 130: 200,
	} {
		if got := top(highest); got != want {
			t.Errorf("an axis for %v ends with %v, want %v", highest, got, want)
		}
	}
	for seconds, want := range map[float64]int{0: 1, 3: 1, 6: 1, 6.1: 2, 29: 5, 121: 60} {
		if got := tick(seconds, 6); got != want {
			t.Errorf("%v s: a tick each %d s, want %d", seconds, got, want)
		}
	}
}

func TestPeakLeavesOutOneIntervalInTwenty(t *testing.T) {
	rates := slices.Repeat([]float64{20}, 40)
	rates[7] = 300
	if got := peak(rates); got != 20 {
		t.Errorf("%v, want 20", got)
	}
	if got := peak(nil); got != 0 {
		t.Errorf("peak of nothing is %v", got)
	}
}

func TestLabelsAreLettersAndThenPairsOfThem(t *testing.T) {
	for i, want := range map[int]string{0: "a", 25: "z", 26: "aa", 27: "ab", 51: "az", 52: "ba"} {
		if got := label(i); got != want {
			t.Errorf("mark %d is %q, want %q", i, got, want)
		}
	}
}
