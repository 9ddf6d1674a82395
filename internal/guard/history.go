package guard

import (
	"slices"
	"time"
)

// Limits of the contest about a thing.
const (
	// A thing that changes contestLimit times within contestWindow is left to others.
	contestLimit  = 10
	contestWindow = time.Minute
	// burst is the time in which several changes count as one: `ip rule flush` removes rule
	// by rule.
	burst = 100 * time.Millisecond
	// A thing is left for firstPause, for twice as long after each pause that did not help,
	// and for longestPause at most.
	firstPause   = time.Minute
	longestPause = 16 * time.Minute
)

// change is a change of a thing by others.
type change struct {
	at       time.Duration
	what, by string
}

// history is the contest about one thing.
type history struct {
	recent []change // since the last pause, contestLimit at most
	latest change
	total  uint64
	pause  time.Duration // the length of the last one, 0 before the first
	ends   time.Duration // when it ends
}

// add notes a change, and reports whether it counts, and whether the thing is contested.
func (h *history) add(c change) (counts, contested bool) {
	if h.total > 0 && c.at-h.latest.at < burst {
		return false, false
	}
	h.total++
	h.latest = c
	if len(h.recent) == contestLimit {
		h.recent = slices.Delete(h.recent, 0, 1)
	}
	h.recent = append(h.recent, c)
	return true, len(h.recent) == contestLimit && c.at-h.recent[0].at < contestWindow
}

// leave begins a pause, and returns its length. Counting begins anew after it.
func (h *history) leave(now time.Duration) time.Duration {
	if h.pause > 0 && now-h.ends < contestWindow {
		h.pause = min(2*h.pause, longestPause)
	} else {
		h.pause = firstPause
	}
	h.ends = now + h.pause
	h.recent = nil
	return h.pause
}

// culprits names the programs behind the recent changes, as far as they are known.
func (h *history) culprits() (names []string) {
	for _, c := range h.recent {
		if c.by != "" && !slices.Contains(names, c.by) {
			names = append(names, c.by)
		}
	}
	return names
}
