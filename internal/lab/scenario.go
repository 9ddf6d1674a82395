package lab

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// Scenario is one thing that a lab can show. Without parts it compares the
// network without and with boxes.
type Scenario struct {
	Name, Help string
	lines      []netlab.LineConfig
	cpeFlags   []string
	ownSource4 bool // an IPv4 server sees the CPE's address
	parts      []part
}

// Charted tells whether the scenario's report has charts.
func (s Scenario) Charted() bool {
	return slices.ContainsFunc(s.parts, func(p part) bool { return !p.still })
}

// Options of a run.
type Options struct {
	Program  netlab.Program
	Transfer time.Duration // of each bulk transfer whose length is no part of the scenario; there is a default
	// Say is told of each step before it is taken.
	Say func(step string)
	// Keep is called when all is done, before the network is taken down, with both
	// boxes running again.
	Keep func(*Report, *netlab.Network, *netlab.Box, *netlab.Box)
}

// run is one run of a scenario.
type run struct {
	Scenario
	Options
	n        network
	arrivals [2]arrivals // by direction: at the client, at the server
	dir      string      // for control sockets
	r        *Report
}

// Run builds the scenario's network, plays it, and takes the network down. A
// check that fails is no error: see [Report.OK].
func (s Scenario) Run(ctx context.Context, o Options) (r *Report, err error) {
	if o.Say == nil {
		o.Say = func(string) {}
	}
	o.Say("building the network")
	dir, err := os.MkdirTemp("", "synbond-lab-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	built, err := netlab.Build(netlab.Topology{Lines: s.lines})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, built.Close()) }()
	n := network{built}
	x := &run{Scenario: s, Options: o, n: n, dir: dir}
	x.r = &Report{Scenario: s.Name, OK: true, Figures: make(map[string]float64), lines: s.lines}
	stop, err := n.serve(&x.arrivals[netlab.Up])
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return x.r, x.all(ctx)
}

// all plays the scenario, and then leaves the network up if that is wanted.
func (x *run) all(ctx context.Context) error {
	if len(x.parts) == 0 {
		if err := x.compare(ctx); err != nil {
			return err
		}
	}
	for _, p := range x.parts {
		if err := x.play(ctx, p); err != nil {
			return err
		}
	}
	if x.Keep == nil {
		return nil
	}
	var like part
	if len(x.parts) > 0 {
		like = x.parts[0]
	}
	cpe, hag, err := x.startBoxes(like)
	if err != nil {
		return err
	}
	x.Keep(x.r, x.n.Network, cpe, hag)
	return errors.Join(cpe.Stop(), hag.Stop())
}
