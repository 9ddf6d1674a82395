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
	file string

	mu      sync.Mutex
	byPath  map[string]pathUsage // by the path's name
	changed bool                 // since the last Save
}

// pathUsage is the usage of one path's quota.
type pathUsage struct {
	Since time.Time `json:"since"` // beginning of the period
	Bytes uint64    `json:"bytes"`
}

// OpenUsage reads the usage from the file, which need not exist yet. A file that
// cannot be read does not keep a box from starting: OpenUsage logs it, and the
// counts start from zero.
func OpenUsage(file string, log *slog.Logger) *Usage {
	u := &Usage{file: file, byPath: make(map[string]pathUsage)}
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

// Add counts n bytes that the path has carried up to now. A period that has
// passed is over for good: a clock that goes back, or that is not set yet after
// the machine has started, begins none.
func (u *Usage) Add(now time.Time, path string, q Quota, n uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	p, begin := u.byPath[path], q.Begin(now)
	if begin.After(p.Since) {
		p = pathUsage{Since: begin}
	} else if n == 0 {
		return
	}
	p.Bytes += n
	u.byPath[path], u.changed = p, true
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
