//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// figures of one workload.
type figures []figure

// figure is one measured value, with its name in the report.
type figure struct {
	name  string
	value float64
}

// workload is a measurement of every system.
type workload struct {
	name string
	// oneLine means that it runs in the pass with a single line, too.
	oneLine bool
	// rounds limits the rounds in which it runs; 0 is no limit.
	rounds int
	run    func(context.Context, *testbed) (figures, error)
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

var workloads = []workload{
	bulkWorkload("1 flow down", 1, false, true),
	bulkWorkload("1 flow up", 1, true, true),
	bulkWorkload("4 flows down", 4, false, true),
	bulkWorkload("4 flows up", 4, true, true),
	bulkWorkload("64 flows down", 64, false, false),
	bulkWorkload("64 flows up", 64, true, false),
	churnWorkload("connections, 1 at a time", 1, false),
	churnWorkload("connections, 50 at a time", 50, true),
	churnWorkload("connections, 500 at a time", 500, false),
	{name: "connections under load", run: underLoad},
	{name: "idle flows", rounds: 3, run: idle},
}

func bulkWorkload(name string, flows int, up, oneLine bool) workload {
	return workload{name: name, oneLine: oneLine, run: func(ctx context.Context, s *testbed) (figures, error) {
		o, u, err := s.runTimedJob(ctx, job{Kind: "bulk", Parallel: flows, Up: up, Duration: s.duration})
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

func churnWorkload(name string, parallel int, oneLine bool) workload {
	return workload{name: name, oneLine: oneLine, run: func(ctx context.Context, s *testbed) (figures, error) {
		o, u, err := s.runTimedJob(ctx, job{Kind: "churn", Parallel: parallel, Warmup: s.duration / 3, Duration: s.duration})
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

// pause between connections when their connect time is measured, not their rate.
const pause = 2 * time.Millisecond

// underLoad makes connections, one at a time, while four flows run down.
func underLoad(ctx context.Context, s *testbed) (figures, error) {
	const lead = 300 * time.Millisecond
	load, err := s.startClient(ctx, job{Kind: "bulk", Parallel: 4, Duration: s.duration + 2*lead})
	if err != nil {
		return nil, err
	}
	time.Sleep(lead)
	o, err := s.runJob(ctx, job{Kind: "churn", Parallel: 1, Pause: pause, Duration: s.duration})
	v, lerr := load()
	if lerr == nil {
		lerr = v.end()
	}
	if err != nil || lerr != nil {
		return nil, errors.Join(err, lerr)
	}
	return figures{{p50, milliseconds(o.P50)}, {p99, milliseconds(o.P99)}, {replied, milliseconds(o.Reply)}}, nil
}

// idle opens many flows, leaves them idle, and measures their memory and their effect
// on connect times.
func idle(ctx context.Context, s *testbed) (figures, error) {
	one := job{Kind: "churn", Parallel: 1, Pause: pause, Duration: s.duration / 2}
	empty, err := s.runJob(ctx, one)
	if err != nil {
		return nil, err
	}
	_, kernel := memory(s.boxes)
	wait, err := s.startClient(ctx, job{Kind: "hold", Count: s.flows, Parallel: 50})
	if err != nil {
		return nil, err
	}
	v, err := wait()
	if err != nil {
		return nil, err
	}
	full, err := s.runJob(ctx, one)
	process, kernelNow := memory(s.boxes)
	if derr := v.end(); err != nil || derr != nil {
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

// idleCount returns the number of idle flows: 20,000, or as many as a box has
// descriptors for.
func idleCount(quick bool) int {
	if quick {
		return 1000
	}
	return min(20_000, (fileLimit()-reserve)/2)
}

// reserve is the number of descriptors for a box's own use, beside two per flow.
const reserve = 400
