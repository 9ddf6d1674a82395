package paths

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// date is a time of November 2026, whose first day is a Sunday.
func date(day, hour int) time.Time { return time.Date(2026, 11, day, hour, 30, 0, 0, time.UTC) }

func TestPeriodsBeginOnTheirDay(t *testing.T) {
	for _, c := range []struct {
		quota Quota
		t     time.Time
		want  string
	}{
		{Quota{Period: Day}, date(22, 23), "2026-11-22"},
		{Quota{Period: Day}, date(22, 0), "2026-11-22"},
		{Quota{Period: Week}, date(22, 12), "2026-11-16"}, // Sunday
		{Quota{Period: Week}, date(23, 0), "2026-11-23"},  // Monday
		{Quota{Period: Week, Start: 7}, date(22, 12), "2026-11-22"},
		{Quota{Period: Week, Start: 7}, date(21, 12), "2026-11-15"},
		{Quota{Period: Week, Start: 2}, date(2, 12), "2026-10-27"},
		{Quota{Period: Month}, date(1, 0), "2026-11-01"},
		{Quota{Period: Month}, date(30, 12), "2026-11-01"},
		{Quota{Period: Month, Start: 28}, date(27, 23), "2026-10-28"},
		{Quota{Period: Month, Start: 28}, date(28, 0), "2026-11-28"},
		{Quota{Period: Month, Start: 15}, time.Date(2027, 1, 14, 0, 0, 0, 0, time.UTC), "2026-12-15"},
	} {
		if got := c.quota.Begin(c.t).Format("2006-01-02 15:04:05"); got != c.want+" 00:00:00" {
			t.Errorf("%+v at %v began at %s, want %s", c.quota, c.t, got, c.want)
		}
	}
}

func TestQuotasThatMakeNoSenseAreErrors(t *testing.T) {
	for _, q := range []Quota{{}, {Bytes: 1, Period: Day}, {Bytes: 1, Period: Week, Start: 7}, {Bytes: 1, Period: Month, Start: 28}} {
		if err := q.Validate(); err != nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
	for _, q := range []Quota{
		{Period: Day}, {Bytes: 1}, {Bytes: 1, Period: "year"}, {Bytes: 1, Period: Day, Start: 1},
		{Bytes: 1, Period: Week, Start: 8}, {Bytes: 1, Period: Month, Start: 29}, {Bytes: 1, Period: Month, Start: -1},
	} {
		if q.Validate() == nil {
			t.Errorf("%+v makes sense", q)
		}
	}
}

// ledger opens a ledger and returns what it logs.
func ledger(file string) (*Ledger, *bytes.Buffer) {
	var log bytes.Buffer
	return OpenLedger(file, slog.New(slog.NewTextHandler(&log, nil))), &log
}

func TestLedgerCountsByPeriodAndSurvivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "quota.json")
	monthly := Quota{Bytes: 1000, Period: Month}
	used := func(l *Ledger, want uint64) {
		t.Helper()
		if got := l.Used("lte"); got != want {
			t.Errorf("%d bytes are used, want %d", got, want)
		}
	}
	l, log := ledger(file)
	used(l, 0)
	l.Add(date(2, 1), "lte", monthly, 100)
	l.Add(date(30, 1), "lte", monthly, 200)
	l.Add(date(30, 1), "sat", monthly, 7)
	used(l, 300)
	check(t, l.Save())
	l, again := ledger(file)
	used(l, 300)
	l.Add(time.Unix(0, 0), "lte", monthly, 10) // a machine without a clock starts
	used(l, 310)
	l.Add(date(30, 2), "lte", monthly, 10)
	used(l, 320)
	december := date(30, 2).AddDate(0, 0, 1)
	l.Add(december, "lte", monthly, 1)
	used(l, 1)
	l.Add(date(30, 23), "lte", monthly, 1) // the clock goes back across the border
	l.Add(december, "lte", monthly, 1)
	used(l, 3)
	l.Add(december.AddDate(0, 1, 0), "lte", monthly, 0) // idle, and yet it ends
	used(l, 0)
	if said := log.String() + again.String(); said != "" {
		t.Errorf("it is said: %s", said)
	}
}

func TestLedgerThatIsDamagedIsSaidAndCountsFromZero(t *testing.T) {
	for name, contents := range map[string]string{
		"empty": "", "cut": `{"lte":{"since":"2026-11-01T0`, "null": "null", "other": `[1,2]`, "no time": `{"lte":{"since":3}}`,
		"negative": `{"lte":{"since":"2026-11-01T00:00:00Z","bytes":-1}}`,
	} {
		file := filepath.Join(t.TempDir(), "quota.json")
		check(t, os.WriteFile(file, []byte(contents), 0o600))
		l, log := ledger(file)
		if said := strings.Contains(log.String(), "count from zero"); said == (name == "null") {
			t.Errorf("%s: log %q", name, log)
		}
		l.Add(date(1, 1), "lte", Quota{Period: Day}, 5)
		if got := l.Used("lte"); got != 5 {
			t.Errorf("%s: %d bytes are used", name, got)
		}
		check(t, l.Save())
		if l, log := ledger(file); l.Used("lte") != 5 || log.Len() > 0 {
			t.Errorf("%s: the new one has %d bytes, %s", name, l.Used("lte"), log)
		}
	}
}

func TestLedgerIsWrittenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "quota.json")
	l, _ := ledger(file)
	check(t, l.Save())
	if _, err := os.Stat(file); err == nil {
		t.Error("a ledger that has not changed is written")
	}
	l.Add(date(1, 1), "lte", Quota{Period: Day}, 5)
	check(t, os.Mkdir(file, 0o700)) // nothing can take its place
	if err := l.Save(); err == nil || !strings.Contains(err.Error(), "save quotas") {
		t.Errorf("error %v", err)
	}
	left, err := os.ReadDir(dir)
	check(t, err)
	if len(left) != 1 {
		t.Errorf("%v are left", left)
	}
	check(t, os.Remove(file))
	check(t, l.Save()) // what failed is tried again
	if l, _ := ledger(file); l.Used("lte") != 5 {
		t.Error("it is not written after all")
	}
}
