package paths

import (
	"testing"
	"time"
)

func TestAnswersOfAFamilyAreMissedAfterAWhile(t *testing.T) {
	never := newTestPath(t, ProbeConfig{})
	lively := newTestPath(t, ProbeConfig{})
	lively.run(10 * time.Second)
	for _, c := range []struct {
		name   string
		path   *testPath
		since  time.Duration
		probes int
		heard  bool
		want   bool
	}{
		{"few probes, long ago", lively, time.Minute, SilenceProbes - 1, true, false},
		{"many probes, just now", lively, 100 * time.Millisecond, 10, true, false},
		{"the answers had come", lively, 500 * time.Millisecond, SilenceProbes, true, true},
		{"there was none yet", lively, 500 * time.Millisecond, SilenceProbes, false, false},
		{"there was none for long", lively, 2 * time.Second, SilenceProbes, false, true},
		{"the path never had one", never, 500 * time.Millisecond, SilenceProbes, false, false},
		{"the path never had one for long", never, 2 * time.Second, SilenceProbes, false, true},
	} {
		if got := c.path.Overdue(c.path.now, c.path.now.Add(-c.since), c.probes, c.heard); got != c.want {
			t.Errorf("%s: overdue %v", c.name, got)
		}
	}
}
