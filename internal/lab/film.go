package lab

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// film takes the timeline of a part: what the lines carry, what arrives, and how
// the CPE's view of its paths changes.
type film struct {
	scene     *scene
	direction netlab.Direction
	start     time.Time
	stop      context.CancelFunc
	done      chan error

	mu sync.Mutex // guards the timeline
	t  *Timeline

	// As it was at the last sample.
	carried  []uint64
	received int64
	view     *pathsView
}

// received is the name of the series of what arrives.
const received = "received"

// roll starts the part's film. It ends with the part, or by [film.end].
func (s *scene) roll(ctx context.Context, d netlab.Direction) {
	f := &film{scene: s, direction: d, start: time.Now(), done: make(chan error, 1), t: &s.shown.Timeline}
	f.carried, f.received = s.n.carried(d), s.arrivals[d].bytes.Load()
	for _, l := range s.n.Lines {
		f.t.Lines = append(f.t.Lines, Series{Name: l.Name})
	}
	f.t.Received.Name = received
	ctx, f.stop = context.WithCancel(ctx)
	go func() { f.done <- f.run(ctx) }()
	s.film = f
}

// now is the time since the film's start.
func (f *film) now() time.Duration { return time.Since(f.start) }

// mark notes that something happened.
func (f *film) mark(at time.Duration, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.t.addMark(Mark{max(round(at.Seconds()), 0), text})
}

// end ends the film. From then on its timeline does not change.
func (f *film) end() error {
	f.stop()
	err := <-f.done
	f.done <- nil // for the next call
	return err
}

// run takes samples until ctx ends.
func (f *film) run(ctx context.Context) error {
	ticks := time.NewTicker(sampleEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		f.sample()
		if err := f.look(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// sample notes what has been carried since the sample before.
func (f *film) sample() {
	now := round(f.now().Seconds())
	span := now - f.t.end()
	if span <= 0 {
		return
	}
	rate := func(bytes float64) float64 { return round(bytes * 8 / mbit / span) }
	carried, received := f.scene.n.carried(f.direction), f.scene.arrivals[f.direction].bytes.Load()
	for i := range carried {
		f.t.Lines[i].Mbits = append(f.t.Lines[i].Mbits, rate(float64(carried[i]-f.carried[i])))
	}
	f.t.Received.Mbits = append(f.t.Received.Mbits, rate(float64(received-f.received)))
	f.t.At = append(f.t.At, now)
	f.carried, f.received = carried, received
}

// look marks what has changed in the CPE's view.
func (f *film) look(ctx context.Context) error {
	paths, err := f.scene.cpe.Paths(ctx)
	if err != nil {
		return err
	}
	view := (*pathsView)(paths)
	if f.view != nil {
		now := f.now()
		for _, c := range view.changes(f.view) {
			f.mark(now-c.ago, c.text)
		}
	}
	f.view = view
	return nil
}

// round leaves three decimals of a figure: milliseconds of a time in seconds.
func round(v float64) float64 { return math.Round(v*1000) / 1000 }
