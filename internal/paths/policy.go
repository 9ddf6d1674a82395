package paths

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Mode decides when a path is used. "Before" means earlier in the configuration.
type Mode string

const (
	// Always uses the path whenever it is up. It is the default.
	Always Mode = "always"
	// Overflow keeps the path as a backup, and uses it when the paths before it are busy.
	Overflow Mode = "overflow"
	// Standby opens no subflow on the path while one before it can be used.
	Standby Mode = "standby"
	// AsBackup keeps the path open, for the kernel to use when no other subflow can send.
	AsBackup Mode = "backup"
)

// ParseMode reads a mode; the empty string is [Always].
func ParseMode(s string) (Mode, error) {
	modes := []Mode{Always, Overflow, Standby, AsBackup}
	switch m := Mode(s); {
	case s == "":
		return Always, nil
	case slices.Contains(modes, m):
		return m, nil
	}
	return "", fmt.Errorf("mode %q of a path: want one of %q", s, modes)
}

// Busy is the condition under which a path of mode [Overflow] is used: from when the
// paths before it have carried Rate for the time For, until all of them and the path
// itself have carried less for the time Idle. The two conditions differ so that the
// traffic that the path takes over does not end its use.
type Busy struct {
	Rate uint64        // bit/s, the larger direction
	For  time.Duration // default 500 ms
	Idle time.Duration // default 5 s
}

func (b Busy) withDefaults() Busy {
	b.For = cmp.Or(b.For, 500*time.Millisecond)
	b.Idle = cmp.Or(b.Idle, 5*time.Second)
	return b
}

// Validate returns an error if a path's mode, times or quota are invalid.
func (p Path) Validate() error {
	if _, err := ParseMode(string(p.Mode)); err != nil {
		return err
	}
	if (p.Mode == Overflow) != (p.Busy.Rate > 0) {
		return errors.New("mode overflow and the rate at which the paths before it are busy need each other")
	}
	if p.Busy.For < 0 || p.Busy.Idle < 0 {
		return fmt.Errorf("busy for %v, idle for %v: want no negative time", p.Busy.For, p.Busy.Idle)
	}
	return p.Quota.Validate()
}

// Condition is the state of a path that a [Policy] decides by.
type Condition struct {
	Up    bool
	Rate  uint64 // present rate of the larger direction, bit/s
	Spent bool   // its quota is used up
}

// Policy decides the desired state of each path. It has no clock of its own.
type Policy struct {
	paths    []Path
	overflow []overflow
}

// overflow decides whether a path of that mode is used.
type overflow struct {
	busy  Busy
	used  bool
	since time.Duration // last time at which used was right
}

// NewPolicy returns the policy of these paths.
func NewPolicy(all []Path) *Policy {
	p := &Policy{paths: all}
	for _, path := range all {
		p.overflow = append(p.overflow, overflow{busy: path.Busy.withDefaults()})
	}
	return p
}

// Desired returns the desired state of each path under these conditions. Now is
// monotonic and may count from anywhere.
//
// A path that is down is closed, and so is a path whose quota is used up, unless
// all paths that are up have used up theirs: an expensive path is better than no
// connection. The first path that can be used is normal whatever its mode, except
// [AsBackup].
func (p *Policy) Desired(now time.Duration, all []Condition) []DesiredState {
	quotasCount := slices.ContainsFunc(all, func(c Condition) bool { return c.Up && !c.Spent })
	desired := make([]DesiredState, len(p.paths))
	first := true
	var before uint64 // rate of the paths before
	for i, c := range all {
		mode := p.paths[i].Mode
		over := p.overflow[i].update(now, before, before+c.Rate)
		before += c.Rate
		if !c.Up || c.Spent && quotasCount {
			continue
		}
		switch {
		case mode == AsBackup:
			desired[i] = Backup
		case first:
			desired[i] = Normal
		case mode == Standby:
			desired[i] = Closed
		case mode == Overflow && !over:
			desired[i] = Backup
		default:
			desired[i] = Normal
		}
		first = false
	}
	return desired
}

// update reports whether the path is to be used. Before is the rate of the paths
// before it, all includes its own.
func (o *overflow) update(now time.Duration, before, all uint64) bool {
	change, hold := before >= o.busy.Rate, o.busy.For
	if o.used {
		change, hold = all < o.busy.Rate, o.busy.Idle
	}
	if !change {
		o.since = now
	} else if now-o.since >= hold {
		o.used, o.since = !o.used, now
	}
	return o.used
}

// initial returns the desired states when all paths are up and idle.
func (s *Set) initial() []DesiredState {
	up := slices.Repeat([]Condition{{Up: true}}, len(s.Paths))
	return NewPolicy(s.Paths).Desired(0, up)
}
