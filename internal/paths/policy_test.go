package paths

import (
	"slices"
	"testing"
	"time"
)

// up, down and spent are conditions of an idle path.
var (
	up    = Condition{Up: true}
	down  = Condition{}
	spent = Condition{Up: true, Spent: true}
)

// carrying is a path that is up.
func carrying(mbits uint64) Condition { return Condition{Up: true, Rate: mbits * 1e6} }

func of(modes ...Mode) (all []Path) {
	for _, m := range modes {
		all = append(all, Path{Mode: m, Busy: Busy{Rate: 16e6, For: 500 * time.Millisecond, Idle: 5 * time.Second}})
	}
	return all
}

func TestDesiredStatesFollowModesAndConditions(t *testing.T) {
	for _, c := range []struct {
		name  string
		modes []Mode
		at    []Condition
		want  []DesiredState
	}{
		{"all paths are used whenever they are up", []Mode{Always, Always}, []Condition{up, up}, []DesiredState{Normal, Normal}},
		{"no mode is always", []Mode{"", ""}, []Condition{up, up}, []DesiredState{Normal, Normal}},
		{"one that is down is not", []Mode{Always, Always}, []Condition{down, up}, []DesiredState{Closed, Normal}},
		{"when all are down, none is", []Mode{Always, Standby}, []Condition{down, down}, []DesiredState{Closed, Closed}},
		{"a backup stays one", []Mode{Always, AsBackup}, []Condition{up, up}, []DesiredState{Normal, Backup}},
		{"even alone", []Mode{Always, AsBackup}, []Condition{down, up}, []DesiredState{Closed, Backup}},
		{"a standby waits", []Mode{Always, Standby}, []Condition{up, up}, []DesiredState{Normal, Closed}},
		{"and steps in", []Mode{Always, Standby}, []Condition{down, up}, []DesiredState{Closed, Normal}},
		{"the second standby waits for the first", []Mode{Always, Standby, Standby}, []Condition{down, up, up}, []DesiredState{Closed, Normal, Closed}},
		{"an overflow is ready", []Mode{Always, Overflow}, []Condition{up, up}, []DesiredState{Normal, Backup}},
		{"and steps in", []Mode{Always, Overflow}, []Condition{down, up}, []DesiredState{Closed, Normal}},
		{"the first path is used whatever its mode", []Mode{Overflow, Standby}, []Condition{up, up}, []DesiredState{Normal, Closed}},
		{"a quota that is used up closes a path", []Mode{Always, Always}, []Condition{up, spent}, []DesiredState{Normal, Closed}},
		{"and makes way for a standby", []Mode{Always, Standby}, []Condition{spent, up}, []DesiredState{Closed, Normal}},
		{"but for the last that is up", []Mode{Always, Overflow}, []Condition{down, spent}, []DesiredState{Closed, Normal}},
		{"when all are used up none counts", []Mode{Always, Overflow}, []Condition{spent, spent}, []DesiredState{Normal, Backup}},
	} {
		if got := NewPolicy(of(c.modes...)).Desired(0, c.at); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestOverflowIsUsedWhenTheOthersAreBusyForAWhile(t *testing.T) {
	p := NewPolicy(of(Always, Overflow))
	for _, step := range []struct {
		name       string
		ms         int
		first, own uint64 // Mbit/s
		want       DesiredState
	}{
		{"idle", 0, 0, 0, Backup},
		{"busy just now", 100, 18, 0, Backup},
		{"not long enough", 450, 18, 0, Backup},
		{"a pause", 550, 10, 0, Backup},
		{"busy once more", 600, 16, 0, Backup},
		{"still", 1000, 18, 0, Backup},
		{"half a second after the pause", 1050, 18, 0, Normal},
		{"both share the load", 2000, 12, 10, Normal},
		{"for long", 9000, 12, 10, Normal},
		{"the need is over", 9100, 10, 5, Normal},
		{"but comes back", 13900, 10, 6, Normal},
		{"is over again", 14000, 3, 0, Normal},
		{"for less than five seconds", 18800, 3, 0, Normal},
		{"for five seconds", 18900, 3, 0, Backup},
		{"and busy once more", 19000, 19, 0, Backup},
		{"for half a second", 19500, 19, 0, Normal},
	} {
		got := p.Desired(time.Duration(step.ms)*time.Millisecond, []Condition{carrying(step.first), carrying(step.own)})
		if want := []DesiredState{Normal, step.want}; !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", step.name, got, want)
		}
	}
}

func TestOverflowCountsAllPathsBeforeIt(t *testing.T) {
	p := NewPolicy(of(Always, Always, Overflow))
	both := []Condition{carrying(8), carrying(8), up}
	p.Desired(0, []Condition{up, up, up})
	p.Desired(time.Second, both)
	if got, want := p.Desired(2*time.Second, both), []DesiredState{Normal, Normal, Normal}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestInvalidPathsAreErrors(t *testing.T) {
	for _, p := range []Path{
		{}, {Mode: Standby}, {Mode: Overflow, Busy: Busy{Rate: 1}}, {Quota: Quota{Bytes: 1, Period: Day}},
	} {
		if err := p.Validate(); err != nil {
			t.Errorf("%+v: %v", p, err)
		}
	}
	for _, p := range []Path{
		{Mode: "sometimes"}, {Mode: Overflow}, {Busy: Busy{Rate: 1}}, {Quota: Quota{Bytes: 1}},
		{Mode: Overflow, Busy: Busy{Rate: 1, For: -1}}, {Mode: Overflow, Busy: Busy{Rate: 1, Idle: -1}},
	} {
		if p.Validate() == nil {
			t.Errorf("%+v can be used", p)
		}
	}
}

func TestParseModeReadsEveryMode(t *testing.T) {
	for s, want := range map[string]Mode{"": Always, "always": Always, "overflow": Overflow, "standby": Standby, "backup": AsBackup} {
		if got, err := ParseMode(s); got != want || err != nil {
			t.Errorf("%q is %q, %v", s, got, err)
		}
	}
	if _, err := ParseMode("Always"); err == nil {
		t.Error("a mode in capitals is read")
	}
}
