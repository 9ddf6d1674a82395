//go:build linux

package lab

import (
	"strings"
	"testing"
	"time"
)

// systemTaking returns a system that took these times, in ms, for each object.
func systemTaking(name string, ms ...time.Duration) *system {
	r := &system{name: name, took: make(map[object][]time.Duration)}
	for _, o := range objects {
		for _, t := range ms {
			r.took[o] = append(r.took[o], t*time.Millisecond)
		}
	}
	return r
}

func TestObjectsAreComparedWithTheBestLinesMedian(t *testing.T) {
	s := &session{run: &run{r: &Report{OK: true, Figures: make(map[string]float64)}}, report: &VariantReport{Title: "a variant"}}
	s.checkObjects([]*system{systemTaking("dsl alone", 900, 100, 110), systemTaking("lte alone", 200, 210, 1)}, systemTaking("both", 99, 10, 100), 0.65)
	if got := s.r.Figures["a_variant_64_kib_down_ratio"]; got != 0.9 {
		t.Errorf("99 ms are %v of 110 ms", got)
	}
	if rows := len(s.report.table); rows != 1+len(objects) {
		t.Errorf("%d rows", rows)
	}
	for _, c := range s.r.Checks {
		if large := strings.Contains(c.Name, "16 MiB"); c.OK == large {
			t.Errorf("%s: %v", c.Name, c.OK)
		}
	}
	var out strings.Builder
	s.report.print(&out, Style{})
	if want := "  16 MiB up     110.0 ms    200.0 ms    99.0 ms            0.900         0.65\n"; !strings.Contains(out.String(), want) {
		t.Errorf("%q is not in\n%s", want, out.String())
	}
}

func TestWithLossLeavesItsArgumentUnchanged(t *testing.T) {
	lossy := withLoss(uneven, "lte", 0.01)
	if uneven[1].Loss != 0 || lossy[1].Loss != 0.01 || lossy[0].Loss != 0 {
		t.Errorf("%+v of %+v", lossy, uneven)
	}
}

func TestPayloadRateCountsWholeFrames(t *testing.T) {
	// 60 Mbit/s of frames of 1514 bytes with 1400 bytes of data each.
	if got := payloadRate(uneven); got < 55.48 || got > 55.49 {
		t.Errorf("%v Mbit/s", got)
	}
}
