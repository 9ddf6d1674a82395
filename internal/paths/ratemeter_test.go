package paths

import (
	"testing"
	"time"
)

func TestRateMeterAcceptsCountersThatRestart(t *testing.T) {
	var m RateMeter
	for _, step := range []struct {
		name           string
		ms             int
		index          int
		sent, received uint64
		want           Reading
	}{
		{"no interface yet", 0, 0, 0, 0, Reading{}},
		{"the first reading tells nothing", 0, 2, 1000, 5000, Reading{}},
		{"each direction has its rate", 1000, 2, 1100, 6000, Reading{1100, Rate{800, 8000}, time.Second}},
		{"by time", 1500, 2, 2100, 6000, Reading{1000, Rate{16000, 0}, 500 * time.Millisecond}},
		{"nothing is nothing", 2000, 2, 2100, 6000, Reading{0, Rate{}, 500 * time.Millisecond}},
		{"too soon to tell", 2010, 2, 2200, 6000, Reading{}},
		{"so it is told later", 3000, 2, 2200, 6000, Reading{100, Rate{800, 0}, time.Second}},
		{"counters that were reset count from zero", 4000, 2, 10, 300, Reading{310, Rate{80, 2400}, time.Second}},
		{"the interface is away", 4500, 0, 0, 0, Reading{}},
		{"and has been made again", 5000, 3, 50, 400, Reading{450, Rate{400, 3200}, time.Second}},
	} {
		got := m.Read(time.Duration(step.ms)*time.Millisecond, step.index, step.sent, step.received)
		if got != step.want {
			t.Errorf("%s: %+v, want %+v", step.name, got, step.want)
		}
	}
}
