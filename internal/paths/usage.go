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

// Usage counts the bytes that paths carry in the periods of their quotas, and keeps
// the counts in a file across restarts. It is safe for concurrent use.
type Usage struct {
	file     string
	earliest time.Time // a clock before it has not been set

	mu      sync.Mutex
	byPath  map[string]pathUsage // by the path's name
	changed bool                 // since the last Save
}

// pathUsage is the usage of one path's quota.
type pathUsage struct {
	period          // the current one
	Others []period `json:"others,omitempty"` // in which the clock has been, the latest last
}

// period is the usage in one period.
type period struct {
	Since time.Time `json:"since"` // its beginning
	Bytes uint64    `json:"bytes"`
}

// A clock that goes back by at most clockSlack stays in the period; so does one whose time zone
// changes, which moves midnight by less than zoneSlack. maxOthers is the number of other
// periods that are kept.
const (
	clockSlack = 24 * time.Hour
	zoneSlack  = 15 * time.Hour
	maxOthers  = 3
)

// OpenUsage reads the usage from the file, which need not exist yet. A clock that is before
// the time earliest counts as not set. A file that
// cannot be read does not keep a box from starting: OpenUsage logs it, and the
// counts start from zero.
func OpenUsage(file string, earliest time.Time, log *slog.Logger) *Usage {
	u := &Usage{file: file, earliest: earliest, byPath: make(map[string]pathUsage)}
	b, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(b, &u.byPath)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("quotas count from zero: what was used is not known", "file", file, "err", err)
	}
	if err != nil || u.byPath == nil {
		u.byPath = make(map[string]pathUsage)
	}
	return u
}

// Add counts n bytes that the path has carried up to now. A period that has passed is over:
// a clock that goes back by up to a day, or that is not set yet after the machine has started,
// begins none. A clock that goes back further was wrong before, or is wrong now: the period
// around now becomes current, and the other one is kept until the clock comes there again.
func (u *Usage) Add(now time.Time, path string, q Quota, n uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p, begin := u.byPath[path], q.Begin(now)
	moved := begin.Sub(p.Since) > zoneSlack || now.After(u.earliest) && now.Before(p.Since.Add(-clockSlack))
	if !moved && n == 0 {
		return
	}
	if moved {
		p = p.move(begin)
	}
	p.Bytes += n
	u.byPath[path], u.changed = p, true
}

// move makes the period that begins then the current one.
func (p pathUsage) move(begin time.Time) pathUsage {
	next := pathUsage{period: period{Since: begin}}
	for _, o := range append(p.Others, p.period) {
		switch {
		case o.Since.Equal(begin):
			next.Bytes = o.Bytes
		case !o.Since.IsZero():
			next.Others = append(next.Others, o)
		}
	}
	next.Others = next.Others[max(0, len(next.Others)-maxOthers):]
	return next
}

// Used returns how many bytes the path has carried in this period.
func (u *Usage) Used(path string) uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.byPath[path].Bytes
}

// Save writes the usage to its file if it has changed. Whatever happens
// meanwhile, the file is whole: the old one or the new one.
func (u *Usage) Save() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !u.changed {
		return nil
	}
	b, err := json.MarshalIndent(u.byPath, "", "\t")
	if err != nil {
		return err
	}
	if err := replaceFile(u.file, append(b, '\n')); err != nil {
		return fmt.Errorf("save quotas: %w", err)
	}
	u.changed = false
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
