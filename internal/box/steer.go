//go:build linux

package box

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/probe"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/state"
)

// steering keeps a CPE's subflows, and its dial policy, as the paths allow.
type steering struct {
	policy  *paths.Steering
	usage   *paths.Usage
	changed chan struct{} // has room for one: the monitor has news
	view    atomic.Pointer[view]

	// The kernel's, or doubles.
	monitor pathMonitor
	paths   pathControl

	encapsulation *encapsulation // nil for none

	kernel struct { // of a live box
		monitor *probe.Monitor
		manager *mptcp.Manager
		shaper  *host.Shaper
	}
}

// pathMonitor knows the HAG and the paths. [probe.Monitor] is one.
type pathMonitor interface {
	HAG() paths.HAGStatus
	Statuses() []paths.Status
	// Departed returns the runs of the HAG that are over since it was called last.
	Departed() []paths.Departed
	// Want says which paths need an encapsulated way, a bit each.
	Want(all uint8)
}

// pathControl changes subflows and interfaces. [kernelPaths] is one.
type pathControl interface {
	// SetDesired opens and ends subflows, or makes them backups, until all are as desired.
	SetDesired([]paths.DesiredState)
	// SetTranslated takes which paths are behind a NAT.
	SetTranslated([]paths.Translation)
	// EndPath ends the subflows of a path that has gone down, and returns their number.
	EndPath(path int) (int, error)
	// Renew forgets which subflows were refused: the HAG is another one.
	Renew()
	// Refusals returns for each path why it gets no subflows.
	Refusals() []paths.Refusal
	// Encapsulations returns the state of the encapsulated way of each path.
	Encapsulations() []paths.EncapsulationStatus
	// SetEncapsulation takes the encapsulated way of a path.
	SetEncapsulation(path int, e paths.Encapsulation)
	// Clamp lowers the MSS on paths.
	Clamp([]nfq.Clamp) error
	// Shape limits the rate of a path's interface, which has that index.
	Shape(path, index int)
}

// kernelPaths controls the kernel's subflows and interfaces.
type kernelPaths struct {
	*mptcp.Manager
	shaper *host.Shaper
	set    *paths.Set
	clamp  func([]nfq.Clamp) error
}

// Clamp implements pathControl.
func (k kernelPaths) Clamp(all []nfq.Clamp) error { return k.clamp(all) }

// EndPath implements pathControl.
func (k kernelPaths) EndPath(path int) (int, error) { return mptcp.EndSubflows(k.set.OnPath(path)) }

// Shape implements pathControl.
func (k kernelPaths) Shape(path, index int) { k.shaper.Shape(k.set.Paths[path], index) }

// view has the paths at the last look.
type view struct {
	hag      paths.HAGStatus
	statuses []paths.Status
	desired  []paths.DesiredState
	rates    []paths.Rate
	refusals []paths.Refusal
	encaps   []paths.EncapsulationStatus
}

// Names and times of steering.
const (
	usageFile = "quota.json" // in the folder for the box's state
	// steerEvery is the time between two measurements of rates. News of the monitor
	// need not wait for the next one.
	steerEvery = 100 * time.Millisecond
	saveEvery  = 5 * time.Second
)

// newSteering opens the kernel's side of steering.
func (b *Box) newSteering(undo *undo) (err error) {
	s := &steering{changed: make(chan struct{}, 1)}
	if s.usage, err = b.cfg.openUsage(); err != nil {
		return err
	}
	undo.add(s.usage.Save)
	s.policy = paths.NewSteering(b.set.Paths, s.usage)
	if s.kernel.monitor, err = b.newMonitor(); err != nil {
		return err
	}
	if s.kernel.manager, err = mptcp.NewManager(b.set, b.cfg.Log); err != nil {
		return err
	}
	undo.add(s.kernel.manager.Close)
	s.monitor = s.kernel.monitor
	s.kernel.shaper = host.NewShaper(b.journal, b.cfg.Log)
	s.paths = kernelPaths{s.kernel.manager, s.kernel.shaper, b.set, b.setClamps}
	b.subflows, b.steering = s.kernel.manager, s
	b.newEncapsulation(undo)
	s.look(len(b.set.Paths))
	return nil
}

// look begins with the view of a box that has not decided anything about its paths.
func (s *steering) look(n int) {
	s.view.Store(&view{s.monitor.HAG(), s.monitor.Statuses(), make([]paths.DesiredState, n), make([]paths.Rate, n), make([]paths.Refusal, n), make([]paths.EncapsulationStatus, n)})
}

// openUsage opens the usage of the paths' quotas. It touches no file if there are none.
func (c *Config) openUsage() (*paths.Usage, error) {
	file := filepath.Join(c.StateDir, usageFile)
	for _, p := range c.Paths {
		if p.Quota.Bytes == 0 {
			continue
		}
		if err := os.MkdirAll(c.StateDir, 0o755); err != nil {
			return nil, fmt.Errorf("folder for quotas: %w; choose another with --state-dir", err)
		}
		break
	}
	return paths.OpenUsage(file, host.Released, c.Log), nil
}

// news wakes steer.
func (s *steering) news() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// steer acts on the state of the paths again and again, until ctx ends.
func (b *Box) steer(ctx context.Context) error {
	s := b.steering
	tick := time.NewTicker(steerEvery)
	defer tick.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-s.changed: // until the monitor has had its first look, all seems well
	}
	for saved := b.now(); ; {
		b.steerOnce()
		if b.now()-saved >= saveEvery {
			saved = b.now()
			if err := s.usage.Save(); err != nil {
				b.cfg.Log.Warn("quotas", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-s.changed:
		}
	}
}

// steerOnce acts on the state of the paths at this moment. Then [Box.paths] shows it.
func (b *Box) steerOnce() {
	s := b.steering
	before, now := s.view.Load(), &view{hag: s.monitor.HAG(), statuses: s.monitor.Statuses()}
	now.desired = s.policy.Desired(b.now(), time.Now(), now.statuses)
	now.rates = s.policy.Rates()
	policy := b.cfg.dialPolicy(now.hag.State, now.statuses, now.desired)
	acts := b.core.SetDialPolicy(nil, b.now(), policy)
	for i, status := range now.statuses {
		if before.statuses[i].Up && !status.Up {
			b.endPath(i)
		}
		s.paths.Shape(i, status.Interface)
	}
	if t := b.translations(now.statuses); !slices.Equal(t, b.translations(before.statuses)) {
		s.paths.SetTranslated(t)
	}
	if now.hag.Instance != before.hag.Instance {
		s.paths.Renew()
	}
	b.fitSizes(before.statuses, now.statuses)
	s.paths.SetDesired(now.desired)
	b.carryOut(acts) // dials that are repeated: running connections come first
	now.refusals, now.encaps = s.paths.Refusals(), s.paths.Encapsulations()
	if s.encapsulation != nil {
		s.monitor.Want(s.encapsulation.want(now.encaps, now.refusals))
		s.encapsulation.fit(b.now(), now.statuses)
	}
	s.view.Store(now)
	b.reportRefusals(now)
	b.reportUnanswered(now.hag.State, now.statuses, time.Now())
	for _, d := range s.monitor.Departed() {
		b.endDeparted(d)
	}
}

// reportRefusals shows which paths refuse subflows, or take MPTCP's options away.
func (b *Box) reportRefusals(v *view) {
	found := append(b.strippedFindings(), b.unbondedFindings(v.hag.State)...)
	for i, r := range v.refusals {
		name, e := b.cfg.Paths[i].Name, b.steering.encapsulation
		if failure := e.failureOf(i); failure != "" {
			found = append(found, host.NoEncapsulation.Finding("", failure).On(name))
		}
		if r.Reason == "" {
			continue
		}
		kind := host.RefusesSubflows
		if e.ready(i) && v.encaps[i].Refusal.Reason == "" {
			kind = host.Encapsulates
		}
		text := r.Reason + " at " + portsOf("TCP", b.set.Paths[i].Join)
		if also := v.encaps[i].Refusal.Reason; also != "" {
			text += "; encapsulated " + also
		}
		found = append(found, kind.Finding("", text).On(name).With(r.Likely))
	}
	b.findings.Report("subflows", found...)
}

func (b *Box) translations(all []paths.Status) []paths.Translation {
	out := make([]paths.Translation, len(all))
	for i, s := range all {
		if b.upstreams != nil {
			out[i] = b.upstreams.translation(s)
			continue
		}
		out[i] = s.Translation()
	}
	return out
}

// endPath ends the subflows of a path that has gone down.
func (b *Box) endPath(i int) {
	name := b.cfg.Paths[i].Name
	n, err := b.steering.paths.EndPath(i)
	if err != nil {
		b.cfg.Log.Warn("end the subflows of a path", "path", name, "err", err)
		return
	}
	b.cfg.Log.Debug("subflows of a path that is down have ended", "path", name, "subflows", n)
}

// dialPolicy returns the dial policy for new flows in this state of the HAG and the
// paths, with these desired states of the paths.
func (c *Config) dialPolicy(hag paths.HAGState, all []paths.Status, desired []paths.DesiredState) (p core.DialPolicy) {
	for i, s := range all {
		if !s.Up {
			p.Down |= 1 << i
		}
	}
	switch {
	case len(c.Upstream.Servers) > 0:
		p.Mode, p.Ways = core.ThroughUpstream, c.ways(all, desired)
	case hag == paths.HAGDown:
		p.Mode, p.Reason = core.NoBox, state.HAGDown
	case !all[0].Up:
		p.Mode, p.Reason = c.FirstPathDown, state.FirstPathDown
	}
	if p.Mode != core.OwnSource {
		return p
	}
	for _, want := range []paths.DesiredState{paths.Normal, paths.Backup} {
		for i, s := range all {
			if desired[i] != want {
				continue
			}
			for family, addr := range []netip.Addr{s.Addr6, s.Addr4} {
				if from := &p.Sources[family]; addr.IsValid() && !from.Addr.IsValid() {
					*from = core.Source{Path: uint8(i), Addr: addr, Interface: c.Paths[i].Interface}
				}
			}
		}
	}
	return p
}

// FirstPathDownModes names the modes that a configuration may choose for new flows
// while a CPE's first path is down.
var FirstPathDownModes = map[string]core.Mode{"pass": core.NoBox, "own-source": core.OwnSource}
