//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// results has all figures of a run. The JSON keys work and contender stand for the
// workload and the system.
type results struct {
	Machine  machine           `json:"machine"`
	Date     time.Time         `json:"date"`
	Rounds   int               `json:"rounds"`
	Duration string            `json:"duration"` // of one measurement
	Skipped  map[string]string `json:"skipped"`  // reasons by system
	Busy     []float64         `json:"busy"`     // processor share of other programs, before each measured system
	Failures []failure         `json:"failures"`
	Series   []*series         `json:"series"`
	Verdicts []verdict         `json:"verdicts"`
}

// failure is a workload that failed on a system in one round.
type failure struct {
	Pass     string `json:"pass"`
	Workload string `json:"work"`
	System   string `json:"contender"`
	Round    int    `json:"round"`
	Error    string `json:"error"`
}

// series has the values of one figure, by round.
type series struct {
	Pass     string    `json:"pass"`
	Workload string    `json:"work"`
	System   string    `json:"contender"`
	Figure   string    `json:"figure"`
	Values   []float64 `json:"values"`
	Rounds   []int     `json:"rounds"`
	Summary  summary   `json:"summary"`
}

func newResults(m machine, o options) results {
	return results{
		Machine: m, Date: time.Now().UTC().Truncate(time.Second),
		Rounds: o.rounds, Duration: o.duration().String(), Skipped: map[string]string{},
	}
}

// add adds the figures of a workload on a system in one round.
func (r *results) add(pass, workload, system string, round int, fs figures) {
	for _, f := range fs {
		s := r.find(pass, workload, system, f.name)
		if s == nil {
			s = &series{Pass: pass, Workload: workload, System: system, Figure: f.name}
			r.Series = append(r.Series, s)
		}
		s.Values, s.Rounds = append(s.Values, f.value), append(s.Rounds, round)
		s.Summary = summarize(s.Values)
	}
}

// fail adds a failure.
func (r *results) fail(pass, workload, system string, round int, err error) {
	r.Failures = append(r.Failures, failure{pass, workload, system, round, err.Error()})
}

// find returns the values of a figure, nil if there are none.
func (r *results) find(pass, workload, system, figure string) *series {
	for _, s := range r.Series {
		if s.Pass == pass && s.Workload == workload && s.System == system && s.Figure == figure {
			return s
		}
	}
	return nil
}

// publish compares the results with the targets, prints the report, and writes the
// files that the options name.
func (r *results) publish(out io.Writer, o options) error {
	r.Verdicts = r.verdicts()
	text, err := r.report()
	if err != nil {
		return err
	}
	if _, err := out.Write(text); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	err = errors.Join(write(o.report, text), write(o.json, append(data, '\n')))
	if slices.ContainsFunc(r.Failures, func(f failure) bool { return f.System == ours }) {
		err = errors.Join(err, fmt.Errorf("%s failed, see the report", ours))
	}
	return err
}

// write writes a file, unless the name is empty.
func write(file string, b []byte) error {
	if file == "" {
		return nil
	}
	return os.WriteFile(file, b, 0o644)
}
