package lab

import (
	"math"
	"slices"
	"time"
)

// Timeline is what a network carried in one direction while a part of a scenario
// ran, sampled about every 100 ms. Times are from its start.
type Timeline struct {
	// At says when each interval ended, in seconds. An interval begins where the
	// one before it ended, the first one at 0.
	At []float64 `json:"at_s"`
	// Lines is what each line delivered, Ethernet headers included.
	Lines []Series `json:"lines"`
	// Received is what the receivers' applications got.
	Received Series `json:"received"`
	// Marks are in the order of their times.
	Marks []Mark `json:"marks"`
}

// Series is a rate over the intervals of a timeline.
type Series struct {
	Name  string    `json:"name"`
	Mbits []float64 `json:"mbit_s"` // mean of each interval in Mbit/s
}

// Mark is something that happened.
type Mark struct {
	At   float64 `json:"at_s"`
	Text string  `json:"text"`
}

// sampleEvery is the length of a timeline's intervals.
const sampleEvery = 100 * time.Millisecond

// all are the lines' series, and the receivers' last.
func (t *Timeline) all() []Series { return append(slices.Clip(t.Lines), t.Received) }

// series is the one of that name. There must be one.
func (t *Timeline) series(name string) Series {
	all := t.all()
	return all[slices.IndexFunc(all, func(s Series) bool { return s.Name == name })]
}

// end is when the last interval ended, in seconds.
func (t *Timeline) end() float64 {
	if len(t.At) == 0 {
		return 0
	}
	return t.At[len(t.At)-1]
}

// mean is a series' mean rate in Mbit/s over the intervals that lie within from
// and to, 0 if there are none.
func (t *Timeline) mean(s Series, from, to time.Duration) float64 {
	var sum, span, begin float64
	for i, end := range t.At {
		if begin >= from.Seconds() && end <= to.Seconds() {
			sum += s.Mbits[i] * (end - begin)
			span += end - begin
		}
		begin = end
	}
	if span == 0 {
		return 0
	}
	return sum / span
}

// addMark inserts a mark where its time belongs.
func (t *Timeline) addMark(m Mark) {
	i := len(t.Marks)
	for i > 0 && t.Marks[i-1].At > m.At {
		i--
	}
	t.Marks = slices.Insert(t.Marks, i, m)
}

// peak is the rate that a series exceeds in one interval of twenty: what a queue
// lets go at once, and a late sample, make higher ones.
func peak(rates []float64) float64 {
	if len(rates) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(rates))[len(rates)*19/20]
}

// top is the round figure that an axis ends with which is to show rates of up to
// highest. What exceeds it by a little is clipped.
func top(highest float64) float64 {
	const slack = 1.05
	least := max(highest/slack, 1)
	unit := math.Pow(10, math.Floor(math.Log10(least)))
	for _, m := range []float64{1, 2, 3, 4, 5, 6, 8} {
		if m*unit >= least {
			return m * unit
		}
	}
	return 10 * unit
}

// label is the letter, or letters, by which charts refer to mark i: a to z, aa, ab….
func label(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return label(i/26-1) + label(i%26)
}

// tick is the distance of labels on an axis of seconds on which n find room.
func tick(seconds float64, n int) int {
	for _, t := range []int{1, 2, 5, 10, 20} {
		if seconds/float64(t) <= float64(n) {
			return t
		}
	}
	return 60
}
