package paths

import (
	"slices"
	"testing"
	"time"
)

func TestRunOfTheHAGIsOverWhenTheNextOneDoesNotListIt(t *testing.T) {
	begin := time.Unix(1e9, 0)
	type answer struct {
		after time.Duration
		id    uint64
		list  []uint64 // nil: without a list
	}
	none := []uint64{}
	ms := time.Millisecond
	for _, c := range []struct {
		name      string
		answers   []answer
		over      []uint64
		heard     time.Duration // last answer of the run that is over
		unsettled bool
	}{
		{"one run", []answer{{0, 1, none}, {time.Hour, 1, none}}, nil, 0, false},
		{"a restart", []answer{{0, 1, none}, {50 * ms, 1, nil}, {900 * ms, 2, none}, {1900 * ms, 2, none}}, []uint64{1}, 50 * ms, false},
		{"a restart that may still be an upgrade", []answer{{0, 1, none}, {900 * ms, 2, none}, {1800 * ms, 2, none}}, nil, 0, true},
		{"an upgrade", []answer{{0, 1, none}, {900 * ms, 2, []uint64{1}}, {time.Hour, 2, []uint64{1}}}, nil, 0, true},
		{"the end of an upgrade", []answer{{0, 1, none}, {time.Hour, 2, []uint64{1}}, {time.Hour + 50*ms, 2, none}, {time.Hour + 1050*ms, 2, none}}, []uint64{1}, time.Hour, false},
		{"two that answer in turn", []answer{{0, 1, none}, {50 * ms, 2, none}, {900 * ms, 1, none}, {950 * ms, 2, none}, {1800 * ms, 1, none}, {1850 * ms, 2, none}}, nil, 0, true},
		{"answers without lists between", []answer{{0, 1, none}, {50 * ms, 2, none}, {500 * ms, 2, nil}, {1050 * ms, 2, none}}, []uint64{1}, 0, false},
		{"a HAG without lists", []answer{{0, 1, nil}, {time.Second, 2, nil}, {time.Minute, 2, nil}}, nil, 0, true},
		{"a HAG without lists, later", []answer{{0, 1, nil}, {time.Second, 2, nil}, {2 * time.Minute, 2, nil}}, nil, 0, false},
	} {
		var s Instances
		var over []uint64
		for _, a := range c.answers {
			for _, d := range s.Heard(begin.Add(a.after), a.id, a.list) {
				over = append(over, d.Instance)
				if got := d.Heard.Sub(begin); got != c.heard {
					t.Errorf("%s: the last answer of %d came after %v, want %v", c.name, d.Instance, got, c.heard)
				}
			}
		}
		if !slices.Equal(over, c.over) || s.Unsettled() != c.unsettled {
			t.Errorf("%s: over are %v, want %v; unsettled %v, want %v", c.name, over, c.over, s.Unsettled(), c.unsettled)
		}
	}
}
