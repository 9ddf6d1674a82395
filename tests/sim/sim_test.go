package sim

import (
	"flag"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

var (
	seeds = flag.Uint64("sim.seeds", 10_000, "number of seeds to run")
	first = flag.Uint64("sim.first", 1, "the first of them")
	seed  = flag.Uint64("sim.seed", 0, "run this seed only, and tell its story")
)

// sound is a core as it is.
func sound(c *core.Core) decider { return c }

func TestCoreHoldsItsInvariantsUnderFaults(t *testing.T) {
	if *seed != 0 {
		var story strings.Builder
		err := Run(*seed, sound, &story)
		t.Log("\n" + story.String())
		if err != nil {
			t.Error(err)
		}
		return
	}
	if failed, err := search(*first, *seeds, sound); err != nil {
		var story strings.Builder
		Run(failed, sound, &story)
		t.Errorf("%v\nits story, which -sim.seed %d tells again:\n%s", err, failed, story.String())
	}
}

// search runs seeds until an invariant is violated.
func search(from, n uint64, broken func(*core.Core) decider) (failed uint64, err error) {
	var next atomic.Uint64
	var mu sync.Mutex
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for {
				s := from + next.Add(1) - 1
				mu.Lock()
				done := err != nil
				mu.Unlock()
				if done || s >= from+n {
					return
				}
				if e := Run(s, broken, nil); e != nil {
					mu.Lock()
					if err == nil || s < failed {
						failed, err = s, e
					}
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return failed, err
}

func TestSeedIsRepeatable(t *testing.T) {
	for s := range uint64(20) {
		var a, b strings.Builder
		Run(s, sound, &a)
		Run(s, sound, &b)
		if a.String() != b.String() {
			t.Fatalf("seed %d has two stories", s)
		}
	}
}

// The ways to break a core that the simulator must find.
type (
	forgetful  struct{ *core.Core } // of the SYN whose place another has taken
	promising  struct{ *core.Core } // what the server has not said
	patient    struct{ *core.Core } // for ever
	impolite   struct{ *core.Core } // to the onward leg of a client that has reset
	indecisive struct{ *core.Core } // about a packet: two verdicts
	credulous  struct{ *core.Core } // of resets that MP_CAPABLE has caused
)

func (c forgetful) Packet(acts []core.Action, now time.Duration, p core.Packet) []core.Action {
	acts = c.Core.Packet(acts, now, p)
	if len(acts) == 2 && acts[0].Decision.Supersedes {
		acts = acts[:1]
	}
	return acts
}

func (c promising) DialEnded(acts []core.Action, now time.Duration, id state.ID, end core.Dialed) []core.Action {
	for i, a := range c.Core.DialEnded(acts, now, id, end) {
		if a.Kind == core.Decide && a.Decision.Verdict == core.Reset {
			a.Decision.Verdict = core.Deliver
		}
		acts = append(acts[:i], a)
	}
	return acts
}

func (c credulous) DialEnded(acts []core.Action, now time.Duration, id state.ID, end core.Dialed) []core.Action {
	acts = c.Core.DialEnded(acts, now, id, end)
	for _, a := range acts {
		if a.Kind == core.Connect {
			return c.Core.DialEnded(nil, now, a.Flow, end)
		}
	}
	return acts
}

func (c patient) Tick(acts []core.Action, _ time.Duration) []core.Action { return acts }

func (c impolite) ClientReset(acts []core.Action, now time.Duration, id state.ID) []core.Action {
	c.Core.ClientReset(nil, now, id)
	return acts
}

func (c indecisive) Packet(acts []core.Action, now time.Duration, p core.Packet) []core.Action {
	acts = c.Core.Packet(acts, now, p)
	if d := acts[0].Decision; acts[0].Kind == core.Decide && d.Reason == state.Repeat && d.Verdict == core.Deliver {
		acts = append(acts, acts[0])
	}
	return acts
}

func TestBrokenCoreIsFound(t *testing.T) {
	for name, broken := range map[string]func(*core.Core) decider{
		"a superseded SYN is not dropped":       func(c *core.Core) decider { return forgetful{c} },
		"a refusal is delivered":                func(c *core.Core) decider { return promising{c} },
		"nothing expires":                       func(c *core.Core) decider { return patient{c} },
		"a client's reset does not end its leg": func(c *core.Core) decider { return impolite{c} },
		"a reset of a middlebox is believed":    func(c *core.Core) decider { return credulous{c} },
		"a repeat gets two verdicts":            func(c *core.Core) decider { return indecisive{c} },
	} {
		failed, err := search(1, 2000, broken)
		if err == nil {
			t.Errorf("%s: 2,000 seeds do not find it", name)
			continue
		}
		t.Logf("%s: %v (seed %d)", name, err, failed)
	}
}
