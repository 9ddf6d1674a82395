package paths

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Period is how long a quota lasts.
type Period string

const (
	Day   Period = "day"
	Week  Period = "week"
	Month Period = "month"
)

// Quota is how many bytes a path may carry in a period, both directions together.
type Quota struct {
	Bytes  uint64 // 0: no quota
	Period Period
	// Start is the day on which a period begins: of the week, from 1 for Monday to
	// 7, or of the month, from 1 to 28. 0 is 1. It begins at midnight, local time.
	Start int
}

// Validate tells what is wrong with a quota.
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

// Begin returns when the period began in which t lies.
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

// End returns when the period ends in which t lies.
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

// account is what a path has used of its quota.
type account struct {
	Since time.Time `json:"since"` // when the period began
	Bytes uint64    `json:"bytes"`
}

// Ledger counts what paths use of their quotas, and keeps it in a file, so that
// a box which starts again goes on counting. It is safe for concurrent use.
type Ledger struct {
	file string

	mu       sync.Mutex
	accounts map[string]account // by the path's name
	changed  bool               // since it was saved
}

// OpenLedger reads the ledger that is kept in the file, which need not be there
// yet. One that cannot be read is no reason to stay down: log says so, and
// counting starts from zero.
func OpenLedger(file string, log *slog.Logger) *Ledger {
	l := &Ledger{file: file, accounts: make(map[string]account)}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &l.accounts)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("quotas count from zero: what was used is not known", "file", file, "err", err)
	}
	if err != nil || l.accounts == nil {
		l.accounts = make(map[string]account)
	}
	return l
}

// Add counts n bytes that the path has carried up to now. A period that has
// passed is over for good: a clock that goes back, or that is not set yet after
// the machine has started, begins none.
func (l *Ledger) Add(now time.Time, path string, q Quota, n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, begin := l.accounts[path], q.Begin(now)
	if begin.After(a.Since) {
		a = account{Since: begin}
	} else if n == 0 {
		return
	}
	a.Bytes += n
	l.accounts[path], l.changed = a, true
}

// Used returns how many bytes the path has carried in this period.
func (l *Ledger) Used(path string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.accounts[path].Bytes
}

// Save writes the ledger to its file if it has changed. Whatever happens
// meanwhile, the file is whole: the old one or the new one.
func (l *Ledger) Save() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.changed {
		return nil
	}
	b, err := json.MarshalIndent(l.accounts, "", "\t")
	if err != nil {
		return err
	}
	if err := replaceFile(l.file, append(b, '\n')); err != nil {
		return fmt.Errorf("save quotas: %w", err)
	}
	l.changed = false
	return nil
}

// replaceFile puts a file with these contents in the place of another, at once.
func replaceFile(name string, contents []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(contents)
	// Without a sync, a file may be empty after a power failure though it was renamed.
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
