package guard

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Thing is something that a box has installed or set on its machine.
type Thing struct {
	Name string // for people, such as "nftables rules"
	// Vital: relayed connections need the thing. While it is left to others the box stands
	// aside, see [Config.Aside].
	Vital bool
	// Every is the time between two looks at a thing whose changes [Guard.Suspect] is told of,
	// or that changes rarely and costs much to look at. 0 stands for the shortest time.
	Every time.Duration
	// Look returns in a few words what others have changed about the thing, "" for nothing.
	Look func() (change string, err error)
	// Mend puts the thing back.
	Mend func() error
}

// Config of a guard.
type Config struct {
	Log *slog.Logger
	Now func() time.Duration // since the start of the box
	// Aside removes all vital things, so that new connections pass as without a box.
	Aside func() error
	// Return installs all vital things again.
	Return func() error
	// Changed is called after each change of what [Guard.Left] returns. It may be nil.
	Changed func()
}

// Guard keeps the things of one box. It is safe for concurrent use.
type Guard struct {
	cfg  Config
	wake chan struct{} // has room for one: there may be a change

	mu      sync.Mutex
	things  []*kept
	aside   *kept // the vital thing because of which the box stands aside
	changed bool  // what is left to others, since the last call of Config.Changed
}

// kept is a thing with its history.
type kept struct {
	Thing
	history
	by       string // who has changed it since the last look
	looked   time.Duration
	due      bool // it may have changed since the last look
	left     bool // until history.ends
	culprits []string
	failure  string // of the last look or of its mending
}

// New returns a guard of these things, which are looked at and mended in this order.
func New(cfg Config, things ...Thing) *Guard {
	g := &Guard{cfg: cfg, wake: make(chan struct{}, 1)}
	for _, t := range things {
		g.things = append(g.things, &kept{Thing: t, due: true})
	}
	return g
}

// tick is the shortest time between two looks without an event. Settings under /proc/sys
// and MPTCP endpoints cause none.
const tick = time.Second

// settle is the time between an event and the look at what has changed: a program that
// removes many things one by one is to be through with that.
const settle = 5 * time.Millisecond

// Run looks at the things again and again, and mends them, until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	every := time.NewTicker(tick)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		case <-g.wake:
			time.Sleep(settle)
		}
		g.Look()
	}
}

// Suspect notes who is about to be found to have changed a thing, "" for somebody unknown,
// and has that thing looked at soon. The thing "" stands for all.
func (g *Guard) Suspect(thing, who string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range g.things {
		switch {
		case k.Name == thing:
			k.by, k.due = who, true
		case thing == "":
			k.due = true
		}
	}
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Look looks at the things that it is time for, and mends what others have changed.
func (g *Guard) Look() {
	if g.lookAtDue() && g.cfg.Changed != nil {
		g.cfg.Changed()
	}
}

// lookAtDue reports whether there is a change of what is left to others.
func (g *Guard) lookAtDue() (changed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.changed = false
	now := g.cfg.Now()
	for _, k := range g.things {
		switch {
		case k.Vital && g.aside != nil:
			if k == g.aside && now >= k.ends {
				g.comeBack()
			}
			continue
		case k.left && now < k.ends:
			continue
		case k.left:
			k.left, g.changed = false, true
			g.cfg.Log.Info("the box tries again to keep " + k.Name)
		case !k.isDue(now):
			continue
		}
		g.look(k, now)
	}
	return g.changed
}

// isDue reports whether it is time to look at a thing. What has failed is tried at each look.
func (k *kept) isDue(now time.Duration) bool {
	return k.due || k.failure != "" || now-k.looked >= k.Every
}

// look looks at one thing.
func (g *Guard) look(k *kept, now time.Duration) {
	by := k.by
	k.by, k.due, k.looked = "", false, now
	what, err := k.Look()
	switch {
	case err != nil:
		k.fails(g.cfg.Log, "cannot look at "+k.Name, err)
	case what == "":
		k.failure = ""
	default:
		g.mend(k, change{now, what, by})
	}
}

// mend puts a thing back, or leaves it.
func (g *Guard) mend(k *kept, c change) {
	counts, contested := false, false
	if k.Vital || k.failure == "" { // else it is the same change, that is still there
		counts, contested = k.add(c)
	}
	if contested {
		g.leave(k, c.at)
		return
	}
	err := k.Mend()
	switch {
	case err != nil:
		k.fails(g.cfg.Log, k.Name+": "+c.what+", and cannot be put back", err)
	case counts || k.failure != "":
		k.failure = ""
		g.cfg.Log.Warn(k.Name+": "+c.what+"; put back", suspects(c.by)...)
	}
}

// fails logs a failure, unless it is the last one again.
func (k *kept) fails(log *slog.Logger, what string, err error) {
	if k.failure != err.Error() {
		k.failure = err.Error()
		log.Error(what, "err", err)
	}
}

// leave leaves a contested thing to others for a while.
func (g *Guard) leave(k *kept, now time.Duration) {
	k.culprits = k.history.culprits()
	pause := k.history.leave(now)
	k.left, g.changed = true, true
	words := append([]any{"change", k.latest.what, "times", contestLimit, "within", contestWindow}, suspects(k.culprits...)...)
	words = append(words, "again in", pause)
	if !k.Vital {
		g.cfg.Log.Error(k.Name+" changes again and again: the box leaves it as others want it", words...)
		return
	}
	g.aside = k
	if err := g.cfg.Aside(); err != nil {
		words = append(words, "err", err)
	}
	g.cfg.Log.Error(k.Name+" changes again and again: the box stands aside, and connections pass", words...)
}

// comeBack ends the time for which the box stands aside.
func (g *Guard) comeBack() {
	k := g.aside
	if err := g.cfg.Return(); err != nil {
		k.history.leave(g.cfg.Now())
		g.cfg.Log.Error("the box still stands aside", "again in", k.pause, "err", errors.Join(err, g.cfg.Aside()))
		return
	}
	g.aside, k.left, g.changed = nil, false, true
	g.cfg.Log.Warn("the box takes connections again", "thing", k.Name)
}

func suspects(names ...string) []any {
	if all := strings.Join(names, ", "); all != "" {
		return []any{"by", all}
	}
	return nil
}

// Status is the state of a thing.
type Status struct {
	Thing   string
	Changes uint64 // by others
	// Last is the last change, By the program behind it, "" if unknown, At its time.
	Last, By string
	At       time.Duration
	// Left: the thing has changed too often, and is left to others until Until. Culprits
	// are the programs behind the changes.
	Left     bool
	Vital    bool
	Until    time.Duration
	Culprits []string
}

// Statuses returns the state of all things.
func (g *Guard) Statuses() (all []Status) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range g.things {
		all = append(all, Status{
			Thing: k.Name, Changes: k.total, Last: k.latest.what, By: k.latest.by, At: k.latest.at,
			Left: k.left, Vital: k.Vital, Until: k.ends, Culprits: k.culprits,
		})
	}
	return all
}

// IsAside reports whether the box stands aside.
func (g *Guard) IsAside() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.aside != nil
}

// Vitally calls do unless the box stands aside, and keeps it from doing so meanwhile.
func (g *Guard) Vitally(do func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.aside != nil {
		return nil
	}
	return do()
}
