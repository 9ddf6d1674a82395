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

// openUsage opens the usage and returns its log.
func openUsage(file string) (*Usage, *bytes.Buffer) {
	var log bytes.Buffer
	return OpenUsage(file, date(1, 0).AddDate(-1, 0, 0), slog.New(slog.NewTextHandler(&log, nil))), &log
}

func TestUsageCountsByPeriodAndSurvivesARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "quota.json")
	monthly := Quota{Bytes: 1000, Period: Month}
	used := func(u *Usage, want uint64) {
		t.Helper()
		if got := u.Used("lte"); got != want {
			t.Errorf("%d bytes are used, want %d", got, want)
		}
	}
	u, log := openUsage(file)
	used(u, 0)
	u.Add(date(2, 1), "lte", monthly, 100)
	u.Add(date(30, 1), "lte", monthly, 200)
	u.Add(date(30, 1), "sat", monthly, 7)
	used(u, 300)
	check(t, u.Save())
	u, again := openUsage(file)
	used(u, 300)
	u.Add(time.Unix(0, 0), "lte", monthly, 10) // a machine without a clock starts
	used(u, 310)
	u.Add(date(30, 2), "lte", monthly, 10)
	used(u, 320)
	december := date(30, 2).AddDate(0, 0, 1)
	u.Add(december, "lte", monthly, 1)
	used(u, 1)
	u.Add(date(30, 23), "lte", monthly, 1) // the clock goes back across the border
	u.Add(december, "lte", monthly, 1)
	used(u, 3)
	u.Add(december.AddDate(0, 1, 0), "lte", monthly, 0) // idle, and yet it ends
	used(u, 0)
	if said := log.String() + again.String(); said != "" {
		t.Errorf("it is said: %s", said)
	}
}

func TestDamagedUsageFileIsLoggedAndCountsFromZero(t *testing.T) {
	for name, contents := range map[string]string{
		"empty": "", "cut": `{"lte":{"since":"2026-11-01T0`, "null": "null", "other": `[1,2]`, "no time": `{"lte":{"since":3}}`,
		"negative": `{"lte":{"since":"2026-11-01T00:00:00Z","bytes":-1}}`,
	} {
		file := filepath.Join(t.TempDir(), "quota.json")
		check(t, os.WriteFile(file, []byte(contents), 0o600))
		u, log := openUsage(file)
		if said := strings.Contains(log.String(), "count from zero"); said == (name == "null") {
			t.Errorf("%s: log %q", name, log)
		}
		u.Add(date(1, 1), "lte", Quota{Period: Day}, 5)
		if got := u.Used("lte"); got != 5 {
			t.Errorf("%s: %d bytes are used", name, got)
		}
		check(t, u.Save())
		if u, log := openUsage(file); u.Used("lte") != 5 || log.Len() > 0 {
			t.Errorf("%s: the new one has %d bytes, %s", name, u.Used("lte"), log)
		}
	}
}

func TestUsageFileIsWrittenWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "quota.json")
	u, _ := openUsage(file)
	check(t, u.Save())
	if _, err := os.Stat(file); err == nil {
		t.Error("a usage that has not changed is written")
	}
	u.Add(date(1, 1), "lte", Quota{Period: Day}, 5)
	check(t, os.Mkdir(file, 0o700)) // nothing can take its place
	if err := u.Save(); err == nil || !strings.Contains(err.Error(), "save quotas") {
		t.Errorf("error %v", err)
	}
	left, err := os.ReadDir(dir)
	check(t, err)
	if len(left) != 1 {
		t.Errorf("%v are left", left)
	}
	check(t, os.Remove(file))
	check(t, u.Save()) // what failed is tried again
	if u, _ := openUsage(file); u.Used("lte") != 5 {
		t.Error("it is not written after all")
	}
}

// A clock that was wrong must neither lock a quota up until that time comes, nor give
// away what has been counted.
func TestUsageSurvivesAClockThatWasWrong(t *testing.T) {
	monthly, daily := Quota{Bytes: 1000, Period: Month}, Quota{Bytes: 1000, Period: Day}
	wrong := time.Date(2036, 2, 7, 6, 28, 0, 0, time.UTC)
	type step struct {
		now   time.Time
		bytes uint64
		want  uint64
	}
	for _, c := range []struct {
		name  string
		quota Quota
		steps []step
	}{
		{"ahead when it is new", monthly, []step{{wrong, 2000, 2000}, {date(2, 1), 1, 1}, {date(3, 1), 1, 2}, {date(3, 1).AddDate(0, 1, 0), 1, 1}}},
		{"ahead for a while", monthly, []step{{date(2, 1), 100, 100}, {wrong, 2000, 2000}, {date(2, 2), 1, 101}, {date(3, 2), 0, 101}}},
		{"ahead again and again", monthly, []step{{date(2, 1), 100, 100}, {wrong, 7, 7}, {date(2, 2), 1, 101}, {wrong, 7, 14}, {date(2, 3), 1, 102}}},
		{"ahead by a month", monthly, []step{{date(2, 1).AddDate(0, 1, 0), 2000, 2000}, {date(2, 1), 1, 1}}},
		{"behind by months", monthly, []step{{date(2, 1), 100, 100}, {date(2, 1).AddDate(0, -3, 0), 5, 5}, {date(2, 2), 1, 101}}},
		{"not set", monthly, []step{{date(2, 1), 100, 100}, {time.Unix(0, 0), 5, 105}, {date(2, 2), 1, 106}}},
		{"not set after one that was ahead", monthly, []step{{wrong, 100, 100}, {time.Unix(0, 0), 5, 105}, {date(2, 2), 1, 1}}},
		{"idle while it is mended", monthly, []step{{wrong, 2000, 2000}, {date(2, 1), 0, 0}}},
		{"a day, ahead by years", daily, []step{{wrong, 2000, 2000}, {date(2, 1), 1, 1}}},
		{"a day, back across midnight", daily, []step{{date(3, 1), 100, 100}, {date(2, 23), 1, 101}, {date(3, 2), 1, 102}}},
		{"another time zone", daily, []step{{date(3, 12), 100, 100}, {date(3, 12).In(time.FixedZone("", -9*3600)), 1, 101}, {date(3, 13), 1, 102}}},
	} {
		file := filepath.Join(t.TempDir(), "quota.json")
		for i, s := range c.steps {
			u, log := openUsage(file) // also across a restart
			u.Add(s.now, "lte", c.quota, s.bytes)
			if got := u.Used("lte"); got != s.want || log.Len() > 0 {
				t.Errorf("%s, step %d: %d bytes are used, want %d; log %q", c.name, i+1, got, s.want, log)
			}
			check(t, u.Save())
		}
	}
}

func TestFewOtherPeriodsAreKept(t *testing.T) {
	u, _ := openUsage(filepath.Join(t.TempDir(), "quota.json"))
	for day := range 9 {
		u.Add(date(day+1, 1), "lte", Quota{Period: Day}, 1)
	}
	if n := len(u.byPath["lte"].Others); n != maxOthers {
		t.Errorf("%d other periods are kept, want %d", n, maxOthers)
	}
}
