package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// patience is how long a scenario waits for what must come about.
const patience = 10 * time.Second

// moment is a time of the film: that of a mark, and some time after it. The zero
// moment is the film's start.
type moment struct {
	name string
	plus time.Duration
}

func (m moment) in(s *scene) time.Duration {
	at, known := s.times[m.name]
	if !known && m.name != "" {
		panic("lab: a scenario has no moment " + m.name)
	}
	return at + m.plus
}

// now names a moment without a mark.
func now(name string) step {
	return func(_ context.Context, s *scene) error {
		s.times[name] = s.film.now()
		return nil
	}
}

// pause lets some time pass.
func pause(d time.Duration) step {
	return func(ctx context.Context, _ *scene) error { return sleep(ctx, d) }
}

// roll starts the part's film.
func roll(d netlab.Direction) step {
	return func(ctx context.Context, s *scene) error {
		s.roll(ctx, d)
		return nil
	}
}

// cut ends the film, so that rates can be judged.
func cut(_ context.Context, s *scene) error { return s.film.end() }

// see waits until the CPE says so of its paths, and checks that it comes to that.
func see(what string, so func(*pathsView) bool) step {
	return func(ctx context.Context, s *scene) error {
		for deadline := time.Now().Add(patience); ; {
			paths, err := s.cpe.Paths(ctx)
			if err != nil {
				return err
			}
			v := (*pathsView)(paths)
			if ok := so(v); ok || time.Now().After(deadline) {
				s.check(what, ok, "the CPE says: %s", v)
				return nil
			}
			if err := sleep(ctx, 20*time.Millisecond); err != nil {
				return err
			}
		}
	}
}

// compareConnects tries to connect, stops the boxes, and checks that it fails in
// the same way without them.
func compareConnects(ctx context.Context, s *scene) error {
	with, err := s.attempts(ctx)
	if err != nil {
		return err
	}
	s.mark("both boxes are stopped")
	if err := errors.Join(s.film.end(), s.cpe.Stop(), s.hag.Stop()); err != nil {
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

// attempts tries to connect by each family.
func (s *scene) attempts(ctx context.Context) (all [2]attempt, err error) {
	for i, f := range families {
		if all[i], err = s.n.attempt(ctx, netip.AddrPortFrom(f.server, trafficPort)); err != nil {
			return all, err
		}
	}
	return all, nil
}

// rate checks what a line carried, or what arrived, between two moments: at least
// so many Mbit/s, and at most so many.
func rate(what, of string, from, until moment, least, most float64) step {
	return func(_ context.Context, s *scene) error {
		series := s.shown.Timeline.series(of)
		got := s.shown.Timeline.mean(series, from.in(s), until.in(s))
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

// fail has a line fail.
func fail(line string, f fault) step {
	return func(_ context.Context, s *scene) error {
		s.mark(line + " " + f.name)
		return f.set(s.n.Line(line), true)
	}
}

// mend ends what fail began.
func mend(line string, f fault) step {
	return func(_ context.Context, s *scene) error {
		s.mark(line + " is back")
		return f.set(s.n.Line(line), false)
	}
}

// routeClient makes a line the operator's way to the client.
func routeClient(line string) step {
	return func(_ context.Context, s *scene) error {
		s.mark("the HAG reaches the client over " + line)
		return s.n.RouteClient(s.n.Line(line))
	}
}

// endHAG has the HAG's box end.
func endHAG(how string, end func(*netlab.Box) error) step {
	return func(_ context.Context, s *scene) error {
		s.mark("the HAG's box is " + how)
		return end(s.hag)
	}
}

// startHAG starts the HAG's box again.
func startHAG(_ context.Context, s *scene) (err error) {
	s.mark("the HAG's box is started again")
	s.hag, err = s.n.StartHAG(s.Program, s.dir)
	return err
}
