//go:build linux

package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// example has two rounds of a few workloads.
func example() results {
	r := results{Date: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC), Rounds: 2, Skipped: map[string]string{}, Busy: []float64{0.01, 0.5}}
	for round, v := range [][3]float64{{20, 4, 12}, {22, 6, 10}} {
		for i, c := range systems {
			r.add("two lines", "1 flow down", c.name, round, figures{{goodput, v[i]}})
		}
	}
	r.add("two lines", "idle flows", ours, 0, figures{{processKiB, 30.5}, {slowdown, 1.1}})
	r.Verdicts = r.verdicts()
	return r
}

func TestVerdictsCompareMediansAndShowTheRange(t *testing.T) {
	want := map[string]struct {
		value string
		met   bool
	}{
		"Gbit/s ÷ forwarding": {"0.524 (0.455–0.6)", true},
		"Gbit/s ÷ haproxy":    {"2.2 (1.67–3)", true},
		spread:                {"1.2", true},
		processKiB:            {"30.5", false},
		slowdown:              {"1.1", true},
	}
	r := example()
	for _, v := range r.Verdicts {
		if w := want[v.What]; v.Value.String() != w.value || v.Met != w.met {
			t.Errorf("%s, %s: %s, met %v; want %+v", v.Workload, v.What, v.Value, v.Met, w)
		}
	}
	if len(r.Verdicts) != len(want) {
		t.Errorf("%d verdicts, want %d", len(r.Verdicts), len(want))
	}
}

func TestRatiosLeaveOutFailedRounds(t *testing.T) {
	var r results
	r.add("two lines", "1 flow down", "forwarding", 0, figures{{goodput, 10}})
	r.add("two lines", "1 flow down", "forwarding", 1, figures{{goodput, 30}})
	r.add("two lines", "1 flow down", ours, 1, figures{{goodput, 15}})
	got, ok := r.value("two lines", target{"1 flow down", goodput, "forwarding", atLeast(0.5)})
	if want := (summary{0.75, 0.5, 0.5}); !ok || got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestReportShowsMachineFiguresAndFailures(t *testing.T) {
	r := example()
	r.Skipped["haproxy"] = "it needs mptcpize"
	r.fail("one line", "4 flows up", "haproxy", 1, errors.New("connection reset"))
	text, err := r.report()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| date | 2026-11-22 09:00 UTC |",
		"| load by other programs | 26 %, at most 50 %, of the processor time before each measured system |",
		"| haproxy | skipped: it needs mptcpize |",
		"- haproxy, one line, 4 flows up, round 1: connection reset",
		"| workload | | forwarding | haproxy | synbond |",
		"| 1 flow down | Gbit/s | 21 (20–22) | 5 (4–6) | 11 (10–12) |",
		"| idle flows | process KiB/flow |  |  | 30.5 |",
		"| two lines | idle flows | process KiB/flow | ≤ 8 | 30.5 | **not met** |",
		"    frontend in\n      bind :::5001 v6only transparent\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", text)
	}
}

func TestOnlySelectsByPrefixOfName(t *testing.T) {
	name := func(w workload) string { return w.name }
	for _, c := range []struct {
		only []string
		want int
	}{
		{nil, len(workloads)},
		{[]string{"haproxy"}, len(workloads)}, // no workload begins so
		{[]string{"4 flows"}, 2},
		{[]string{"idle", "1 flow down"}, 2},
	} {
		if got := len(wanted(c.only, workloads, name)); got != c.want {
			t.Errorf("--only %q picks %d workloads, want %d", c.only, got, c.want)
		}
	}
}
