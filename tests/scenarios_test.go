//go:build linux

package tests

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/lab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// runScenario runs a scenario of `synbond lab`. The test fails, and prints the report,
// if a check that matters has failed.
func runScenario(t *testing.T, name string, o lab.Options, matters func(lab.Check) bool) *lab.Report {
	t.Helper()
	netlabtest.Require(t)
	netlabtest.LeavesNothing(t)
	s, err := lab.Find(name)
	if err != nil {
		t.Fatal(err)
	}
	o.Program = synbond()
	r, err := s.Run(within(t, time.Minute), o)
	if err != nil {
		t.Fatal(err)
	}
	bad := false
	for _, c := range r.Checks {
		bad = bad || !c.OK && matters(c)
	}
	if bad {
		r.Print(os.Stdout, lab.Style{UTF8: true})
		t.Errorf("scenario %s: checks have failed", name)
	}
	return r
}

func TestTransferOutlivesTheFirstLine(t *testing.T) {
	// `make scenarios` checks the length of the stall, and the use of the line once it
	// is back; this transfer is too short for that.
	r := runScenario(t, "failover", lab.Options{Transfer: 2 * time.Second}, func(c lab.Check) bool {
		return strings.HasSuffix(c.Name, "every byte arrives as it was sent") || strings.HasSuffix(c.Name, "stop cleanly")
	})
	for _, p := range r.Variants {
		if len(p.Timeline.At) == 0 || len(p.Timeline.Lines) != 2 || len(p.Timeline.Marks) < 2 {
			t.Errorf("%s: the timeline lacks something: %+v", p.Title, p.Timeline)
		}
	}
}

func TestConnectionsGoOnWithoutTheHAG(t *testing.T) {
	runScenario(t, "hag-down", lab.Options{}, func(lab.Check) bool { return true })
}

func TestInterruptedScenarioLeavesNothing(t *testing.T) {
	netlabtest.Require(t)
	netlabtest.LeavesNothing(t)
	s, err := lab.Find("failover")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.Run(ctx, lab.Options{Program: synbond(), Say: func(step string) {
		if strings.Contains(step, "loses its carrier") {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted, it ended with %v", err)
	}
}
