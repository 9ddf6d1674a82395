package state

import (
	"maps"
	"math"
)

// Trial returns a table in which to try what one more SYN would do: with the bounds and the
// counts of t, and of its flows only the one with key k. The copy has an ID of its own; was
// is the flow as it is in t.
func (t *Table) Trial(k Key) (trial *Table, was Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	trial = NewTable(t.cfg)
	trial.cfg.MaxEnded = math.MaxInt // the counts are those of flows that are not there
	if from := t.slots[k]; from != none {
		was = t.flows.at(from).Flow
		n := trial.flows.take()
		trial.slots[k] = n
		r := trial.flows.at(n)
		r.Flow = was
		r.ID = trial.newID(n)
		trial.enter(n)
	}
	trial.len, trial.users = t.len, maps.Clone(t.users)
	return trial, was
}

// Room is the number of flows that count towards the bounds of a table, with the bounds.
type Room struct{ Flows, MaxFlows, HalfOpen, MaxHalfOpen int }

// Room returns how full the table is.
func (t *Table) Room() Room {
	t.mu.Lock()
	defer t.mu.Unlock()
	halfOpen := t.halfOpen()
	return Room{halfOpen + t.len[root(Relaying)], t.cfg.MaxFlows, halfOpen, t.cfg.MaxHalfOpen}
}
