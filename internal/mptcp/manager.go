//go:build linux

package mptcp

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/synbond/synbond/internal/paths"
)

// Manager carries out the plan of a [paths.Planner] on a CPE's kernel. Its methods
// are safe for concurrent use.
//
// One goroutine takes the kernel's events and one sends requests; a connection has
// no goroutine and no timer of its own.
type Manager struct {
	set    *paths.Set
	log    *slog.Logger
	pm     *PM
	events *Events
	start  time.Time
	wake   chan struct{} // has room for one: the planner has something to do
	large  chan struct{} // has room for one: there are connections to watch
	batch  *Batch        // of the goroutine that sends requests

	mu      sync.Mutex // guards what follows; never held during a system call of the batch
	planner *paths.Planner
	rests   bool // watch waits for large
}

// NewManager connects a new planner for these paths to the kernel.
func NewManager(set *paths.Set, log *slog.Logger) (*Manager, error) {
	m := &Manager{set: set, log: log, start: time.Now(), wake: make(chan struct{}, 1), large: make(chan struct{}, 1), planner: paths.NewPlanner(set, log)}
	var err error
	if m.pm, err = Open(); err != nil {
		return nil, err
	}
	if m.events, err = Listen(); err != nil {
		return nil, errors.Join(err, m.pm.Close())
	}
	m.batch = m.pm.NewBatch()
	return m, nil
}

// Close ends the manager's connections to the kernel.
func (m *Manager) Close() error { return errors.Join(m.pm.Close(), m.events.Close()) }

// Run gives connections their subflows until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return m.events.Run(ctx, m.handle) })
	g.Go(func() error { m.work(ctx); return nil })
	g.Go(func() error { m.watch(ctx); return nil })
	return g.Wait()
}

// Track is [paths.Planner.Track].
func (m *Manager) Track(token uint32, policy paths.SubflowPolicy, traffic paths.Traffic) {
	m.plan(func(p *paths.Planner) { p.Track(m.now(), token, policy, traffic) })
}

// Forget is [paths.Planner.Forget].
func (m *Manager) Forget(token uint32) {
	m.plan(func(p *paths.Planner) { p.Forget(token) })
}

// SetLarge is [paths.Planner.SetLarge].
func (m *Manager) SetLarge(token uint32) {
	m.plan(func(p *paths.Planner) { p.SetLarge(token) })
}

// SetDesired is [paths.Planner.SetDesired].
func (m *Manager) SetDesired(desired []paths.DesiredState) {
	m.plan(func(p *paths.Planner) { p.SetDesired(desired) })
}

// SetTranslated is [paths.Planner.SetTranslated].
func (m *Manager) SetTranslated(all []paths.Translation) {
	m.plan(func(p *paths.Planner) { p.SetTranslated(m.now(), all) })
}

// Renew is [paths.Planner.Renew].
func (m *Manager) Renew() { m.plan((*paths.Planner).Renew) }

// Encapsulations is [paths.Planner.Encapsulations].
func (m *Manager) Encapsulations() (all []paths.EncapsulationStatus) {
	m.plan(func(p *paths.Planner) { all = p.Encapsulations() })
	return all
}

// SetEncapsulation is [paths.Planner.SetEncapsulation].
func (m *Manager) SetEncapsulation(path int, e paths.Encapsulation) {
	m.plan(func(p *paths.Planner) { p.SetEncapsulation(path, e) })
}

// Stranded is [paths.Planner.Stranded].
func (m *Manager) Stranded(token uint32) {
	m.plan(func(p *paths.Planner) { p.Stranded(token) })
}

// AtHAG is [paths.Planner.AtHAG].
func (m *Manager) AtHAG(token uint32) (yes bool) {
	m.plan(func(p *paths.Planner) { yes = p.AtHAG(token) })
	return yes
}

// Refusals is [paths.Planner.Refusals].
func (m *Manager) Refusals() (all []paths.Refusal) {
	m.plan(func(p *paths.Planner) { all = p.Refusals() })
	return all
}

// Counters returns the counters of the subflows on all paths together.
func (m *Manager) Counters() (sum paths.SubflowCounters) {
	for _, c := range m.CountersByPath() {
		sum.Open += c.Open
		sum.Opened += c.Opened
		sum.Failed += c.Failed
		sum.Lost += c.Lost
		sum.Closed += c.Closed
	}
	return sum
}

// CountersByPath is [paths.Planner.Counters].
func (m *Manager) CountersByPath() (all []paths.SubflowCounters) {
	m.plan(func(p *paths.Planner) { all = p.Counters() })
	return all
}

// plan calls do with the planner, and wakes the goroutine that sends requests, and the one
// that watches, if there is something to do now.
func (m *Manager) plan(do func(*paths.Planner)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	do(m.planner)
	if m.planner.Sooner() {
		signal(m.wake)
	}
	if m.rests && m.planner.Watches() {
		m.rests = false
		signal(m.large)
	}
}

// signal puts a value into a channel that has room for one.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// handle hands an event to the planner.
func (m *Manager) handle(ev Event) {
	if ev.Type == Lost {
		m.log.Warn("more MPTCP events than could be kept: asking for the state of all subflows")
	}
	first := 0
	if ev.Type == Established {
		first = max(m.set.Index(ev.Local, ev.Remote), 0) // may ask the kernel for a route
	}
	report := paths.SubflowEvent{
		Token: ev.Token, Local: ev.Local, Remote: ev.Remote, LocalID: ev.LocalID, Interface: ev.Interface,
		NoJoin: ev.NoJoin, Err: syscall.Errno(ev.Error),
	}
	m.plan(func(p *paths.Planner) {
		switch ev.Type {
		case Established:
			p.Established(m.now(), report, first)
		case ConnClosed:
			p.Forget(ev.Token)
		case Announced:
			p.Announced(ev.Token, ev.Remote)
		case SubEstablished:
			p.SubflowOpened(m.now(), report)
		case SubClosed:
			p.SubflowClosed(m.now(), report)
		case Lost:
			p.EventsLost(m.now())
		}
	})
}

// work sends the planner's requests until ctx ends.
func (m *Manager) work(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(m.send())
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		}
	}
}

// send sends requests while the planner has some, and returns the time until it has
// more.
func (m *Manager) send() (wait time.Duration) {
	for {
		m.plan(func(p *paths.Planner) {
			var requests []paths.Request
			requests, wait = p.Plan(m.now())
			m.batch.Reset()
			for i := range requests {
				m.batch.add(&requests[i])
			}
		})
		if m.batch.Len() == 0 {
			return wait
		}
		errs, err := m.pm.Send(m.batch)
		if err != nil {
			m.log.Warn("subflows", "err", err)
		}
		m.plan(func(p *paths.Planner) { p.Conclude(m.now(), errs, err) })
	}
}

// add adds a request to the batch.
func (b *Batch) add(r *paths.Request) {
	local := Address{AddrPort: r.Local.AddrPort, ID: r.Local.ID, Interface: r.Local.Interface}
	switch r.Operation {
	case paths.CreateSubflow:
		if r.Backup {
			local.Flags = flagBackup
		}
		b.Create(r.Token, local, Address{AddrPort: r.Remote})
	case paths.SetBackup:
		b.SetBackup(r.Token, local.AddrPort, r.Remote, r.Backup)
	case paths.DestroySubflow:
		b.Destroy(r.Token, local.AddrPort, r.Remote)
	case paths.RemoveAddress:
		b.Remove(r.Token, local.ID)
	}
}

// watch measures the large connections until ctx ends.
func (m *Manager) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var all []paths.Watched
		var next time.Duration
		m.plan(func(p *paths.Planner) {
			all, next = p.Watch()
			m.rests = next == 0
		})
		for _, w := range all {
			if progress, ok := w.Metered.Progress(); ok {
				m.plan(func(p *paths.Planner) { p.Observe(m.now(), w.Token, progress) })
			}
		}
		timer.Stop()
		if next > 0 {
			timer.Reset(next)
		}
		select {
		case <-ctx.Done():
			return
		case <-m.large:
		case <-timer.C:
		}
	}
}

// Lagging is [paths.Planner.Lagging].
func (m *Manager) Lagging() (by [][]paths.Direction) {
	m.plan(func(p *paths.Planner) { by = p.Lagging() })
	return by
}

// now returns the time since the manager was made.
func (m *Manager) now() time.Duration { return time.Since(m.start) }
