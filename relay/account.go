//go:build linux

package relay

import (
	"sync"
	"sync/atomic"
	"time"
)

// Account is what the connections of one user share: it counts their bytes, and bounds their
// rate in each direction.
type Account struct{ Up, Down Meter }

// SetRate bounds the rate in each direction in bytes/s; 0 for no bound.
func (a *Account) SetRate(rate uint64) {
	a.Up.SetRate(rate)
	a.Down.SetRate(rate)
}

// Meter counts the bytes of some streams, and bounds their rate together. The zero Meter has
// no bound.
//
// The rate pays for the bytes that are charged, in their order. A stream that has moved bytes
// waits until they are paid, and all that were charged before, so that streams have their
// turns one after another.
type Meter struct {
	moved atomic.Uint64
	rate  atomic.Uint64 // bytes/s, 0 for no bound

	mu            sync.Mutex
	charged, paid float64   // bytes
	at            time.Time // of paid
}

const (
	// meterBurst is the time for which a meter that was idle lets bytes through at once.
	meterBurst = 50 * time.Millisecond
	// turnTime is the time for which the rate pays one turn of a stream, and turnLeast (bytes)
	// the least turn.
	turnTime  = 20 * time.Millisecond
	turnLeast = 2 << 10
)

// SetRate bounds the rate in bytes/s; 0 for no bound.
func (m *Meter) SetRate(rate uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pay()
	m.rate.Store(rate)
}

// Moved returns the number of bytes that the streams have moved.
func (m *Meter) Moved() uint64 { return m.moved.Load() }

// turn returns the most bytes that a stream may move in one turn.
func (m *Meter) turn() int {
	rate := float64(m.rate.Load())
	if rate == 0 {
		return chunk
	}
	return int(min(max(rate*turnTime.Seconds(), turnLeast), chunk))
}

// pay lets the rate pay up to now. The caller holds the lock.
func (m *Meter) pay() {
	now, rate := time.Now(), float64(m.rate.Load())
	m.paid = min(m.paid+rate*now.Sub(m.at).Seconds(), m.charged+rate*meterBurst.Seconds())
	m.at = now
}

// charge counts n bytes. It returns the number of bytes that were charged so far.
func (m *Meter) charge(n int) float64 {
	m.moved.Add(uint64(n))
	if m.rate.Load() == 0 {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pay()
	m.charged += float64(n)
	return m.charged
}

// unpaid returns the time until so many bytes are paid.
func (m *Meter) unpaid(charged float64) time.Duration {
	rate := float64(m.rate.Load())
	if rate == 0 {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pay()
	return time.Duration(min(max(charged-m.paid, 0)/rate, time.Hour.Seconds()) * float64(time.Second))
}

// metered is a stream's share of a meter.
type metered struct {
	meter *Meter  // nil for none
	next  float64 // the stream has its next turn when so many bytes are paid
}

// join lets a stream take part. Its first turn comes behind what others have moved.
func (s *metered) join(m *Meter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.meter, s.next = m, m.charged
}

// charge counts bytes of the stream.
func (s *metered) charge(n int) {
	if s.meter != nil && n > 0 {
		s.next = s.meter.charge(n)
	}
}

// wait returns the time until the stream's next turn.
func (s *metered) wait() time.Duration {
	if s.meter == nil || s.next == 0 {
		return 0
	}
	return s.meter.unpaid(s.next)
}

// most returns the number of bytes that the stream may read at once.
func (s *stream) most() int {
	if s.share.meter == nil {
		return s.to.most()
	}
	return min(s.to.most(), s.share.meter.turn())
}

// beforeItsTurn reports whether a stream has moved what its meter lets through for now. If so
// the leg that takes its bytes pauses until the stream's next turn.
func (l *loop) beforeItsTurn(s *stream) bool {
	wait := s.share.wait()
	if wait > 0 {
		l.pause(s.to, time.Now().Add(min(wait, longestPause))) // the rate may change meanwhile
	}
	return wait > 0
}
