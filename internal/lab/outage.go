package lab

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// stallLimit is how long a transfer may stand still beside two round trips of
// the line that remains.
const stallLimit = 250 * time.Millisecond

// outage is a part in which a line fails in the midst of a transfer, for long
// enough to see the other line alone, and comes back.
func outage(title string, d netlab.Direction, line, rest string, f fault) part {
	const name = "the transfer"
	meanwhile := moment{line + " " + f.name, 900 * time.Millisecond}
	end := moment{name + " ends", 0}
	p := part{title: title, steps: []step{
		measure(rest, idle),
		roll(d),
		begin(name, trafficPort, netlab.Request{Direction: d}),
		pause(time.Second),
		measure(rest, loaded),
		fail(line, f),
		pause(1500 * time.Millisecond),
		mend(line, f),
		finish(name),
		cut,
		judgeStall(name, rest),
		rate(rest+" carries everything meanwhile", rest, meanwhile, moment{line + " is back", 0}, 0.7*capacity(rest), math.Inf(1)),
	}}
	for _, l := range []string{line, rest} {
		p.steps = append(p.steps, rate(l+" carries its part at the end", l, moment{end.name, -time.Second}, end, 0.3*capacity(l), math.Inf(1)))
	}
	return p
}

// capacity of an uneven line in Mbit/s.
func capacity(line string) float64 {
	i := slices.IndexFunc(uneven, func(l netlab.LineConfig) bool { return l.Name == line })
	return float64(uneven[i].Rate) / mbit
}

// When a round trip is measured.
const (
	idle   = "when idle"
	loaded = "under load"
)

// measure measures a line's round trip.
func measure(line, when string) step {
	return func(ctx context.Context, s *scene) (err error) {
		s.trips[when], err = s.n.Line(line).RoundTrip(ctx)
		s.r.figure(s.shown.Title+" round trip "+when+" ms", 1000*s.trips[when].Seconds())
		return err
	}
}

// judgeStall compares the longest time in which nothing arrived with what is
// allowed. The round trip that counts is the one that a sender meets: under load.
func judgeStall(transfer, rest string) step {
	return func(_ context.Context, s *scene) error {
		stall := s.transfers[transfer].result.Stall
		allowed := func(when string) time.Duration { return stallLimit + 2*s.trips[when] }
		s.r.figure(s.shown.Title+" stall ms", 1000*stall.Seconds())
		s.note("longest stall %s; allowed %s = %s + 2 × %s, the round trip of %s under load (idle it is %s, which would allow %s)",
			ms(stall), ms(allowed(loaded)), ms(stallLimit), ms(s.trips[loaded]), rest, ms(s.trips[idle]), ms(allowed(idle)))
		s.check("the transfer stalls for 250 ms and two round trips at most", stall <= allowed(loaded), "%s, allowed %s", ms(stall), ms(allowed(loaded)))
		return nil
	}
}
