//go:build linux

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

// variant is one run of both boxes in a scenario, with the steps taken meanwhile.
type variant struct {
	title      string
	lines      []netlab.LineConfig // delays and losses that differ from the scenario's
	multipath  string              // congestion control of multipath legs; empty is that of the hosts
	options    map[string]string   // see [netlab.Network.StartCPE]
	flags      []string            // of the CPE
	noTimeline bool                // nothing is recorded
	steps      []step              // taken one after the other
}

// step is one action or check of a variant. An error ends the scenario; a check that
// fails does not.
type step func(context.Context, *session) error

// VariantReport is the result of one variant of a scenario.
type VariantReport struct {
	Title    string   `json:"title"`
	Timeline Timeline `json:"timeline,omitzero"`
	Notes    []string `json:"notes"`

	table [][]string // figures side by side; the first row is the head
}

// session is the state of a variant that runs.
type session struct {
	*run
	report     *VariantReport
	cpe, hag   *netlab.Box
	recording  *recording
	times      map[string]time.Duration // of the recording's named moments
	transfers  map[string]*transfer
	roundTrips map[string]time.Duration // measured round trips
	fetcher    fetcher
	idle       []net.Conn
}

// runVariant runs one variant, from the start of its boxes to their end.
func (x *run) runVariant(ctx context.Context, v variant) (err error) {
	s := &session{
		run: x, report: &VariantReport{Title: v.title, Notes: []string{}}, times: make(map[string]time.Duration),
		transfers: make(map[string]*transfer), roundTrips: make(map[string]time.Duration),
	}
	x.r.Variants = append(x.r.Variants, s.report)
	x.Say(v.title + ": starting the boxes")
	if s.cpe, s.hag, err = x.startBoxes(v); err != nil {
		return err
	}
	err = s.takeSteps(ctx, v.steps)
	stopped := stopBoxes(s.cpe, s.hag)
	who := "both boxes stop"
	if x.gateway {
		who = "the gateway stops"
	}
	s.check(who+" cleanly", stopped == nil, "%v", stopped)
	if err != nil {
		return fmt.Errorf("%s: %w", v.title, err)
	}
	return nil
}

// startBoxes sets the lines' delays and losses and starts the boxes for a variant.
func (x *run) startBoxes(v variant) (cpe, hag *netlab.Box, err error) {
	for _, c := range v.lines {
		l := x.n.Line(c.Name)
		if err := errors.Join(l.SetDelay(c.Delay), l.SetLoss(c.Loss)); err != nil {
			return nil, nil, err
		}
	}
	x.n.Multipath = cmp.Or(v.multipath, x.n.CongestionControl)
	if x.gateway {
		hag, err = x.startPhone(v)
		return nil, hag, err
	}
	if hag, err = x.n.StartHAG(x.Program, x.dir); err != nil {
		return nil, nil, err
	}
	if cpe, err = x.n.StartCPE(x.Program, x.dir, v.options, append(slices.Clip(x.cpeFlags), v.flags...)...); err != nil {
		return nil, nil, errors.Join(err, hag.Stop())
	}
	return cpe, hag, nil
}

// stopBoxes stops the boxes of a variant, as far as there are any.
func stopBoxes(boxes ...*netlab.Box) error {
	var errs []error
	for _, b := range boxes {
		if b != nil {
			errs = append(errs, b.Stop())
		}
	}
	return errors.Join(errs...)
}

// takeSteps takes the steps, and ends the transfers and connections left by them.
func (s *session) takeSteps(ctx context.Context, steps []step) error {
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
	s.fetcher.done.Wait()
	for _, t := range s.transfers {
		<-t.done
	}
	for _, c := range s.idle {
		c.Close() // useIdle may have closed it already
	}
	if s.recording != nil {
		err = errors.Join(err, s.recording.stop())
	}
	return err
}

// check adds a check of this variant to the report.
func (s *session) check(name string, ok bool, format string, args ...any) {
	s.r.check(s.report.Title+": "+name, ok, fmt.Sprintf(format, args...))
}

// note adds a line of text below the variant's chart.
func (s *session) note(format string, args ...any) {
	s.report.Notes = append(s.report.Notes, fmt.Sprintf(format, args...))
}

// mark adds an event to the timeline and shows it as progress. The text is also the
// name of its moment.
func (s *session) mark(text string) {
	s.times[text] = s.recording.now()
	s.Say(s.report.Title + ": " + text)
	s.recording.mark(s.times[text], text)
}

// dialer dials the server's IPv6 address from the client, or from the phone through the
// gateway, and counts the bytes that arrive there.
func (s *session) dialer(port uint16) netlab.Dialer {
	to := netip.AddrPortFrom(netlab.Server6, port)
	dial := s.n.dialer(to)
	if s.gateway {
		dial = s.n.throughGateway(to, false)
	}
	return func(ctx context.Context) (net.Conn, error) {
		c, err := dial(ctx)
		if err != nil {
			return nil, err
		}
		return s.arrivals[netlab.Down].wrap(c), nil
	}
}

// sleep waits for d, or until ctx ends and returns its cause.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
