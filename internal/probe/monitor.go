//go:build linux

package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/synbond/synbond/internal/paths"
)

// Machine gives a [Monitor] access to interfaces and routes. It is safe for concurrent
// use.
type Machine interface {
	// Link returns the interface of that name, or the zero Link.
	Link(name string) paths.Link
	// Source returns the local end of packets to dst by an interface.
	Source(dst netip.Addr, index int) paths.Source
	// Counters returns the counters of an interface.
	Counters(index int) (paths.LinkCounters, error)
	// Changed returns a channel that is closed at the next change of links or routes.
	Changed() <-chan struct{}
}

// Monitor watches the paths of a CPE: their links, and whether the HAG's [Responder]
// replies over them.
type Monitor struct {
	cfg     paths.ProbeConfig
	machine Machine
	dial    Dialer
	log     *slog.Logger
	box     uint64
	codec   *codec
	large   [maxMessageSize]byte // buffer of a probe
	wanted  atomic.Uint32        // a bit for each path that is to get encapsulated subflows
	deliver func(path int, datagram []byte)

	// Of Run's goroutine.
	paths     []*path
	responses chan response
	rejoin    chan []netip.AddrPort
	revision  uint32 // of down
	down      uint8  // a bit for each path that is not up
	told      uint32 // the revision that the HAG has confirmed
	instance  uint64 // of the HAG
	instances paths.Instances
	relinked  time.Time
	counted   time.Time

	mu        sync.Mutex
	published bool // at least once
	statuses  []paths.Status
	hag       paths.HAGStatus
	departed  []paths.Departed // since [Monitor.Departed] was called
}

// NewMonitor returns a monitor of these paths. A nil dial means [DialUDP]. It returns
// an error if a value of cfg makes no sense.
func NewMonitor(machine Machine, dial Dialer, all []paths.Path, cfg paths.ProbeConfig, log *slog.Logger) (*Monitor, error) {
	cfg, err := cfg.WithDefaults()
	if err != nil {
		return nil, err
	}
	if dial == nil {
		dial = DialUDP
	}
	m := &Monitor{
		cfg: cfg, machine: machine, dial: dial, log: log,
		box: rand.Uint64(), codec: newCodec(cfg.Secret), responses: make(chan response, 64),
		rejoin:  make(chan []netip.AddrPort, 1),
		deliver: func(int, []byte) {},
	}
	now := time.Now()
	for i, p := range all {
		// Sequence numbers are hard to guess: only who has seen a probe knows its number.
		at := &path{Path: p, index: i, health: paths.NewHealth(cfg, now), sequence: rand.Uint64() >> 1}
		m.paths = append(m.paths, at)
		m.statuses = append(m.statuses, at.status())
	}
	m.hag.Since = now
	return m, nil
}

// Statuses returns the status of each path. Before Run has begun, all are down.
func (m *Monitor) Statuses() []paths.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.statuses)
}

// HAG returns the status of the HAG.
func (m *Monitor) HAG() paths.HAGStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hag
}

// Departed returns the runs of the HAG that are over since it was called last.
func (m *Monitor) Departed() []paths.Departed {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.departed
	m.departed = nil
	return out
}

// SetJoins replaces the join addresses of all paths, at most one per address family.
func (m *Monitor) SetJoins(joins []netip.AddrPort) {
	for {
		select {
		case m.rejoin <- joins:
			return
		case <-m.rejoin: // older ones, which nobody has taken
		}
	}
}

// Run watches until ctx ends. It calls changed after each change of a status that is
// not one of figures only; changed must not block.
func (m *Monitor) Run(ctx context.Context, changed func()) (err error) {
	g, ctx := errgroup.WithContext(ctx)
	m.loop(ctx, g, changed)
	for _, p := range m.paths {
		err = errors.Join(err, p.close())
	}
	return errors.Join(err, g.Wait())
}

const (
	// relinkPause is the shortest time between two readings of the links: a routing
	// daemon changes many routes at once.
	relinkPause = 20 * time.Millisecond
	// maxLateness is the delay of the loop beyond which it first takes the responses
	// that wait: the machine lacked the time to read them.
	maxLateness = 10 * time.Millisecond
	// countPause is the shortest time between two readings of the counters.
	countPause = 5 * time.Millisecond
)

func (m *Monitor) loop(ctx context.Context, g *errgroup.Group, changed func()) {
	receive := func(p *prober, path int) {
		deliver := func(datagram []byte) { m.deliver(path, datagram) }
		g.Go(func() error { p.receive(ctx, m.responses, deliver); return nil })
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	linkChanged := m.machine.Changed()
	stale := true
	next := time.Now()
	for ctx.Err() == nil {
		if time.Since(next) > maxLateness {
			m.takeWaiting(ctx)
		}
		now := time.Now()
		if stale && now.Sub(m.relinked) >= relinkPause {
			linkChanged = m.machine.Changed()
			m.relink(now, receive)
			stale = false
		}
		next = m.step(ctx, g, now, changed)
		if again := m.relinked.Add(relinkPause); stale && again.Before(next) {
			next = again
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
		case <-linkChanged:
			stale, linkChanged = true, nil
		case joins := <-m.rejoin:
			for _, p := range m.paths {
				p.Join = joins
			}
			stale = true
		case r := <-m.responses:
			m.take(r)
		case <-timer.C:
		}
	}
}

// takeWaiting gives the receiving goroutines some time, and takes their responses.
func (m *Monitor) takeWaiting(ctx context.Context) {
	enough := time.NewTimer(maxLateness)
	defer enough.Stop()
	for {
		select {
		case r := <-m.responses:
			m.take(r)
		case <-enough.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// relink reads the links of all paths.
func (m *Monitor) relink(now time.Time, receive func(*prober, int)) {
	m.relinked = now
	for i, p := range m.paths {
		if err := p.relink(now, m, func(at *prober) { receive(at, i) }); err != nil {
			m.log.Debug("probe", "path", p.Name, "err", err)
		}
	}
}

// step checks the paths, probes those that are due, and returns the time of the next
// step.
func (m *Monitor) step(ctx context.Context, g *errgroup.Group, now time.Time, changed func()) (next time.Time) {
	m.count(now)
	m.check(now)
	next = now.Add(m.cfg.Every) // for the counters
	for _, p := range m.paths {
		p.health.SetUrgent(m.told != m.revision || p.unconfirmed() || m.instances.Unsettled() || m.asks(p))
		p.encap.outlet.Store(p.outlet())
		if p.health.Due(now) {
			m.probe(now, p)
		}
		if at := p.health.Next(now); at.Before(next) {
			next = at
		}
		next = m.checkSizes(now, p, next)
		next = m.knock(ctx, g, now, p, next)
	}
	if m.publish(now) {
		changed()
	}
	return next
}

// count reads the interfaces' counters, unless that was just done.
func (m *Monitor) count(now time.Time) {
	if now.Sub(m.counted) < countPause {
		return
	}
	m.counted = now
	for _, p := range m.paths {
		if p.link.Index == 0 {
			continue
		}
		if c, err := m.machine.Counters(p.link.Index); err == nil { // otherwise the interface has just gone
			p.counters = c
			p.health.Observe(now, c)
		}
	}
}

// check decides which paths are down, and starts to tell the HAG if others are than
// before.
func (m *Monitor) check(now time.Time) {
	down, all := m.down, uint8(1<<len(m.paths)-1)
	for i, p := range m.paths {
		self := uint8(1) << i
		p.judge(now, m.hag.State == paths.HAGUp) // as last published, by this goroutine
		p.health.Check(now, down|self == all)
		switch {
		case !p.health.Up():
			down |= self
		case down&self != 0:
			down &^= self
			p.askAgain()
		}
	}
	if down != m.down {
		m.down = down
		m.revision++
		m.probeAll()
	}
}

// probeAll makes a probe due on each path.
func (m *Monitor) probeAll() {
	for _, p := range m.paths {
		p.health.ProbeNow()
	}
}

// probe sends a probe over a path.
func (m *Monitor) probe(now time.Time, p *path) {
	at := p.nextProber()
	if at == nil {
		return
	}
	p.sequence++
	msg := m.message(p, at)
	if at.extend(now, m.instances.Unsettled() || m.asks(p)) {
		msg.size, at.asked, msg.encap = extendedSize, now, m.wants(p)
		p.encap.sent(msg)
	}
	_, err := at.conn.Write(m.codec.append(m.large[:0], msg))
	if at.unanswered++; at.unanswered == 1 {
		at.waits = now
	}
	p.health.Probed(now, p.sequence, err == nil)
	if err != nil {
		m.log.Debug("probe", "path", p.Name, "err", err)
	}
}

// message returns the next probe of a path.
func (m *Monitor) message(p *path, at *prober) message {
	return message{
		version: messageVersion, kind: kindProbe, path: uint8(p.index), box: m.box, sequence: p.sequence,
		cookie: at.cookie, revision: m.revision, down: m.down, instance: abilityItems,
	}
}

// take takes a response.
func (m *Monitor) take(r response) {
	i := slices.IndexFunc(m.paths, func(p *path) bool { return slices.Contains(p.probers[:], r.to) })
	if i < 0 {
		return // the prober has been closed since
	}
	h := m.paths[i].health
	if r.knock {
		knocked(r, h, m.cfg.ByTCP)
		return
	}
	h.Received()
	if r.tooBig {
		r.to.sizes.Told(r.at)
		return
	}
	if r.refused {
		m.unreachable(r, m.paths[i])
		return
	}
	msg, err := m.codec.parse(r.data)
	if errors.Is(err, errNoMessage) || msg.box != m.box {
		return
	}
	switch {
	case err == nil && msg.kind == kindReply && r.to.sizes.Replied(r.at, msg.sequence):
	case !h.Expects(msg.sequence):
	case errors.Is(err, errOtherVersion):
		m.refused(r, h, fmt.Sprintf("HAG refuses probes: it speaks version %d of their protocol, this box version %d", msg.version, messageVersion))
	case msg.kind == kindRefusal:
		m.refused(r, h, "HAG refuses probes: its probe secret is another")
	case err == nil && msg.kind == kindReply:
		m.replied(r, m.paths[i], msg)
	}
}

// unreachable takes the response that a port is unreachable. If the HAG takes probes of one
// address family only, the other one says nothing about its box.
func (m *Monitor) unreachable(r response, p *path) {
	news := r.to.refused.IsZero()
	if news {
		r.to.refused = r.at
	}
	if !slices.ContainsFunc(p.probers[:], func(at *prober) bool { return at != nil && !at.unheard() }) {
		m.refused(r, p.health, "")
		return
	}
	r.to.unanswered = 0
	p.health.RefusedByFamily(r.at)
	if news {
		p.health.ProbeNow() // over the other family
	}
}

// refused takes a response that is no reply. The other paths are probed at once to
// find out whether it holds for all.
func (m *Monitor) refused(r response, h *paths.Health, denial string) {
	r.to.unanswered = 0
	if h.Refused(r.at, denial) {
		m.probeAll()
	}
}

func (m *Monitor) replied(r response, p *path, msg message) {
	h := p.health
	h.Replied(r.at, msg.sequence)
	r.to.cookie, r.to.confirmed, r.to.unanswered, r.to.heard = msg.cookie, msg.flags&flagConfirmed != 0, 0, true
	r.to.deaf, r.to.refused = false, time.Time{}
	r.to.extends = msg.flags&flagItems != 0
	if msg.seen.IsValid() {
		r.to.seen = msg.seen
	}
	var lives []uint64
	if msg.lives[0] != 0 {
		lives = msg.lives[:]
	}
	if over := m.instances.Heard(r.at, msg.instance, lives); len(over) > 0 {
		m.mu.Lock()
		m.departed = append(m.departed, over...)
		m.mu.Unlock()
	}
	if msg.instance != m.instance {
		m.instance, m.told = msg.instance, m.revision-1
		for _, p := range m.paths {
			p.encap.offer = paths.Offer{}
		}
	}
	p.encap.replied(msg)
	if r.to.confirmed && msg.revision == m.revision {
		m.told = m.revision
	}
}
