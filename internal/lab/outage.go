//go:build linux

package lab

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// stallLimit plus two round trips of the remaining line is the longest time in which
// a transfer may receive nothing.
const stallLimit = 250 * time.Millisecond

// outageVariant returns a variant in which a line fails during a transfer, for long
// enough to show the other line alone, and comes back.
func outageVariant(title string, d netlab.Direction, line, rest string, f fault) variant {
	const name = "the transfer"
	meanwhile := moment{line + " " + f.name, 900 * time.Millisecond}
	end := moment{name + " ends", 0}
	v := variant{title: title, steps: []step{
		measureRoundTrip(rest, idle),
		record(d),
		beginTransfer(name, trafficPort, netlab.Request{Direction: d}),
		pause(time.Second),
		measureRoundTrip(rest, loaded),
		failLine(line, f),
		pause(1500 * time.Millisecond),
		restoreLine(line, f),
		finishTransfer(name),
		stopRecording,
		checkStall(name, rest),
		checkRate(rest+" carries everything meanwhile", rest, meanwhile, moment{line + " is back", 0}, 0.7*capacity(rest), math.Inf(1)),
	}}
	for _, l := range []string{line, rest} {
		v.steps = append(v.steps, checkRate(l+" carries its part at the end", l, moment{end.name, -time.Second}, end, 0.3*capacity(l), math.Inf(1)))
	}
	return v
}

// capacity returns the rate of one of the uneven lines in Mbit/s.
func capacity(line string) float64 {
	i := slices.IndexFunc(uneven, func(l netlab.LineConfig) bool { return l.Name == line })
	return float64(uneven[i].Rate) / mbit
}

// Names of a line's round trips.
const (
	idle   = "when idle"
	loaded = "under load"
)

// measureRoundTrip measures a line's round trip.
func measureRoundTrip(line, when string) step {
	return func(ctx context.Context, s *session) (err error) {
		s.roundTrips[when], err = s.n.Line(line).RoundTrip(ctx)
		s.r.figure(s.report.Title+" round trip "+when+" ms", 1000*s.roundTrips[when].Seconds())
		return err
	}
}

// checkStall compares the longest time in which nothing arrived with the limit. The
// limit uses the round trip under load, since the sender's segments wait in that queue.
func checkStall(transfer, rest string) step {
	return func(_ context.Context, s *session) error {
		stall := s.transfers[transfer].result.Stall
		allowed := func(when string) time.Duration { return stallLimit + 2*s.roundTrips[when] }
		s.r.figure(s.report.Title+" stall ms", 1000*stall.Seconds())
		s.note("longest stall %s; allowed %s = %s + 2 × %s, the round trip of %s under load (idle it is %s, which would allow %s)",
			ms(stall), ms(allowed(loaded)), ms(stallLimit), ms(s.roundTrips[loaded]), rest, ms(s.roundTrips[idle]), ms(allowed(idle)))
		s.check("the transfer stalls for 250 ms and two round trips at most", stall <= allowed(loaded), "%s, allowed %s", ms(stall), ms(allowed(loaded)))
		return nil
	}
}
