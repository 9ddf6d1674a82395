package paths

import "time"

// Odometer is the counters of a path's interface at some time. Its zero value
// has seen none.
type Odometer struct {
	index          int // of the interface; 0 before the first reading
	sent, received uint64
	at             time.Duration
}

// Distance is what a path has carried between two readings.
type Distance struct {
	Bytes   uint64 // both directions together
	Rate    Rate
	Elapsed time.Duration
}

// Rate is what a path carries, in bit/s.
type Rate struct{ Up, Down uint64 }

// Larger is the rate of the larger direction.
func (r Rate) Larger() uint64 { return max(r.Up, r.Down) }

// leastElapsed is below which a rate would say more of chance than of the path.
const leastElapsed = 50 * time.Millisecond

// Read takes the counters as they are now, in bytes, and returns what was carried
// since they were last read. The first reading tells nothing, and neither does one
// that follows too closely: what it missed is in the next one. An interface with
// another index, or with less than before, has been made anew, or its counters
// have: they count from zero. One that is away has index 0.
func (o *Odometer) Read(now time.Duration, index int, sent, received uint64) Distance {
	last := *o
	if index == 0 || last.index != 0 && now-last.at < leastElapsed {
		return Distance{}
	}
	*o = Odometer{index, sent, received, now}
	if last.index == 0 {
		return Distance{}
	}
	if index != last.index || sent < last.sent || received < last.received {
		last.sent, last.received = 0, 0
	}
	up, down := sent-last.sent, received-last.received
	elapsed := now - last.at
	rate := func(bytes uint64) uint64 { return uint64(8 * float64(bytes) / elapsed.Seconds()) }
	return Distance{Bytes: up + down, Elapsed: elapsed, Rate: Rate{rate(up), rate(down)}}
}
