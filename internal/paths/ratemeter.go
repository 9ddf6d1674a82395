package paths

import "time"

// RateMeter measures the rate of an interface from its counters. The zero value is
// ready for the first reading.
type RateMeter struct {
	index          int // of the interface; 0 before the first reading
	sent, received uint64
	at             time.Duration
}

// Reading is the traffic of a path between two readings of its counters. The zero
// Reading means that nothing was measured.
type Reading struct {
	Bytes   uint64 // both directions together
	Rate    Rate
	Elapsed time.Duration
}

// Rate is the rate of a path in bit/s.
type Rate struct{ Up, Down uint64 }

// Larger returns the rate of the larger direction.
func (r Rate) Larger() uint64 { return max(r.Up, r.Down) }

// minElapsed is the shortest time over which a rate is measured: over less, single
// packets would decide it.
const minElapsed = 50 * time.Millisecond

// Read takes the counters of an interface in bytes, and returns the traffic since
// the last reading. The first reading measures nothing, and neither does one too
// soon after the last: its bytes count in the next one. Counters of an interface
// with another index, or below the last ones, have started from zero. Index is 0
// while there is no interface.
func (m *RateMeter) Read(now time.Duration, index int, sent, received uint64) Reading {
	last := *m
	if index == 0 || last.index != 0 && now-last.at < minElapsed {
		return Reading{}
	}
	*m = RateMeter{index, sent, received, now}
	if last.index == 0 {
		return Reading{}
	}
	if index != last.index || sent < last.sent || received < last.received {
		last.sent, last.received = 0, 0
	}
	up, down := sent-last.sent, received-last.received
	elapsed := now - last.at
	rate := func(bytes uint64) uint64 { return uint64(8 * float64(bytes) / elapsed.Seconds()) }
	return Reading{Bytes: up + down, Elapsed: elapsed, Rate: Rate{rate(up), rate(down)}}
}
