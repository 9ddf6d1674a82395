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
	probers  [2]*prober     // IPv6 and IPv4; nil where an address or a route is missing
	sequence uint64         // of the last probe
	reaches  [2]paths.Reach // IPv6 and IPv4
	reasons  [2]string      // why a family cannot be used, "" where it can
	used     []netip.Addr   // from which probes and subflows may have started
	encap    encapsulation
}

// relink reads the path's link again, and opens and closes probers as its addresses
// and routes allow. Receive is called for each prober that it opens.
func (p *path) relink(now time.Time, m *Monitor, receive func(*prober)) error {
	before := p.link
	p.link = m.machine.Link(p.Interface)
	if p.link.Lost(before, p.used) {
		p.health.Renumbered(now) // subflows from the old address are dead, even if there is a new one
		p.used = slices.DeleteFunc(p.used, func(a netip.Addr) bool { return !slices.Contains(p.link.Addrs, a) })
	}
	var errs []error
	for i := range p.probers {
		p.reaches[i] = p.reach(m.machine, i == 1)
		errs = append(errs, p.reopen(i, m, receive))
	}
	p.judge(now, m.hag.State == paths.HAGUp)
	return errors.Join(errs...)
}

// reach returns the way to the join address of a family, as the kernel sees it.
func (p *path) reach(machine Machine, is4 bool) paths.Reach {
	r := paths.Reach{Join: paths.PickJoin(p.Join, is4)}
	if r.Join.IsValid() && p.link.Carrier && p.link.Addr(is4).IsValid() {
		r.Source = machine.Source(r.Join.Addr(), p.link.Index)
	}
	if a := r.Source.Addr; a.IsValid() && !slices.Contains(p.used, a) {
		p.used = append(p.used, a)
	}
	return r
}

// reopen opens or closes the prober of a family as its reach allows.
func (p *path) reopen(i int, m *Monitor, receive func(*prober)) (err error) {
	at, r := &p.probers[i], p.reaches[i]
	if *at != nil && (!r.Source.Usable() || !(*at).connects(p.link.Index, r.Source.Addr, r.Join)) {
		err = (*at).conn.Close()
		*at = nil
	}
	if *at != nil || !r.Source.Usable() || m.cfg.Off {
		return err
	}
	conn, failed := m.dial(p.Interface, r.Source.Addr, r.Join)
	if failed != nil {
		return errors.Join(err, failed) // the link may have changed again: that is reported, too
	}
	*at = &prober{conn: conn, index: p.link.Index, local: r.Source.Addr, join: r.Join, sizes: paths.NewSizeCheck(p.link.MTU, i == 1)}
	receive(*at)
	return err
}

// judge finds out which families cannot be used, and tells the health if none can. Hag is
// set if the HAG answers over some path.
func (p *path) judge(now time.Time, hag bool) {
	status := p.health.Status()
	elsewhere := hag && !status.Probed && status.Reason == ""
	for i, at := range p.probers {
		other := p.probers[1-i]
		p.reaches[i].Refused = at != nil && !at.refused.IsZero() && other != nil && !other.unheard()
		p.reaches[i].Silent = at != nil && at.silent() && p.health.Overdue(now, at.waits, at.unanswered, at.heard) &&
			(elsewhere || other != nil && other.heard && !other.silent())
	}
	var fault string
	p.reasons, fault = p.link.Reaches(p.reaches)
	if fault = p.link.Fault(fault); fault != "" {
		p.reasons = [2]string{}
	}
	p.health.SetLink(fault)
}

// nextProber returns the prober for the next probe, nil without any. Address
// families alternate; one that is silent is tried now and then, and one that is refused more
// often, since the answer comes at once.
func (p *path) nextProber() *prober {
	turn := p.probers[p.sequence%2]
	other := p.probers[(p.sequence+1)%2]
	switch {
	case turn == nil:
		return other
	case other == nil, !turn.unheard(), other.unheard(), p.sequence%16 < 2, !turn.silent() && p.sequence%4 < 2:
		return turn
	}
	return other
}

// unconfirmed reports whether the HAG replies to an address that it has not
// confirmed yet.
func (p *path) unconfirmed() bool {
	return slices.ContainsFunc(p.probers[:], func(at *prober) bool { return at != nil && !at.confirmed && !at.unheard() })
}

// status returns the path's status.
func (p *path) status() paths.Status {
	s := p.health.Status()
	s.Interface, s.Carrier = p.link.Index, p.link.Carrier
	s.Addr6, s.Addr4 = p.address(0), p.address(1)
	s.Reason6, s.Reason4 = p.reasons[0], p.reasons[1]
	s.Limit6, s.Limit4 = p.limits()
	s.Offer = p.encap.offer
	for i, of := range []struct {
		seen    *netip.Addr
		refused *time.Time
	}{{&s.Seen6, &s.Refused6}, {&s.Seen4, &s.Refused4}} {
		if at := p.probers[i]; at != nil {
			*of.seen, *of.refused = at.seen.Addr(), at.refused
		}
	}
	s.BytesSent, s.BytesReceived = p.counters.SentBytes, p.counters.ReceivedBytes
	return s
}

// address returns the address from which subflows of a family start.
func (p *path) address(i int) netip.Addr {
	if a := p.reaches[i].Source.Addr; a.IsValid() {
		return a
	}
	return p.link.Addr(i == 1)
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
