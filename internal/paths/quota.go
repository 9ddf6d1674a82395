package paths

import (
	"errors"
	"fmt"
	"time"
)

// Period is the time after which a quota is renewed.
type Period string

const (
	Day   Period = "day"
	Week  Period = "week"
	Month Period = "month"
)

// Quota is the number of bytes that a path may carry in a period.
type Quota struct {
	Bytes  uint64 // both directions together; 0: no quota
	Period Period
	// Start is the first day of a period: of the week, from 1 for Monday to 7, or of
	// the month, from 1 to 28. 0 means 1. Periods begin at midnight, local time.
	Start int
}

// Validate returns an error if a quota is invalid.
func (q Quota) Validate() error {
	most := map[Period]int{Day: 0, Week: 7, Month: 28}
	last, known := most[q.Period]
	switch {
	case q == Quota{}:
		return nil
	case q.Bytes == 0:
		return errors.New("quota of no bytes: leave it out, or choose another mode")
	case !known:
		return fmt.Errorf("quota per %q: want day, week or month", q.Period)
	case q.Start < 0 || q.Start > last:
		return fmt.Errorf("quota per %s that starts on day %d: want at most %d", q.Period, q.Start, last)
	}
	return nil
}

// Begin returns the beginning of the period around t.
func (q Quota) Begin(t time.Time) time.Time {
	year, month, day := t.Date()
	start := max(q.Start, 1)
	switch q.Period {
	case Week:
		weekday := (int(t.Weekday())+6)%7 + 1 // from 1 for Monday
		day -= (weekday - start + 7) % 7
	case Month:
		if day < start {
			month--
		}
		day = start
	}
	return time.Date(year, month, day, 0, 0, 0, 0, t.Location())
}

// End returns the end of the period around t.
func (q Quota) End(t time.Time) time.Time {
	begin := q.Begin(t)
	switch q.Period {
	case Week:
		return begin.AddDate(0, 0, 7)
	case Month:
		return begin.AddDate(0, 1, 0)
	}
	return begin.AddDate(0, 0, 1)
}
