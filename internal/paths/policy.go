package paths

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Mode is when a path is used. "Before" means earlier in the configuration.
type Mode string

const (
	// Always uses the path whenever it is up. It is the mode of a path that names none.
	Always Mode = "always"
	// Overflow keeps the path as a backup, and uses it when those before it are busy.
	Overflow Mode = "overflow"
	// Standby opens no subflow on the path while one before it can be used.
	Standby Mode = "standby"
	// AsBackup keeps the path open, for the kernel to use when no other carries.
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

// Busy is when a path of mode [Overflow] is used: once those before it have
// carried Rate for as long as For, until all together, itself too, have carried
// less for as long as Idle. The two differ, so that a path that takes over part
// of the traffic does not thereby make itself needless.
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

// Validate tells what is wrong with when a path is to be used.
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

// Condition is how a path is doing.
type Condition struct {
	Up    bool
	Rate  uint64 // bit/s that it carries now, the larger direction
	Spent bool   // its quota is used up
}

// Policy decides what each path is wanted for. It has no clock of its own.
type Policy struct {
	paths []Path
	over  []overflow
}

// overflow is whether a path of that mode is used.
type overflow struct {
	busy  Busy
	used  bool
	since time.Duration // when it was last right to leave that as it is
}

// NewPolicy returns the policy of these paths.
func NewPolicy(all []Path) *Policy {
	p := &Policy{paths: all}
	for _, path := range all {
		p.over = append(p.over, overflow{busy: path.Busy.withDefaults()})
	}
	return p
}

// Uses returns what each path is wanted for at the time now, which may count
// from anywhere but must not go back, in these conditions.
//
// A path that is down is closed, and so is one whose quota is used up; only when
// that goes for all that are up do quotas not count: a connection over a dear line
// is better than none. Whatever its mode, but for [AsBackup], the first path that
// can be used is used.
func (p *Policy) Uses(now time.Duration, all []Condition) []Use {
	thrifty := slices.ContainsFunc(all, func(c Condition) bool { return c.Up && !c.Spent })
	uses := make([]Use, len(p.paths))
	first := true
	var before uint64 // what the paths before carry
	for i, c := range all {
		mode := p.paths[i].Mode
		over := p.over[i].update(now, before, before+c.Rate)
		before += c.Rate
		if !c.Up || c.Spent && thrifty {
			continue
		}
		switch {
		case mode == AsBackup:
			uses[i] = Backup
		case first:
			uses[i] = Normal
		case mode == Standby:
			uses[i] = Closed
		case mode == Overflow && !over:
			uses[i] = Backup
		default:
			uses[i] = Normal
		}
		first = false
	}
	return uses
}

// update tells whether the path is to be used, given what those before it carry,
// and what they and itself do.
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

// initial is what the paths are wanted for when all of them are up and idle.
func (s *Set) initial() []Use {
	up := slices.Repeat([]Condition{{Up: true}}, len(s.Paths))
	return NewPolicy(s.Paths).Uses(0, up)
}
