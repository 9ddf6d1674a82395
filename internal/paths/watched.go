package paths

import (
	"errors"
	"slices"
	"time"
)

// watched is a path that a [Monitor] watches.
type watched struct {
	Path
	index    int // of the path
	health   *health
	at       link
	counters counters
	probers  [2]*prober // IPv6 and IPv4; nil where the path lacks one end or the route
	sequence uint64     // of the last probe
}

// relink takes the path's link as it is now, and opens and closes probers as its
// addresses and routes allow. Listening to new ones is left to listen.
func (w *watched) relink(now time.Time, links *links, listen func(*prober)) error {
	before := w.at
	w.at = links.get(w.Interface)
	var errs []error
	addressed, usable := false, false
	for i := range w.probers {
		p := &w.probers[i]
		local, join := w.at.addr(i == 1), pick(w.Join, i == 1)
		fit := local.IsValid() && join.IsValid() && w.at.carrier && routed(join.Addr(), local, w.at.index)
		addressed = addressed || local.IsValid() && (join.IsValid() || len(w.Join) == 0)
		usable = usable || fit
		if *p != nil && (!fit || !(*p).fits(w.at.index, local, join)) {
			errs = append(errs, (*p).conn.Close())
			*p = nil
		}
		if *p == nil && fit && !w.health.cfg.Off {
			opened, err := dialProber(w.Interface, w.at.index, local, join)
			if err != nil {
				errs = append(errs, err) // it may have changed again: that will be told
				continue
			}
			*p = opened
			listen(opened)
		}
	}
	if w.at.lacks(before) {
		// What was open from there is dead, although there may be another address.
		w.health.link(reasonRenumber)
		w.health.check(now, false)
	}
	w.health.link(w.fault(addressed, usable || len(w.Join) == 0))
	return errors.Join(errs...)
}

// fault returns what is wrong with the link.
func (w *watched) fault(addressed, routed bool) string {
	for _, f := range []struct {
		well   bool
		reason string
	}{
		{w.at.index != 0, reasonInterface},
		{w.at.enabled, reasonDisabled},
		{w.at.carrier, reasonCarrier},
		{addressed, reasonAddress},
		{routed, reasonRoute},
	} {
		if !f.well {
			return f.reason
		}
	}
	return ""
}

// next returns the prober whose turn it is, nil without any. Families take
// turns; one that has become deaf has a try now and then.
func (w *watched) next() *prober {
	turn := w.probers[w.sequence%2]
	other := w.probers[(w.sequence+1)%2]
	switch {
	case turn == nil:
		return other
	case other == nil, !turn.deaf(), other.deaf(), w.sequence%16 < 2:
		return turn
	}
	return other
}

// stranger tells whether the HAG does not know yet all addresses that it answers to.
func (w *watched) stranger() bool {
	return slices.ContainsFunc(w.probers[:], func(p *prober) bool { return p != nil && !p.known && !p.deaf() })
}

// status tells how the path is.
func (w *watched) status() Status {
	s := w.health.status()
	s.Interface, s.Carrier, s.Addr4, s.Addr6 = w.at.index, w.at.carrier, w.at.addr4, w.at.addr6
	s.BytesSent, s.BytesReceived = w.counters.sentBytes, w.counters.receivedBytes
	return s
}

// close closes the probers.
func (w *watched) close() (err error) {
	for _, p := range w.probers {
		if p != nil {
			err = errors.Join(err, p.conn.Close())
		}
	}
	return err
}
