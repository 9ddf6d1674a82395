//go:build linux

package lab

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// recording writes the timeline of a variant: the rates of the lines and of the
// receivers, and the changes of the paths that the CPE reports.
type recording struct {
	session   *session
	direction netlab.Direction
	start     time.Time
	cancel    context.CancelFunc
	done      chan error

	mu sync.Mutex // guards the timeline
	t  *Timeline

	// At the last sample.
	carried  []uint64
	received int64
	view     *pathsView
}

// received is the name of the receivers' series.
const received = "received"

// startRecording starts the variant's recording. It ends with the variant, or by
// [recording.stop].
func (s *session) startRecording(ctx context.Context, d netlab.Direction) {
	f := &recording{session: s, direction: d, start: time.Now(), done: make(chan error, 1), t: &s.report.Timeline}
	f.carried, f.received = s.n.carried(d), s.arrivals[d].bytes.Load()
	for _, l := range s.n.Lines {
		f.t.Lines = append(f.t.Lines, Series{Name: l.Name})
	}
	f.t.Received.Name = received
	ctx, f.cancel = context.WithCancel(ctx)
	go func() { f.done <- f.run(ctx) }()
	s.recording = f
}

// now returns the time since the recording's start.
func (f *recording) now() time.Duration { return time.Since(f.start) }

// mark adds an event.
func (f *recording) mark(at time.Duration, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.t.addMark(Mark{max(round(at.Seconds()), 0), text})
}

// stop ends the recording. The timeline does not change any more.
func (f *recording) stop() error {
	f.cancel()
	err := <-f.done
	f.done <- nil // for the next call
	return err
}

// run takes samples until ctx ends.
func (f *recording) run(ctx context.Context) error {
	ticks := time.NewTicker(sampleEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
		f.sample()
		if err := f.pollCPE(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// sample adds the rates since the last sample.
func (f *recording) sample() {
	now := round(f.now().Seconds())
	span := now - f.t.end()
	if span <= 0 {
		return
	}
	rate := func(bytes float64) float64 { return round(bytes * 8 / mbit / span) }
	carried, received := f.session.n.carried(f.direction), f.session.arrivals[f.direction].bytes.Load()
	for i := range carried {
		f.t.Lines[i].Mbits = append(f.t.Lines[i].Mbits, rate(float64(carried[i]-f.carried[i])))
	}
	f.t.Received.Mbits = append(f.t.Received.Mbits, rate(float64(received-f.received)))
	f.t.At = append(f.t.At, now)
	f.carried, f.received = carried, received
}

// pollCPE marks the changes of the CPE's paths since the last call. Beside a gateway there is
// no CPE.
func (f *recording) pollCPE(ctx context.Context) error {
	if f.session.cpe == nil {
		return nil
	}
	paths, err := f.session.cpe.Paths(ctx)
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

// round rounds to three decimals: milliseconds of a time in seconds.
func round(v float64) float64 { return math.Round(v*1000) / 1000 }
