package box

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/probe"
	"github.com/synbond/synbond/state"
)

// steering is what a CPE does about its paths.
type steering struct {
	monitor *probe.Monitor
	manager *mptcp.Manager
	policy  *paths.Steering
	usage   *paths.Usage
	shaper  *host.Shaper
	changed chan struct{} // has room for one: the monitor has news
	view    atomic.Pointer[view]
}

// view is how the paths were when they were last looked at.
type view struct {
	hag      paths.HAGStatus
	statuses []paths.Status
	desired  []paths.DesiredState
	rates    []paths.Rate
}

// Names and times of steering.
const (
	usageFile = "quota.json" // in the folder for the box's state
	// steerEvery is how often rates are measured. What the monitor finds is acted
	// upon at once.
	steerEvery = 100 * time.Millisecond
	saveEvery  = 5 * time.Second
)

// newSteering opens what a CPE steers its paths with.
func (b *Box) newSteering(undo *undo) (err error) {
	s := &steering{
		changed: make(chan struct{}, 1),
		shaper:  host.NewShaper(b.journal, b.cfg.Log),
	}
	if s.usage, err = b.cfg.openUsage(); err != nil {
		return err
	}
	undo.add(s.usage.Save)
	s.policy = paths.NewSteering(b.set.Paths, s.usage)
	if s.monitor, err = probe.NewMonitor(b.machine, nil, b.set.Paths, b.cfg.Probe, b.cfg.Log); err != nil {
		return err
	}
	if s.manager, err = mptcp.NewManager(b.set, b.cfg.Log); err != nil {
		return err
	}
	undo.add(s.manager.Close)
	b.subflows = s.manager
	n := len(b.set.Paths)
	s.view.Store(&view{s.monitor.HAG(), s.monitor.Statuses(), make([]paths.DesiredState, n), make([]paths.Rate, n)})
	b.steering = s
	return nil
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
	return paths.OpenUsage(file, c.Log), nil
}

// news wakes steer.
func (s *steering) news() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// steer keeps the subflows, and the dial policy for new flows, as the state of the
// paths wants them, until ctx ends.
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
		b.turn()
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

// turn acts on how the paths are now. What [Box.paths] shows has been acted on.
func (b *Box) turn() {
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
		s.shaper.Shape(b.set.Paths[i], status.Interface)
	}
	s.manager.SetDesired(now.desired)
	b.carryOut(acts) // dials that are repeated: running connections come first
	s.view.Store(now)
}

// endPath ends the subflows of a path that has gone down.
func (b *Box) endPath(i int) {
	n, err := mptcp.EndSubflows(b.set.OnPath(i))
	if err != nil {
		b.cfg.Log.Warn("end the subflows of a path", "path", b.set.Paths[i].Name, "err", err)
		return
	}
	b.cfg.Log.Debug("subflows of a path that is down have ended", "path", b.set.Paths[i].Name, "subflows", n)
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

// FirstPathDownModes are what a CPE may do with new flows while its first path is
// down, by the name that configurations use.
var FirstPathDownModes = map[string]core.Mode{"pass": core.NoBox, "own-source": core.OwnSource}
