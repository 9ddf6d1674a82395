package lab

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"
)

// Scenario is one thing that a lab can show.
type Scenario struct {
	Name, Help string
	lines      []LineConfig
	cpeFlags   []string
	ownSource4 bool // an IPv4 server sees the CPE's address
}

const (
	mbit    = 1_000_000
	dslRate = 20 * mbit
	lteRate = 40 * mbit
)

// hybrid is a slow fixed line and a fast, more distant mobile one.
var hybrid = []LineConfig{
	{Name: "dsl", Rate: dslRate, Delay: 25 * time.Millisecond},
	{Name: "lte", Rate: lteRate, Delay: 35 * time.Millisecond},
}

// Scenarios that [Run] knows; the first is the default.
var Scenarios = []Scenario{
	{
		Name: "pair", Help: "a CPE and a HAG bond dsl (20 Mbit/s, 50 ms) and lte (40 Mbit/s, 70 ms) for a client with IPv6 and IPv4",
		lines: hybrid,
	},
	{
		Name: "own-source4", Help: "the same, with IPv4 dialed from the CPE's own address, as behind a NAT",
		lines: hybrid, cpeFlags: []string{"--own-source4"}, ownSource4: true,
	},
}

// Find returns the scenario of that name.
func Find(name string) (Scenario, error) {
	i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, fmt.Errorf("there is no scenario %q; --list shows them", name)
	}
	return Scenarios[i], nil
}

// Options of a run.
type Options struct {
	Program  Program
	Transfer time.Duration // of each bulk transfer, default 4 s
	// Say is told of each step before it is taken.
	Say func(step string)
	// Keep is called when all is done, before the network is taken down, with both
	// boxes running again.
	Keep func(*Report, *Network, *Box, *Box)
}

// transferTime fits four transfers and the rest into well below 40 s.
const transferTime = 4 * time.Second

// Run builds the scenario's network, compares it without and with boxes, and
// takes it down. A check that fails is no error: see [Report.OK].
func (s Scenario) Run(ctx context.Context, o Options) (r *Report, err error) {
	if o.Transfer == 0 {
		o.Transfer = transferTime
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	o.Say("building the network")
	dir, err := os.MkdirTemp("", "synbond-lab-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	n, err := Build(Topology{Lines: s.lines})
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := n.Close(); err == nil {
			err = e
		}
	}()
	stop, err := n.serve()
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := stop(); err == nil {
			err = e
		}
	}()
	r = &Report{Scenario: s.Name, OK: true, Figures: make(map[string]float64), lines: s.lines}
	run := run{Scenario: s, Options: o, n: n, dir: dir, r: r}
	return r, run.all(ctx)
}
