//go:build linux

package box

import (
	"context"
	"errors"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/relay"
)

// Survey returns a look at this machine for a box with that configuration.
func (c Config) Survey() host.Survey {
	c.resolve()
	s := host.Survey{
		Surroundings: host.NewHere(), HAG: c.Role == HAG, Plain: c.Plain, Paths: c.Paths, Join: c.Join,
		HalfOpen: c.Table.WithDefaults().MaxHalfOpen, OwnSource: c.OwnSource4,
	}
	if c.Role == CPE {
		s.Paths = paths.NewSet(nil, c.Paths).Paths // paths share their join addresses
	}
	return s
}

// check looks for obstacles on the machine.
func (b *Box) check(scope host.Scope) {
	before := b.survey.Peers
	if b.survey.Peers = b.peerAddresses(); scope < host.Everything && !slices.Equal(b.survey.Peers, before) {
		b.machineChanged() // rules and routes may treat them otherwise
	}
	found := b.survey.Check(scope)
	b.acting.Lock()
	defer b.acting.Unlock()
	b.report(found)
	if scope == host.Everything {
		if all, err := b.survey.Translations(); err == nil {
			b.installed.translates.Store(newSourceRules(all))
		}
		b.checkPathManagers()
	}
	b.reportLosses()
	b.passStopped()
}

// refusedLately is the time for which a refused dial is a finding.
const refusedLately = time.Minute

// reportLosses reports what only the connections themselves have shown.
func (b *Box) reportLosses() {
	var found []host.Finding
	lost := b.core.Undelivered()
	for _, f := range []struct {
		name string
		is   bool
	}{{"IPv6", lost.IPv6}, {"IPv4", lost.IPv4}} {
		if f.is {
			found = append(found, host.NotDelivered.Finding(f.name, "handshakes with "+f.name+" hosts are not completed"))
		}
	}
	if at := b.refused.Load(); at != 0 && b.now()-time.Duration(at) < refusedLately {
		found = append(found, host.DialsRefused.Finding("", "this machine refuses connections that the box begins"))
	}
	b.findings.Report("losses", found...)
}

// stoppedFor is the time for which relayed connections must have been stopped before they are
// reset: programs that load their rules one by one stop them for a moment.
const stoppedFor = 3 * time.Second

// passStopped lets new connections pass that could not work if they were relayed, and resets
// those that hang.
func (b *Box) passStopped() {
	var stops, hang host.FamilySet
	for _, f := range b.findings.All() {
		stops |= f.Stops
		if !f.Limits && (f.ID == host.InputDrops.ID || f.ID == host.OutputDrops.ID) && time.Since(f.Since) >= stoppedFor {
			hang |= f.Stops // else only connections that begin are in trouble
		}
	}
	b.carryOut(b.core.SetStopped(nil, b.now(), core.Stopped{IPv6: stops&host.OverIPv6 != 0, IPv4: stops&host.OverIPv4 != 0}))
	if hang == 0 {
		return
	}
	for _, id := range b.conns.live(nil) {
		if c, ok := b.conns.get(id); ok && hang.Has(c.Local().Addr().Is4()) {
			b.kernel.relay.Reset(c.(*relay.Conn), syscall.ECONNABORTED)
		}
	}
}

// report reports what checks have found. A check that panics is named once.
func (b *Box) report(all []host.Result) {
	for _, r := range all {
		switch {
		case errors.Is(r.Err, host.ErrPanic) && !b.broken[r.Name]:
			b.broken[r.Name] = true
			b.cfg.Log.Warn("a check of the machine fails, and finds nothing: please report that", "check", r.Name, "err", r.Err)
		case r.Err != nil: // what was found before may still hold
			b.cfg.Log.Debug("a check could not look", "check", r.Name, "err", r.Err)
		default:
			b.findings.Report("check of "+r.Name, r.Findings...)
		}
	}
}

// peerAddresses returns the addresses of the CPEs that a HAG hears of.
func (b *Box) peerAddresses() (all []host.Peer) {
	if b.responder == nil {
		return nil
	}
	for _, p := range b.responder.Peers() {
		for _, at := range p.Paths {
			all = append(all, host.Peer{Addr: at.Addr, Interface: interfaceName(uint32(at.Interface)), Missing: at.Missing(time.Now())})
		}
	}
	return all
}

// sourceRules has the ways out on which sources are translated.
type sourceRules map[wayOut]bool

type wayOut struct {
	index uint32 // of the interface
	is4   bool
}

func newSourceRules(all []host.Translation) *sourceRules {
	t := make(sourceRules)
	for _, at := range all {
		if dev, err := net.InterfaceByName(at.Interface); err == nil {
			t[wayOut{uint32(dev.Index), at.IPv4}] = true
		}
	}
	return &t
}

// dialsAsItself reports whether the box dials from its own address in the place of the client's,
// which translation would have replaced. The SYN was to leave by the interface out.
func (b *Box) dialsAsItself(d relay.Dial, out uint32) bool {
	is4 := d.Client.Addr().Is4()
	if b.cfg.OwnSource4 && d.MPTCP && is4 {
		return true
	}
	t := b.installed.translates.Load()
	return t != nil && (*t)[wayOut{out, is4}]
}

// keepChecking looks for obstacles again and again, until ctx ends.
func (b *Box) keepChecking(ctx context.Context) error {
	var s host.Schedule
	s.Looked(b.now(), host.Everything) // before the box was ready
	timer := time.NewTimer(0)
	defer timer.Stop()
	for changed := b.machine.Changed(); ; {
		scope, at := s.Next()
		if now := b.now(); now >= at {
			if scope == host.Everything {
				changed = b.machine.Changed()
				b.sides.forget()
			}
			b.check(scope)
			s.Looked(now, scope)
			s.Quiet(b.survey.Quiet())
			continue
		}
		timer.Reset(at - b.now())
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
			changed = nil // until the look
			s.Changed(b.now())
			b.sides.forget()
		case <-b.recheck:
			s.Changed(b.now())
		case <-timer.C:
		}
	}
}

// machineChanged has the machine checked soon.
func (b *Box) machineChanged() {
	select {
	case b.recheck <- struct{}{}:
	default:
	}
}

// knownFindings returns the findings as the control socket shows them.
func (b *Box) knownFindings() []api.Finding {
	b.acting.Lock() // new connections are treated as they say
	defer b.acting.Unlock()
	out, now := []api.Finding{}, time.Now()
	for _, f := range b.findings.All() {
		out = append(out, api.Finding{
			ID: f.ID, Severity: string(f.Severity), Path: f.Path,
			Obstacle: f.Obstacle, Consequence: f.Consequence, Remedy: f.Remedy, SinceMS: now.Sub(f.Since).Milliseconds(),
		})
	}
	return out
}

// findingsByID counts the findings.
func (b *Box) findingsByID() map[string]int {
	n := make(map[string]int)
	for _, f := range b.findings.All() {
		n[f.ID]++
	}
	return n
}
