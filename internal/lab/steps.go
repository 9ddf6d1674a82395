//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// waitLimit is the longest time that a scenario waits for an expected state.
const waitLimit = 10 * time.Second

// moment is a time in the recording: a named moment or mark, plus some time. The zero
// moment is the recording's start.
type moment struct {
	name string
	plus time.Duration
}

// since returns the time from the recording's start.
func (m moment) since(s *session) time.Duration {
	at, known := s.times[m.name]
	if !known && m.name != "" {
		panic("lab: a scenario has no moment " + m.name)
	}
	return at + m.plus
}

// nameMoment gives the present moment a name, without a mark in the timeline.
func nameMoment(name string) step {
	return func(_ context.Context, s *session) error {
		s.times[name] = s.recording.now()
		return nil
	}
}

// pause waits.
func pause(d time.Duration) step {
	return func(ctx context.Context, _ *session) error { return sleep(ctx, d) }
}

// record starts the variant's recording of one direction.
func record(d netlab.Direction) step {
	return func(ctx context.Context, s *session) error {
		s.startRecording(ctx, d)
		return nil
	}
}

// stopRecording ends the recording, so that its rates can be checked.
func stopRecording(_ context.Context, s *session) error { return s.recording.stop() }

// await waits until the paths that the CPE reports fulfil a condition, and checks
// that they do within waitLimit.
func await(what string, condition func(*pathsView) bool) step {
	return func(ctx context.Context, s *session) error {
		for deadline := time.Now().Add(waitLimit); ; {
			paths, err := s.cpe.Paths(ctx)
			if err != nil {
				return err
			}
			v := (*pathsView)(paths)
			if ok := condition(v); ok || time.Now().After(deadline) {
				s.check(what, ok, "the CPE says: %s", v)
				return nil
			}
			if err := sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
}

// compareConnects tries to connect, stops the boxes, tries again, and checks that
// both attempts fail with the same error.
func compareConnects(ctx context.Context, s *session) error {
	with, err := s.attempts(ctx)
	if err != nil {
		return err
	}
	s.mark("both boxes are stopped")
	if err := errors.Join(s.recording.stop(), s.cpe.Stop(), s.hag.Stop()); err != nil {
		return err
	}
	without, err := s.attempts(ctx)
	for i, f := range families {
		text := fmt.Sprintf("%s: %s, without boxes %s", f.name, with[i], without[i])
		s.note("%s", text)
		s.check(f.name+": connecting fails as without boxes", with[i].Errno == without[i].Errno && with[i].Errno != 0, "%s", text)
	}
	return err
}

// attempts tries to connect with IPv6 and with IPv4.
func (s *session) attempts(ctx context.Context) (all [2]attempt, err error) {
	for i, f := range families {
		if all[i], err = s.n.attempt(ctx, netip.AddrPortFrom(f.server, trafficPort)); err != nil {
			return all, err
		}
	}
	return all, nil
}

// checkRate checks the mean rate of a series between two moments: from least to most Mbit/s.
func checkRate(what, of string, from, until moment, least, most float64) step {
	return func(_ context.Context, s *session) error {
		series := s.report.Timeline.series(of)
		got := s.report.Timeline.mean(series, from.since(s), until.since(s))
		s.check(what, got >= least && got <= most, "%s: %.2f Mbit/s", of, got)
		return nil
	}
}

// fault is a way in which a line fails.
type fault struct {
	name string
	set  func(l *netlab.Line, failed bool) error
}

var (
	noCarrier = fault{"loses its carrier", func(l *netlab.Line, failed bool) error { return l.Carrier(!failed) }}
	silent    = fault{"goes silent", func(l *netlab.Line, failed bool) error {
		share := 0.0
		if failed {
			share = 1
		}
		return l.SetLoss(share)
	}}
)

// failLine makes a line fail.
func failLine(line string, f fault) step {
	return func(_ context.Context, s *session) error {
		s.mark(line + " " + f.name)
		return f.set(s.n.Line(line), true)
	}
}

// restoreLine ends the fault of a line.
func restoreLine(line string, f fault) step {
	return func(_ context.Context, s *session) error {
		s.mark(line + " is back")
		return f.set(s.n.Line(line), false)
	}
}

// routeClient makes the HAG reach the client over a line.
func routeClient(line string) step {
	return func(_ context.Context, s *session) error {
		s.mark("the HAG reaches the client over " + line)
		return s.n.RouteClient(s.n.Line(line))
	}
}

// endHAG ends the HAG's box.
func endHAG(how string, end func(*netlab.Box) error) step {
	return func(_ context.Context, s *session) error {
		s.mark("the HAG's box is " + how)
		return end(s.hag)
	}
}

// startHAG starts the HAG's box again.
func startHAG(_ context.Context, s *session) (err error) {
	s.mark("the HAG's box is started again")
	s.hag, err = s.n.StartHAG(s.Program, s.dir)
	return err
}
