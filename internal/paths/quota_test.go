package paths

import (
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

func TestInvalidQuotasAreErrors(t *testing.T) {
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
