package paths

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Monitor watches the paths of a CPE: their links, as rtnetlink tells, and
// whether the HAG's [Answerer] answers over them. What it finds is in its
// statuses. Someone must run [Set.Watch] beside it.
type Monitor struct {
	set  *Set
	cfg  ProbeConfig
	log  *slog.Logger
	box  uint64
	seal *sealer

	// Of Run's goroutine.
	paths    []*watched
	echoes   chan echo
	revision uint32 // of down
	down     uint8  // a bit for each path that is not up
	told     uint32 // the revision that the HAG has
	instance uint64 // of the HAG
	relinked time.Time
	counters *counterReader
	counted  time.Time

	mu        sync.Mutex
	published bool // the paths were looked at
	statuses  []Status
	hag       HAGStatus
}

// NewMonitor prepares a monitor of the paths in set. It fails where a figure of
// cfg makes no sense.
func NewMonitor(set *Set, cfg ProbeConfig, log *slog.Logger) (*Monitor, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Monitor{set: set, cfg: cfg, log: log, box: rand.Uint64(), seal: newSealer(cfg.Secret), echoes: make(chan echo, 64)}
	now := time.Now()
	for i, p := range set.Paths {
		// Sequence numbers are hard to guess: whoever can name one has seen the probe.
		w := &watched{Path: p, index: i, health: newHealth(cfg, now), sequence: rand.Uint64() >> 1}
		m.paths = append(m.paths, w)
		m.statuses = append(m.statuses, w.status())
	}
	m.hag.Since = now
	return m, nil
}

// Statuses returns how each path is. Before Run has begun, all are down.
func (m *Monitor) Statuses() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.statuses)
}

// HAG returns how the HAG is.
func (m *Monitor) HAG() HAGStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hag
}

// DestroyPath ends the subflows on path i at this end, where their connections
// have others, and returns how many there were: those bound to its interface or
// from an address of it, and, on the first path, first subflows from clients'
// addresses. The kernel then sends at once by the others what they had not
// delivered.
func (m *Monitor) DestroyPath(i int) (int, error) {
	links := &m.set.links
	at := links.get(m.set.Paths[i].Interface)
	return destroySubflows(func(s *socket, _ []socket) bool {
		switch {
		case s.bound != 0: // an interface that is gone is nobody's
			return s.bound == at.index || !links.exists(s.bound)
		case slices.Contains(at.all, s.local.Addr()):
			return true
		}
		return i == 0 && !s.join && links.owner(s.local.Addr()) == 0
	})
}

// Run watches until ctx ends. It calls changed after some path or the HAG has
// become another than before, not counting figures; changed must not block.
func (m *Monitor) Run(ctx context.Context, changed func()) (err error) {
	if m.counters, err = openCounters(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.counters.close()) }()
	routes, err := openRouteWatch()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, routes.close()) }()
	g, ctx := errgroup.WithContext(ctx)
	rerouted := make(chan struct{}, 1)
	g.Go(func() error {
		return routes.run(ctx, func() {
			select {
			case rerouted <- struct{}{}:
			default:
			}
		})
	})
	m.loop(ctx, g, rerouted, changed)
	for _, w := range m.paths {
		err = errors.Join(err, w.close())
	}
	return errors.Join(err, g.Wait())
}

// relinkPause is how long to wait at least between two looks at the links: a
// routing daemon changes many routes at once.
const relinkPause = 20 * time.Millisecond

// starved is by how much the loop is too late when the machine has no time for it.
const starved = 10 * time.Millisecond

func (m *Monitor) loop(ctx context.Context, g *errgroup.Group, rerouted <-chan struct{}, changed func()) {
	listen := func(p *prober) { g.Go(func() error { p.listen(ctx, m.echoes); return nil }) }
	timer := time.NewTimer(0)
	defer timer.Stop()
	relinked := m.set.links.changed()
	stale := true
	next := time.Now()
	for ctx.Err() == nil {
		if time.Since(next) > starved {
			m.drain(ctx) // answers may be there that nobody had the time to read
		}
		now := time.Now()
		if stale && now.Sub(m.relinked) >= relinkPause {
			relinked = m.set.links.changed()
			m.relink(now, listen)
			stale = false
		}
		next = m.step(now, changed)
		if stale {
			next = earlier(next, m.relinked.Add(relinkPause))
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
		case <-relinked:
			stale, relinked = true, nil
		case <-rerouted:
			stale = true
		case e := <-m.echoes:
			m.take(e)
		case <-timer.C:
		}
	}
}

// drain gives those that listen some time, and takes what they have.
func (m *Monitor) drain(ctx context.Context) {
	enough := time.NewTimer(starved)
	defer enough.Stop()
	for {
		select {
		case e := <-m.echoes:
			m.take(e)
		case <-enough.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// relink takes the links as they are now.
func (m *Monitor) relink(now time.Time, listen func(*prober)) {
	m.relinked = now
	for _, w := range m.paths {
		if err := w.relink(now, &m.set.links, listen); err != nil {
			m.log.Debug("probe", "path", w.Name, "err", err)
		}
	}
}

// step looks at the paths, probes those that are due, and returns when there
// will be more to do.
func (m *Monitor) step(now time.Time, changed func()) (next time.Time) {
	m.count(now)
	m.check(now)
	next = now.Add(m.cfg.Every) // to see what the interfaces carry
	for _, w := range m.paths {
		h := w.health
		h.urgent = h.heard && (m.told != m.revision || w.stranger())
		if h.due(now) {
			m.probe(now, w)
		}
		if at := h.next(now); at.Before(next) {
			next = at
		}
	}
	if m.publish(now) {
		changed()
	}
	return next
}

// count reads the interfaces' counters, if that is not just done.
func (m *Monitor) count(now time.Time) {
	if now.Sub(m.counted) < 5*time.Millisecond {
		return
	}
	m.counted = now
	for _, w := range m.paths {
		if w.at.index == 0 {
			continue
		}
		if c, err := m.counters.read(w.at.index); err == nil { // else it has just gone
			w.counters = c
			w.health.traffic(now, c)
		}
	}
}

// check draws the conclusions of each path, and has the HAG told of what is down.
func (m *Monitor) check(now time.Time) {
	down, all := m.down, uint8(1<<len(m.paths)-1)
	for i, w := range m.paths {
		self := uint8(1) << i
		w.health.check(now, down|self == all)
		down &^= self
		if !w.health.up {
			down |= self
		}
	}
	if down != m.down {
		m.down = down
		m.revision++
		m.hurry()
	}
}

// hurry has all paths probed at once.
func (m *Monitor) hurry() {
	for _, w := range m.paths {
		w.health.lastSent = time.Time{}
	}
}

// probe sends one.
func (m *Monitor) probe(now time.Time, w *watched) {
	p := w.next()
	if p == nil {
		return
	}
	w.sequence++
	msg := message{
		version: messageVersion, kind: probe, path: uint8(w.index), box: m.box, sequence: w.sequence,
		cookie: p.cookie, revision: m.revision, down: m.down,
	}
	var buf [messageSize]byte
	_, err := p.conn.Write(m.seal.append(buf[:0], msg))
	p.unanswered++
	w.health.probed(now, w.sequence, err == nil)
	if err != nil {
		m.log.Debug("probe", "path", w.Name, "err", err)
	}
}

// take takes what came back to a prober.
func (m *Monitor) take(e echo) {
	i := slices.IndexFunc(m.paths, func(w *watched) bool { return slices.Contains(w.probers[:], e.from) })
	if i < 0 {
		return // it has been closed since
	}
	h := m.paths[i].health
	h.activity.echoes++
	before := h.outcome
	if e.refused {
		h.refuse(e.at, "")
	} else {
		m.takeMessage(e, h)
	}
	if h.outcome != before && h.outcome != answered {
		m.hurry() // is it so for all?
	}
}

func (m *Monitor) takeMessage(e echo, h *health) {
	msg, err := m.seal.open(e.data[:])
	if errors.Is(err, errNoMessage) || msg.box != m.box || !h.expects(msg.sequence) {
		return
	}
	switch {
	case errors.Is(err, errOtherVersion):
		h.refuse(e.at, fmt.Sprintf("HAG refuses probes: it speaks version %d of their protocol, this box version %d", msg.version, messageVersion))
	case msg.kind == refusal:
		h.refuse(e.at, "HAG refuses probes: its probe secret is another")
	case err == nil && msg.kind == answer:
		h.answer(e.at, msg.sequence)
		e.from.cookie, e.from.known, e.from.unanswered = msg.cookie, msg.flags&flagKnown != 0, 0
		if msg.instance != m.instance {
			m.instance, m.told = msg.instance, m.revision-1
		}
		if e.from.known && msg.revision == m.revision {
			m.told = m.revision
		}
	}
}
