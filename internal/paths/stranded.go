package paths

import "time"

// How long a connection may be without any subflow before it is ended.
const (
	// CPEPatience is the time at a CPE, beside up to 500 ms until that is noticed. The
	// planner opens a subflow at once where a path takes it.
	CPEPatience = 2500 * time.Millisecond
	// HAGPatience is the time at a HAG, which cannot open subflows. A CPE behind a NAT that
	// has reset the HAG's half learns of it with its next packet, a keepalive at the
	// latest, and then opens another subflow.
	HAGPatience = 75 * time.Second
)

// Stranded finds the connections that have had no subflow for too long. The kernel keeps
// their MPTCP sockets for ever, and their hosts would wait as long. It has no clock, and is
// for one goroutine.
type Stranded struct {
	patience time.Duration
	since    map[uint64]time.Duration // by connection
}

// NewStranded returns a Stranded with that patience.
func NewStranded(patience time.Duration) *Stranded {
	return &Stranded{patience, make(map[uint64]time.Duration)}
}

// Look takes whether a connection has a subflow now, and whether a path that it may use is
// up: while all are down it waits. It reports whether the connection is to be ended.
func (s *Stranded) Look(now time.Duration, id uint64, alive, up bool) (end bool) {
	since, known := s.since[id]
	switch {
	case alive:
		delete(s.since, id)
	case !known || !up:
		s.since[id] = now
	case now-since >= s.patience:
		delete(s.since, id)
		return true
	}
	return false
}

// Forget forgets a connection that has ended.
func (s *Stranded) Forget(id uint64) { delete(s.since, id) }
