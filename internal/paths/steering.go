package paths

import (
	"slices"
	"time"
)

// Steering turns what a [Monitor] sees of the paths into what a [Manager] is to
// use them for. It measures their rates, charges their quotas, and asks the
// [Policy]. It has no clock of its own, and is for one goroutine.
type Steering struct {
	paths     []Path
	policy    *Policy
	ledger    *Ledger
	odometers []Odometer
	rates     []Rate
}

// NewSteering steers these paths. The ledger keeps their quotas; saving it is
// the caller's.
func NewSteering(all []Path, ledger *Ledger) *Steering {
	return &Steering{
		paths: all, policy: NewPolicy(all), ledger: ledger,
		odometers: make([]Odometer, len(all)), rates: make([]Rate, len(all)),
	}
}

// Uses returns what each path is wanted for. It must be asked now and then, a few
// times a second where a path is an [Overflow], and whenever a status changes.
// Elapsed may count from anywhere and never goes back; now is the time of day.
func (s *Steering) Uses(elapsed time.Duration, now time.Time, all []Status) []Use {
	conditions := make([]Condition, len(all))
	for i, status := range all {
		d := s.odometers[i].Read(elapsed, status.Interface, status.BytesSent, status.BytesReceived)
		if d.Elapsed > 0 || status.Interface == 0 { // one that is away carries nothing
			s.rates[i] = d.Rate
		}
		p := &s.paths[i]
		spent := false
		if p.Quota.Bytes > 0 {
			s.ledger.Add(now, p.Name, p.Quota, d.Bytes)
			spent = s.ledger.Used(p.Name) >= p.Quota.Bytes
		}
		conditions[i] = Condition{Up: status.Up, Rate: s.rates[i].Larger(), Spent: spent}
	}
	return s.policy.Uses(elapsed, conditions)
}

// Rates returns what each path carried when it was last measured.
func (s *Steering) Rates() []Rate { return slices.Clone(s.rates) }
