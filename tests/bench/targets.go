//go:build linux

package main

import (
	"fmt"
	"slices"
)

// target is a bound for one of synbond's figures, or for its ratio to another
// system's figure.
type target struct {
	workload, figure string
	over             string // system; "" for the figure itself
	want             bound
}

// bound is a limit for a value.
type bound struct {
	most  bool // an upper bound, else a lower bound
	limit float64
}

func atLeast(limit float64) bound { return bound{false, limit} }
func atMost(limit float64) bound  { return bound{true, limit} }

func (b bound) String() string {
	if b.most {
		return "≤ " + number(b.limit)
	}
	return "≥ " + number(b.limit)
}

func (b bound) met(v float64) bool { return b.most && v <= b.limit || !b.most && v >= b.limit }

// ours is the system that has targets.
const ours = "synbond"

// spread is a figure made from a goodput: its maximum divided by its minimum.
const spread = "max ÷ min of " + goodput

var targets = slices.Concat(
	ratios([]string{"1 flow down", "1 flow up"}, goodput, 0.5, 2),
	ratios([]string{"4 flows down", "4 flows up"}, goodput, 0.7, 2),
	ratios([]string{"connections, 1 at a time", "connections, 50 at a time", "connections, 500 at a time"}, rate, 0.4, 1.5),
	[]target{
		{"1 flow down", spread, "", atMost(1.5)},
		{"1 flow up", spread, "", atMost(1.5)},
		{"idle flows", processKiB, "", atMost(8)},
		{"idle flows", slowdown, "", atMost(2)},
	},
)

// ratios returns targets for workloads that are compared with forwarding and with HAProxy.
func ratios(workloads []string, figure string, forwarding, haproxy float64) (ts []target) {
	for _, w := range workloads {
		ts = append(ts,
			target{w, figure, "forwarding", atLeast(forwarding)},
			target{w, figure, "haproxy", atLeast(haproxy)})
	}
	return ts
}

// verdict is the measured value for a target on one network.
type verdict struct {
	Pass     string  `json:"pass"`
	Workload string  `json:"work"`
	What     string  `json:"what"`
	Target   string  `json:"target"`
	Value    summary `json:"value"`
	Met      bool    `json:"met"`
}

// verdicts compares the results with the targets. The value of a ratio is that of the
// medians; its range is that of the ratios in the rounds.
func (r *results) verdicts() (vs []verdict) {
	for _, p := range passes {
		for _, t := range targets {
			value, ok := r.value(p.name, t)
			if !ok {
				continue
			}
			v := verdict{Pass: p.name, Workload: t.workload, What: t.figure, Target: t.want.String(), Value: value, Met: t.want.met(value.Median)}
			if t.over != "" {
				v.What = fmt.Sprintf("%s ÷ %s", t.figure, t.over)
			}
			vs = append(vs, v)
		}
	}
	return vs
}

// value returns the value for a target, if it was measured.
func (r *results) value(pass string, t target) (summary, bool) {
	if t.figure == spread {
		s := r.find(pass, t.workload, ours, goodput)
		if s == nil || len(s.Values) == 1 {
			return summary{}, false
		}
		v := s.Summary.Max / s.Summary.Min
		return summary{v, v, v}, true
	}
	own := r.find(pass, t.workload, ours, t.figure)
	if own == nil || t.over == "" {
		if own == nil {
			return summary{}, false
		}
		return own.Summary, true
	}
	other := r.find(pass, t.workload, t.over, t.figure)
	if other == nil {
		return summary{}, false
	}
	var quotients []float64
	for i, round := range own.Rounds {
		if j := slices.Index(other.Rounds, round); j >= 0 {
			quotients = append(quotients, own.Values[i]/other.Values[j])
		}
	}
	if len(quotients) == 0 {
		return summary{}, false
	}
	s := summarize(quotients)
	s.Median = own.Summary.Median / other.Summary.Median
	return s, true
}
