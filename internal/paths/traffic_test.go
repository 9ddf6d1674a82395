package paths

import (
	"testing"
	"time"
)

func TestOdometerBearsCountersThatStartAnew(t *testing.T) {
	var o Odometer
	for _, step := range []struct {
		name           string
		ms             int
		index          int
		sent, received uint64
		want           Distance
	}{
		{"no interface yet", 0, 0, 0, 0, Distance{}},
		{"the first reading tells nothing", 0, 2, 1000, 5000, Distance{}},
		{"each direction has its rate", 1000, 2, 1100, 6000, Distance{1100, Rate{800, 8000}, time.Second}},
		{"by time", 1500, 2, 2100, 6000, Distance{1000, Rate{16000, 0}, 500 * time.Millisecond}},
		{"nothing is nothing", 2000, 2, 2100, 6000, Distance{0, Rate{}, 500 * time.Millisecond}},
		{"too soon to tell", 2010, 2, 2200, 6000, Distance{}},
		{"so it is told later", 3000, 2, 2200, 6000, Distance{100, Rate{800, 0}, time.Second}},
		{"counters that were reset count from zero", 4000, 2, 10, 300, Distance{310, Rate{80, 2400}, time.Second}},
		{"the interface is away", 4500, 0, 0, 0, Distance{}},
		{"and has been made anew", 5000, 3, 50, 400, Distance{450, Rate{400, 3200}, time.Second}},
	} {
		got := o.Read(time.Duration(step.ms)*time.Millisecond, step.index, step.sent, step.received)
		if got != step.want {
			t.Errorf("%s: %+v, want %+v", step.name, got, step.want)
		}
	}
}
