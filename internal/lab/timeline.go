//go:build linux

package lab

import (
	"math"
	"slices"
	"time"
)

// Timeline has the rates of a network in one direction while a variant ran, sampled
// about every 100 ms. Times are from its start.
type Timeline struct {
	// At has the end of each interval in seconds. An interval begins at the end of
	// the interval before it, the first one at 0.
	At []float64 `json:"at_s"`
	// Lines has the rate that each line delivered, Ethernet headers included.
	Lines []Series `json:"lines"`
	// Received is the rate at which the receivers' applications read.
	Received Series `json:"received"`
	// Marks are in the order of their times.
	Marks []Mark `json:"marks"`
}

// Series is a rate over the intervals of a timeline.
type Series struct {
	Name  string    `json:"name"`
	Mbits []float64 `json:"mbit_s"` // mean of each interval in Mbit/s
}

// Mark is an event.
type Mark struct {
	At   float64 `json:"at_s"`
	Text string  `json:"text"`
}

// sampleEvery is the length of a timeline's intervals.
const sampleEvery = 100 * time.Millisecond

// all returns the lines' series, and the receivers' last.
func (t *Timeline) all() []Series { return append(slices.Clip(t.Lines), t.Received) }

// series returns the series of that name. There must be one.
func (t *Timeline) series(name string) Series {
	all := t.all()
	return all[slices.IndexFunc(all, func(s Series) bool { return s.Name == name })]
}

// end returns the end of the last interval in seconds.
func (t *Timeline) end() float64 {
	if len(t.At) == 0 {
		return 0
	}
	return t.At[len(t.At)-1]
}

// mean returns a series' mean rate in Mbit/s over the intervals that lie within from
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

// addMark inserts a mark in order of time.
func (t *Timeline) addMark(m Mark) {
	i := len(t.Marks)
	for i > 0 && t.Marks[i-1].At > m.At {
		i--
	}
	t.Marks = slices.Insert(t.Marks, i, m)
}

// peak returns the rate that a series exceeds in one interval of twenty. Bursts from
// a queue and late samples make higher ones.
func peak(rates []float64) float64 {
	if len(rates) == 0 {
		return 0
	}
	return slices.Sorted(slices.Values(rates))[len(rates)*19/20]
}

// top returns the round figure at the end of an axis for rates up to highest. Rates
// a little above it are clipped.
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

// label returns the letters of mark i in charts: a to z, aa, ab….
func label(i int) string {
	if i < 26 {
		return string(rune('a' + i))
	}
	return label(i/26-1) + label(i%26)
}

// tick returns the distance in seconds between labels on an axis with room for n of them.
func tick(seconds float64, n int) int {
	for _, t := range []int{1, 2, 5, 10, 20} {
		if seconds/float64(t) <= float64(n) {
			return t
		}
	}
	return 60
}
