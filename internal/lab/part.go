package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// part is one act of a scenario, with boxes of its own.
type part struct {
	title     string
	lines     []netlab.LineConfig // whose delays and losses are others in this part
	multipath string              // congestion control of multipath legs, if it is not that of the hosts
	options   map[string]string   // see [Network.StartCPE]
	flags     []string            // of the CPE
	still     bool                // it takes no film
	steps     []step              // taken one after the other
}

// step is one thing that happens in a part. An error ends the scenario; what is
// not as it should be is a check that fails.
type step func(context.Context, *scene) error

// Part is what one act of a scenario has shown.
type Part struct {
	Title    string   `json:"title"`
	Timeline Timeline `json:"timeline,omitzero"`
	Notes    []string `json:"notes"`

	table [][]string // figures side by side, headed by the first row
}

// scene is what the steps of a part work with.
type scene struct {
	*run
	shown     *Part
	cpe, hag  *netlab.Box
	film      *film
	times     map[string]time.Duration // named moments of the film
	transfers map[string]*transfer
	trips     map[string]time.Duration // round trips that were measured
	visitors  visitors
	held      []net.Conn
}

// play plays one part, from the start of its boxes to their end.
func (x *run) play(ctx context.Context, p part) (err error) {
	s := &scene{
		run: x, shown: &Part{Title: p.title, Notes: []string{}}, times: make(map[string]time.Duration),
		transfers: make(map[string]*transfer), trips: make(map[string]time.Duration),
	}
	x.r.Parts = append(x.r.Parts, s.shown)
	x.Say(p.title + ": starting the boxes")
	if s.cpe, s.hag, err = x.startBoxes(p); err != nil {
		return err
	}
	err = s.take(ctx, p.steps)
	stopped := errors.Join(s.cpe.Stop(), s.hag.Stop())
	s.check("both boxes stop cleanly", stopped == nil, "%v", stopped)
	if err != nil {
		return fmt.Errorf("%s: %w", p.title, err)
	}
	return nil
}

// startBoxes makes the lines, and starts the boxes, as a part wants them.
func (x *run) startBoxes(p part) (cpe, hag *netlab.Box, err error) {
	for _, c := range p.lines {
		l := x.n.Line(c.Name)
		if err := errors.Join(l.SetDelay(c.Delay), l.SetLoss(c.Loss)); err != nil {
			return nil, nil, err
		}
	}
	x.n.Multipath = cmp.Or(p.multipath, x.n.CongestionControl)
	if hag, err = x.n.StartHAG(x.Program, x.dir); err != nil {
		return nil, nil, err
	}
	if cpe, err = x.n.StartCPE(x.Program, x.dir, p.options, append(slices.Clip(x.cpeFlags), p.flags...)...); err != nil {
		return nil, nil, errors.Join(err, hag.Stop())
	}
	return cpe, hag, nil
}

// take takes the steps, and ends what they have left under way.
func (s *scene) take(ctx context.Context, steps []step) error {
	ctx, cancel := context.WithCancel(ctx)
	var err error
	for _, step := range steps {
		if err = step(ctx, s); err != nil {
			break
		}
		if err = context.Cause(ctx); err != nil {
			break
		}
	}
	cancel()
	s.visitors.done.Wait()
	for _, t := range s.transfers {
		<-t.done
	}
	for _, c := range s.held {
		c.Close() // those that were used are closed already
	}
	if s.film != nil {
		err = errors.Join(err, s.film.end())
	}
	return err
}

// check notes a check of this part.
func (s *scene) check(name string, ok bool, format string, args ...any) {
	s.r.check(s.shown.Title+": "+name, ok, fmt.Sprintf(format, args...))
}

// note adds a line of text below the part's chart.
func (s *scene) note(format string, args ...any) {
	s.shown.Notes = append(s.shown.Notes, fmt.Sprintf(format, args...))
}

// mark says what happens now, to the reader and in the timeline. Its moment has
// the text as its name.
func (s *scene) mark(text string) {
	s.times[text] = s.film.now()
	s.Say(s.shown.Title + ": " + text)
	s.film.mark(s.times[text], text)
}

// dialer dials the server's IPv6 address from the client and counts what arrives there.
func (s *scene) dialer(port uint16) netlab.Dialer {
	dial := s.n.dialer(netip.AddrPortFrom(netlab.Server6, port))
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return s.arrivals[netlab.Down].count(c), nil
	}
}

// sleep waits, or returns why ctx has ended before.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
