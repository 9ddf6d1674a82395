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

// results are all figures of a run.
type results struct {
	Machine  machine           `json:"machine"`
	Date     time.Time         `json:"date"`
	Rounds   int               `json:"rounds"`
	Duration string            `json:"duration"` // of one measurement
	Skipped  map[string]string `json:"skipped"`  // contenders, and why
	Busy     []float64         `json:"busy"`     // share of the machine that others took before each turn
	Failures []failure         `json:"failures"`
	Series   []*series         `json:"series"`
	Verdicts []verdict         `json:"verdicts"`
}

// failure is a work that a contender could not do in one round.
type failure struct {
	Pass      string `json:"pass"`
	Work      string `json:"work"`
	Contender string `json:"contender"`
	Round     int    `json:"round"`
	Error     string `json:"error"`
}

// series are the values that one figure of a work had, and in which rounds.
type series struct {
	Pass      string    `json:"pass"`
	Work      string    `json:"work"`
	Contender string    `json:"contender"`
	Figure    string    `json:"figure"`
	Values    []float64 `json:"values"`
	Rounds    []int     `json:"rounds"`
	Summary   summary   `json:"summary"`
}

func newResults(m machine, o options) results {
	return results{
		Machine: m, Date: time.Now().UTC().Truncate(time.Second),
		Rounds: o.rounds, Duration: o.duration().String(), Skipped: map[string]string{},
	}
}

// add takes what a contender's work has given in one round.
func (r *results) add(pass, work, contender string, round int, fs figures) {
	for _, f := range fs {
		s := r.find(pass, work, contender, f.name)
		if s == nil {
			s = &series{Pass: pass, Work: work, Contender: contender, Figure: f.name}
			r.Series = append(r.Series, s)
		}
		s.Values, s.Rounds = append(s.Values, f.value), append(s.Rounds, round)
		s.Summary = summarize(s.Values)
	}
}

// fail takes what went wrong instead.
func (r *results) fail(pass, work, contender string, round int, err error) {
	r.Failures = append(r.Failures, failure{pass, work, contender, round, err.Error()})
}

// find returns nil if there is none.
func (r *results) find(pass, work, contender, figure string) *series {
	for _, s := range r.Series {
		if s.Pass == pass && s.Work == work && s.Contender == contender && s.Figure == figure {
			return s
		}
	}
	return nil
}

// publish judges the results and writes them wherever they are wanted.
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
	if slices.ContainsFunc(r.Failures, func(f failure) bool { return f.Contender == ours }) {
		err = errors.Join(err, fmt.Errorf("%s failed, see the report", ours))
	}
	return err
}

// write does nothing without a name.
func write(file string, b []byte) error {
	if file == "" {
		return nil
	}
	return os.WriteFile(file, b, 0o644)
}
