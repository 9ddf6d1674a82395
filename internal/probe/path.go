//go:build linux

package probe

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/paths"
)

// path is a path that a [Monitor] watches.
type path struct {
	paths.Path
	index    int // among the paths
	health   *paths.Health
	link     paths.Link
	counters paths.LinkCounters
	probers  [2]*prober // IPv6 and IPv4; nil where an address or a route is missing
	sequence uint64     // of the last probe
}

// relink reads the path's link anew, and opens and closes probers as its addresses
// and routes allow. Receive is called for each prober that it opens.
func (p *path) relink(now time.Time, m *Monitor, receive func(*prober)) error {
	before := p.link
	p.link = m.machine.Link(p.Interface)
	var errs []error
	addressed, routed := false, false
	for i := range p.probers {
		at := &p.probers[i]
		local, join := p.link.Addr(i == 1), paths.PickJoin(p.Join, i == 1)
		usable := local.IsValid() && join.IsValid() && p.link.Carrier && m.machine.Routed(join.Addr(), local, p.link.Index)
		addressed = addressed || local.IsValid() && (join.IsValid() || len(p.Join) == 0)
		routed = routed || usable
		if *at != nil && (!usable || !(*at).connects(p.link.Index, local, join)) {
			errs = append(errs, (*at).conn.Close())
			*at = nil
		}
		if *at == nil && usable && !m.cfg.Off {
			conn, err := m.dial(p.Interface, local, join)
			if err != nil {
				errs = append(errs, err) // the link may have changed again: that is reported, too
				continue
			}
			*at = &prober{conn: conn, index: p.link.Index, local: local, join: join}
			receive(*at)
		}
	}
	if p.link.Lost(before) {
		p.health.Renumbered(now) // subflows from the old address are dead, even if there is a new one
	}
	p.health.SetLink(p.link.Fault(addressed, routed || len(p.Join) == 0))
	return errors.Join(errs...)
}

// nextProber returns the prober for the next probe, nil without any. Address
// families alternate; a silent one is tried now and then.
func (p *path) nextProber() *prober {
	turn := p.probers[p.sequence%2]
	other := p.probers[(p.sequence+1)%2]
	switch {
	case turn == nil:
		return other
	case other == nil, !turn.silent(), other.silent(), p.sequence%16 < 2:
		return turn
	}
	return other
}

// unconfirmed reports whether the HAG replies to an address that it has not
// confirmed yet.
func (p *path) unconfirmed() bool {
	return slices.ContainsFunc(p.probers[:], func(at *prober) bool { return at != nil && !at.confirmed && !at.silent() })
}

// status returns the path's status.
func (p *path) status() paths.Status {
	s := p.health.Status()
	s.Interface, s.Carrier, s.Addr4, s.Addr6 = p.link.Index, p.link.Carrier, p.link.Addr4, p.link.Addr6
	for i, seen := range []*netip.Addr{&s.Seen6, &s.Seen4} {
		if at := p.probers[i]; at != nil {
			*seen = at.seen.Addr()
		}
	}
	s.BytesSent, s.BytesReceived = p.counters.SentBytes, p.counters.ReceivedBytes
	return s
}

// close closes the probers.
func (p *path) close() (err error) {
	for _, at := range p.probers {
		if at != nil {
			err = errors.Join(err, at.conn.Close())
		}
	}
	return err
}
