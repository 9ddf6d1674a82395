package paths

import (
	"slices"
	"time"
)

// Steering decides the desired state of each path from the statuses of all. It
// measures their rates, adds to the usage of their quotas, and applies the [Policy].
// It has no clock of its own, and is for one goroutine.
type Steering struct {
	paths  []Path
	policy *Policy
	usage  *Usage
	meters []RateMeter
	rates  []Rate
}

// NewSteering returns the steering of these paths. Usage counts against their
// quotas; the caller saves it.
func NewSteering(all []Path, usage *Usage) *Steering {
	return &Steering{
		paths: all, policy: NewPolicy(all), usage: usage,
		meters: make([]RateMeter, len(all)), rates: make([]Rate, len(all)),
	}
}

// Desired returns the desired state of each path. Call it at every change of a
// status, and a few times a second where a path is an [Overflow]. Elapsed is
// monotonic and may count from anywhere; now is the time of day.
func (s *Steering) Desired(elapsed time.Duration, now time.Time, all []Status) []DesiredState {
	conditions := make([]Condition, len(all))
	for i, status := range all {
		r := s.meters[i].Read(elapsed, status.Interface, status.BytesSent, status.BytesReceived)
		if r.Elapsed > 0 || status.Interface == 0 { // without an interface the rate is zero
			s.rates[i] = r.Rate
		}
		p := &s.paths[i]
		spent := false
		if p.Quota.Bytes > 0 {
			s.usage.Add(now, p.Name, p.Quota, r.Bytes)
			spent = s.usage.Used(p.Name) >= p.Quota.Bytes
		}
		conditions[i] = Condition{Up: status.Up, Rate: s.rates[i].Larger(), Spent: spent}
	}
	return s.policy.Desired(elapsed, conditions)
}

// Rates returns the rate of each path at the last measurement.
func (s *Steering) Rates() []Rate { return slices.Clone(s.rates) }
