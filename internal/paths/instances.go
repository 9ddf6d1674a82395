package paths

import "time"

// Instances decides which runs of the HAG are over, by what the runs that answer probes
// say. Two may answer in turn for a while, when one takes over from the other. It has no
// clock, and is for one goroutine.
type Instances struct {
	present uint64 // answered last, 0 for none
	known   map[uint64]*instance
}

// instance is a run of the HAG.
type instance struct {
	heard  time.Time // its last answer
	denied time.Time // first list without it since then; zero without one
}

// Departed is a run of the HAG whose flows have ended.
type Departed struct {
	Instance uint64
	Heard    time.Time // its last answer: flows that had begun by then are over
}

const (
	// settleAfter is the time for which a run must not have answered, and must be missing in
	// the lists of another one, until it is over.
	settleAfter = time.Second
	// unsettledFor is the longest time for which a run that no longer answers is asked about.
	// A HAG that keeps no list leaves that open.
	unsettledFor = time.Minute
)

// Heard takes an answer of a run. The list, if it is not nil, has the runs whose flows live
// on at this HAG beside that one. It returns the runs that are over.
func (s *Instances) Heard(now time.Time, id uint64, list []uint64) (over []Departed) {
	if s.known == nil {
		s.known = make(map[uint64]*instance)
	}
	s.present = id
	s.known[id] = &instance{heard: now}
	for _, lives := range list {
		if at := s.known[lives]; at != nil && lives != id {
			*at = instance{heard: now}
		}
	}
	for other, at := range s.known {
		switch {
		case other == id || at.heard.Equal(now):
		case list == nil:
			if now.Sub(at.heard) > unsettledFor {
				delete(s.known, other)
			}
		case at.denied.IsZero():
			at.denied = now
		case now.Sub(at.denied) >= settleAfter:
			over = append(over, Departed{other, at.heard})
			delete(s.known, other)
		}
	}
	return over
}

// Unsettled reports whether a run that answered before may be over.
func (s *Instances) Unsettled() bool { return len(s.known) > 1 }
