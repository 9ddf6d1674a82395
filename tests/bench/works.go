package main

import (
	"context"
	"errors"
	"time"
)

// figures of one work.
type figures []figure

// figure is one of them, under the name by which the report shows it.
type figure struct {
	name  string
	value float64
}

// work is something that every contender has to do.
type work struct {
	name string
	// oneLine tells that it is done with a single line, too.
	oneLine bool
	// rounds in which it is done at most; 0 is all of them.
	rounds int
	run    func(context.Context, *stage) (figures, error)
}

// Names of figures, with their units.
const (
	goodput      = "Gbit/s"
	perGiB       = "CPU s/GiB"
	boxPerGiB    = "boxes' CPU s/GiB"
	rate         = "connections/s"
	p50          = "connect p50 ms"
	p99          = "connect p99 ms"
	replied      = "reply p50 ms"
	perThousand  = "CPU s/1000 connections"
	boxPerThou   = "boxes' CPU s/1000 connections"
	idleFlows    = "flows"
	processKiB   = "process KiB/flow"
	kernelKiB    = "kernel KiB/flow, whole machine"
	emptyConnect = "connect p50 ms, empty"
	fullConnect  = "connect p50 ms, full"
	slowdown     = "connect, full ÷ empty"
)

var works = []work{
	bulkWork("1 flow down", 1, false, true),
	bulkWork("1 flow up", 1, true, true),
	bulkWork("4 flows down", 4, false, true),
	bulkWork("4 flows up", 4, true, true),
	bulkWork("64 flows down", 64, false, false),
	bulkWork("64 flows up", 64, true, false),
	churnWork("connections, 1 at a time", 1, false),
	churnWork("connections, 50 at a time", 50, true),
	churnWork("connections, 500 at a time", 500, false),
	{name: "connections under load", run: underLoad},
	{name: "idle flows", rounds: 3, run: idle},
}

func bulkWork(name string, flows int, up, oneLine bool) work {
	return work{name: name, oneLine: oneLine, run: func(ctx context.Context, s *stage) (figures, error) {
		o, u, err := s.timed(ctx, job{Kind: "bulk", Parallel: flows, Up: up, Duration: s.duration})
		if err != nil {
			return nil, err
		}
		gib := float64(o.Bytes) / (1 << 30)
		return figures{
			{goodput, float64(o.Bytes) * 8 / o.Elapsed.Seconds() / 1e9},
			{perGiB, u.machine.Seconds() / gib},
			{boxPerGiB, u.boxes.Seconds() / gib},
		}, nil
	}}
}

func churnWork(name string, parallel int, oneLine bool) work {
	return work{name: name, oneLine: oneLine, run: func(ctx context.Context, s *stage) (figures, error) {
		o, u, err := s.timed(ctx, job{Kind: "churn", Parallel: parallel, Warmup: s.duration / 3, Duration: s.duration})
		if err != nil {
			return nil, err
		}
		thousands := float64(o.Connections) / 1000
		return figures{
			{rate, o.Rate},
			{p50, milliseconds(o.P50)},
			{p99, milliseconds(o.P99)},
			{replied, milliseconds(o.Reply)},
			{perThousand, u.machine.Seconds() / thousands},
			{boxPerThou, u.boxes.Seconds() / thousands},
		}, nil
	}}
}

// pause between connections whose connect time is asked for, not their rate.
const pause = 2 * time.Millisecond

// underLoad makes connections, one at a time, while four flows run down.
func underLoad(ctx context.Context, s *stage) (figures, error) {
	const lead = 300 * time.Millisecond
	load, err := s.begin(ctx, job{Kind: "bulk", Parallel: 4, Duration: s.duration + 2*lead})
	if err != nil {
		return nil, err
	}
	time.Sleep(lead)
	o, err := s.do(ctx, job{Kind: "churn", Parallel: 1, Pause: pause, Duration: s.duration})
	v, lerr := load()
	if lerr == nil {
		lerr = v.dismiss()
	}
	if err != nil || lerr != nil {
		return nil, errors.Join(err, lerr)
	}
	return figures{{p50, milliseconds(o.P50)}, {p99, milliseconds(o.P99)}, {replied, milliseconds(o.Reply)}}, nil
}

// idle opens as many flows as it may, leaves them alone, and looks at what they
// cost.
func idle(ctx context.Context, s *stage) (figures, error) {
	one := job{Kind: "churn", Parallel: 1, Pause: pause, Duration: s.duration / 2}
	empty, err := s.do(ctx, one)
	if err != nil {
		return nil, err
	}
	_, kernel := memory(s.boxes)
	wait, err := s.begin(ctx, job{Kind: "hold", Count: s.flows, Parallel: 50})
	if err != nil {
		return nil, err
	}
	v, err := wait()
	if err != nil {
		return nil, err
	}
	full, err := s.do(ctx, one)
	process, kernelNow := memory(s.boxes)
	if derr := v.dismiss(); err != nil || derr != nil {
		return nil, errors.Join(err, derr)
	}
	flows := float64(s.flows)
	return figures{
		{idleFlows, flows},
		{rate, v.Rate},
		{processKiB, process / flows},
		{kernelKiB, (kernelNow - kernel) / flows},
		{emptyConnect, milliseconds(empty.P50)},
		{fullConnect, milliseconds(full.P50)},
		{slowdown, full.P50.Seconds() / empty.P50.Seconds()},
	}, nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// idleCount is how many flows are held open: 20,000, or as many as a box can have
// descriptors for.
func idleCount(quick bool) int {
	if quick {
		return 1000
	}
	return min(20_000, (fileLimit()-reserve)/2)
}

// reserve is how many descriptors a box may need beside two per flow.
const reserve = 400
