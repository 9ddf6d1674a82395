package paths

import (
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestSteeringMeasuresRatesCountsQuotasAndDecides(t *testing.T) {
	all := of(Always, Overflow)
	all[0].Name, all[1].Name = "dsl", "lte"
	all[1].Quota = Quota{Bytes: 3e6, Period: Month}
	l, _ := openUsage(filepath.Join(t.TempDir(), "quota.json"))
	s := NewSteering(all, l)
	var dsl, lte uint64 // bytes received
	for _, step := range []struct {
		name     string
		ms       int
		dsl, lte uint64 // bytes since the last step
		rate     uint64 // of dsl in Mbit/s
		up       bool   // of dsl
		want     []DesiredState
	}{
		{"at first", 0, 5e6, 5e6, 0, true, []DesiredState{Normal, Backup}},
		{"idle", 1000, 0, 0, 0, true, []DesiredState{Normal, Backup}},
		{"busy", 2000, 25e5, 0, 20, true, []DesiredState{Normal, Normal}}, // 20 Mbit/s
		{"both carry", 3000, 25e5, 2e6, 20, true, []DesiredState{Normal, Normal}},
		{"a status changed", 3010, 0, 0, 20, true, []DesiredState{Normal, Normal}},
		{"the quota is used up", 4000, 25e5, 1e6, 20, true, []DesiredState{Normal, Closed}},
		{"the other is all there is", 5000, 0, 0, 0, false, []DesiredState{Closed, Normal}},
		{"and goes on", 6000, 0, 1e6, 0, false, []DesiredState{Closed, Normal}},
		{"until it need not", 7000, 0, 0, 0, true, []DesiredState{Normal, Closed}},
	} {
		dsl += step.dsl
		lte += step.lte
		got := s.Desired(time.Duration(step.ms)*time.Millisecond, date(2, 1), []Status{
			{Up: step.up, Interface: 2, BytesReceived: dsl}, {Up: true, Interface: 3, BytesReceived: lte},
		})
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.name, got, step.want)
		}
		if got := s.Rates()[0]; got.Up != 0 || got.Down != step.rate*1e6 {
			t.Errorf("%s: rate %+v, want %d Mbit/s down", step.name, got, step.rate)
		}
	}
	if got := l.Used("lte"); got != 4e6 {
		t.Errorf("%d bytes are counted", got)
	}
	if got := l.Used("dsl"); got != 0 {
		t.Errorf("%d bytes are counted to a path without a quota", got)
	}
	if got := s.Desired(8*time.Second, date(2, 1).AddDate(0, 1, 0), []Status{{Up: true, Interface: 2}, {Up: true, Interface: 3}}); got[1] == Closed {
		t.Error("a new month does not open the path again")
	}
}

func TestPathWithoutInterfaceHasRateZero(t *testing.T) {
	all := of(Always, Always, Overflow)
	all[0].Name, all[1].Name, all[2].Name = "dsl", "cable", "lte"
	l, _ := openUsage(filepath.Join(t.TempDir(), "quota.json"))
	s := NewSteering(all, l)
	var dsl uint64
	desired := func(seconds int, index int) []DesiredState {
		return s.Desired(time.Duration(seconds)*time.Second, date(2, 1), []Status{
			{Up: index != 0, Interface: index, BytesReceived: dsl}, {Up: true, Interface: 3}, {Up: true, Interface: 4},
		})
	}
	var busy []DesiredState
	for i := range 3 {
		busy = desired(i, 2)
		dsl += 25e5 // 20 Mbit/s
	}
	if busy[2] != Normal {
		t.Fatalf("beside a busy path the overflow is %v", busy[2])
	}
	var after []DesiredState
	for i := range 20 {
		after = desired(3+i, 0)
	}
	if rate := s.Rates()[0]; rate != (Rate{}) || after[2] != Backup {
		t.Errorf("a path without an interface carries %+v, and the overflow is %v", rate, after[2])
	}
}
