//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// Scenario is an entry of the table of scenarios. One without variants and neighbours
// compares the network without and with boxes.
type Scenario struct {
	Name, Help string
	lines      []netlab.LineConfig
	cpeFlags   []string
	ownSource4 bool // an IPv4 server sees the CPE's address
	variants   []variant
	neighbours []neighbour
	tools      []string // programs that it calls
	gateway    bool     // the CPE is a phone, and the HAG a SOCKS gateway
}

// Charted reports whether the scenario's report has charts.
func (s Scenario) Charted() bool {
	return slices.ContainsFunc(s.variants, func(v variant) bool { return !v.noTimeline })
}

// Options of a run.
type Options struct {
	Program netlab.Program
	// Transfer is the duration of bulk transfers for which the scenario has none; 0 is
	// a default.
	Transfer time.Duration
	// Say is called before each step with a line of progress.
	Say func(step string)
	// Keep, unless nil, is called after the last step and before the network is taken
	// down, with both boxes running again. Beside a gateway there is no CPE: it is nil.
	Keep func(*Report, *netlab.Network, *netlab.Box, *netlab.Box)
}

// run is one run of a scenario.
type run struct {
	Scenario
	Options
	n        network
	arrivals [2]byteCounter // by direction: at the client, at the server
	dir      string         // for control sockets
	usual    []string       // warnings of boxes that have no neighbour
	r        *Report
}

// Run builds the scenario's network, runs the scenario, and takes the network down.
// A check that fails is no error: see [Report.OK].
func (s Scenario) Run(ctx context.Context, o Options) (r *Report, err error) {
	if o.Say == nil {
		o.Say = func(string) {}
	}
	for _, tool := range s.tools {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("scenario %s needs %s: %w", s.Name, tool, err)
		}
	}
	dir, err := os.MkdirTemp("", "synbond-lab-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	x := &run{Scenario: s, Options: o, dir: dir}
	x.r = &Report{Scenario: s.Name, OK: true, Figures: make(map[string]float64), lines: s.lines}
	for _, n := range s.neighbours {
		if err := x.inNetwork(func() error { return x.meet(ctx, n) }); err != nil {
			return x.r, fmt.Errorf("%s: %w", n.name, err)
		}
	}
	if len(s.neighbours) > 0 && o.Keep == nil {
		return x.r, nil
	}
	return x.r, x.inNetwork(func() error { return x.runVariants(ctx) })
}

// inNetwork builds the scenario's network, calls fn, and takes the network down.
func (x *run) inNetwork(fn func() error) error {
	x.Say("building the network")
	built, err := netlab.Build(netlab.Topology{Lines: x.lines})
	if err != nil {
		return err
	}
	x.n = network{built}
	stop, err := x.n.serve(&x.arrivals[netlab.Up])
	if err != nil {
		return errors.Join(err, built.Close())
	}
	err = fn()
	return errors.Join(err, stop(), built.Close())
}

// runVariants runs the comparison or all variants, and then calls Keep.
func (x *run) runVariants(ctx context.Context) error {
	if len(x.variants)+len(x.neighbours) == 0 {
		if err := x.compare(ctx); err != nil {
			return err
		}
	}
	for _, v := range x.variants {
		if err := x.runVariant(ctx, v); err != nil {
			return err
		}
	}
	if x.Keep == nil {
		return nil
	}
	var like variant
	if len(x.variants) > 0 {
		like = x.variants[0]
	}
	cpe, hag, err := x.startBoxes(like)
	if err != nil {
		return err
	}
	x.Keep(x.r, x.n.Network, cpe, hag)
	return stopBoxes(cpe, hag)
}
