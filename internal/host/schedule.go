//go:build linux

package host

import "time"

// Scope is a set of checks. The larger one includes the smaller.
type Scope int

// Scopes.
const (
	// Settings are the checks that read some files under /proc: no event tells of most.
	Settings Scope = iota + 1
	// Everything includes those that read links, routes and the packet filter.
	Everything
)

// Times between checks.
const (
	// settingsEvery is the time between two looks at settings.
	settingsEvery = 5 * time.Second
	// everythingEvery is the time between two looks at a machine of which nothing is heard: no event
	// tells of MPTCP endpoints, or of settings of bridges. While the machine changes without
	// events, the time is quietEvery.
	everythingEvery = 20 * time.Second
	quietEvery      = 3 * time.Second
	// changePause is the time between the first change and the look: changes come in crowds.
	changePause = 200 * time.Millisecond
	// changeGap is the shortest time between two looks on account of changes.
	changeGap = 2 * time.Second
)

// Schedule decides when a running box looks for obstacles. It has no clock: its methods get
// the time since some fixed moment.
type Schedule struct {
	settings, everything time.Duration // of the last looks
	changed              bool          // since the last look at everything
	look                 time.Duration // on account of that
	quiet                bool
}

// Quiet says whether parts of the machine change without events, see [Survey.Quiet].
func (s *Schedule) Quiet(is bool) { s.quiet = is }

// Changed notes that the machine has changed.
func (s *Schedule) Changed(now time.Duration) {
	if !s.changed {
		s.changed, s.look = true, max(now+changePause, s.everything+changeGap)
	}
}

// Looked notes that the checks of a scope have run.
func (s *Schedule) Looked(now time.Duration, scope Scope) {
	s.settings = now
	if scope == Everything {
		s.everything, s.changed = now, false
	}
}

// Next returns the scope of the next look, and its time.
func (s *Schedule) Next() (scope Scope, at time.Duration) {
	scope, at = Everything, s.everything+everythingEvery
	if s.quiet {
		at = s.everything + quietEvery
	}
	if s.changed {
		at = min(at, s.look)
	}
	if early := s.settings + settingsEvery; early < at {
		return Settings, early
	}
	return scope, at
}

// Quiet reports whether the older iptables are in use, whose changes cause no event.
func (s Survey) Quiet() bool {
	for _, name := range []string{"ip_tables_names", "ip6_tables_names"} {
		if tables, err := s.File("/proc/thread-self/net/" + name); err == nil && tables != "" {
			return true
		}
	}
	return false
}
