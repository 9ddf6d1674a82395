package state

import "maps"

// Totals are the table's counters. Live is 0 for states of flows that have ended.
type Totals struct {
	Live     [NumStates]int     // live flows by state
	Entered  [NumStates]uint64  // flows that ever came into each state
	Reasons  [NumReasons]uint64 // flows and packets
	Rules    map[string]uint64  // flows by the name of the rule that chose their action
	HalfOpen int                // flows Dialing, Released or Learning
}

// Totals returns a snapshot of the counters.
func (t *Table) Totals() Totals {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := Totals{Entered: t.entered, Reasons: t.reasons, Rules: maps.Clone(t.rules), HalfOpen: t.halfOpen()}
	out.Reasons[None] = 0
	for s := State(0); s.Live(); s++ {
		out.Live[s] = t.len[root(s)]
	}
	return out
}

// LiveByName returns the live flows by the name of their state.
func (t *Totals) LiveByName() map[string]int {
	out := make(map[string]int)
	for s := State(0); s.Live(); s++ {
		out[s.String()] = t.Live[s]
	}
	return out
}

// EnteredByName returns by the name of each state how many flows came into it.
func (t *Totals) EnteredByName() map[string]uint64 {
	out := make(map[string]uint64)
	for s, n := range t.Entered {
		out[State(s).String()] = n
	}
	return out
}

// ReasonsByName returns the reasons that were given, by name.
func (t *Totals) ReasonsByName() map[string]uint64 {
	out := make(map[string]uint64)
	for r, n := range t.Reasons {
		if n > 0 {
			out[Reason(r).String()] = n
		}
	}
	return out
}
