package pcaps

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/synbond/synbond/state"
)

// LeastFileSize is what a file of a recording needs to hold any packet, in bytes.
const LeastFileSize = 100_000

// ring is a folder with the newest capture files of one role. A file that would
// become too large is closed, and the oldest one makes room for the next.
//
// Files are written by one goroutine; mu lets others ask which file has a flow.
type ring struct {
	dir, prefix string
	comment     string // of each file
	files       int    // at most
	size        int64  // of each at most, in bytes

	interfaces []Interface // that every file describes

	out     *os.File // nil while none can be written
	w       *Writer
	written int64 // no less than the size of out once all is flushed
	number  int   // of the last file of this process

	seed maphash.Seed
	mu   sync.Mutex
	kept []ringFile // oldest first
	open bool       // the last one is out
}

// ringFile is a file of the ring. Its flows are kept as hashes: some 16 bytes each,
// so that a ring of 100 MB needs 10 MB of memory at worst.
type ringFile struct {
	name  string
	flows map[uint64]struct{}
}

// find lists the files that are there, of processes before this one.
func (r *ring) find() error {
	dir, err := filepath.Abs(r.dir) // for those who ask from elsewhere
	if err != nil {
		return err
	}
	r.dir = dir
	entries, err := os.ReadDir(dir) // sorted by name, and so by age
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	ours := regexp.MustCompile("^" + regexp.QuoteMeta(r.prefix) + `-\d{8}T\d{6}Z-\d{4,}\.pcapng$`)
	for _, e := range entries {
		if ours.MatchString(e.Name()) {
			r.kept = append(r.kept, ringFile{name: e.Name()})
		}
	}
	return nil
}

// begin opens the next file, after it has made room for it. A failure costs at
// most one old file, however often it is tried again.
func (r *ring) begin(now time.Time) error {
	// Addresses of customers, and keys of their connections, are not for everybody.
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return err
	}
	if err := r.evict(); err != nil {
		return err
	}
	name, err := r.create(now)
	if err != nil {
		return err
	}
	r.w, r.written = NewWriter(r.out, Pcapng), int64(fileOverhead+len(r.comment))
	r.w.Comment = r.comment
	for _, in := range r.interfaces {
		r.written += int64(interfaceOverhead + len(in.Name) + len(in.Description))
		if err = r.w.Add(in); err != nil {
			break
		}
	}
	if err == nil {
		err = r.w.Flush()
	}
	if err != nil {
		return errors.Join(err, r.out.Close(), os.Remove(r.out.Name()))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept, r.open = append(r.kept, ringFile{name, make(map[uint64]struct{})}), true
	return nil
}

// evict removes the oldest files until there is room for another one.
func (r *ring) evict() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.kept) >= r.files {
		err := os.Remove(filepath.Join(r.dir, r.kept[0].name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		r.kept = r.kept[1:]
	}
	return nil
}

// create makes a file with a name of its own: a process that ended this second
// may have used the first ones.
func (r *ring) create(now time.Time) (name string, err error) {
	for {
		r.number++
		name = fmt.Sprintf("%s-%s-%04d.pcapng", r.prefix, now.UTC().Format("20060102T150405Z"), r.number)
		r.out, err = os.OpenFile(filepath.Join(r.dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			return name, err
		}
	}
}

// What a file, an interface, a frame and a comment need at most beside their data
// and texts, in bytes: blocks, options and padding of pcapng.
const (
	fileOverhead      = 96
	interfaceOverhead = 64
	frameOverhead     = 64
	commentOverhead   = 8
)

// write appends a frame, to the next file if it does not fit into this one. After
// an error no file is open.
func (r *ring) write(f *Frame, in Interface, comments []string) error {
	size := int64(frameOverhead + len(f.Data))
	for _, c := range comments {
		size += int64(commentOverhead + len(c))
	}
	if r.open && r.written+size > r.size {
		if err := r.close(); err != nil {
			return err
		}
	}
	if !r.open {
		if err := r.begin(f.Time); err != nil {
			return err
		}
	}
	r.written += size
	if err := r.w.Write(f, in, comments...); err != nil {
		_ = r.close() // what goes wrong is known
		return err
	}
	return nil
}

// flush hands what has been written to the kernel. After an error no file is open.
func (r *ring) flush() error {
	if !r.open {
		return nil
	}
	err := r.w.Flush()
	if err == nil {
		_, err = os.Lstat(r.out.Name()) // somebody may have removed it
	}
	if err != nil {
		_ = r.close() // what goes wrong is known
		return err
	}
	return nil
}

// close ends the file that is written, if there is one.
func (r *ring) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		return nil
	}
	r.open = false
	return errors.Join(r.w.Flush(), r.out.Close())
}

func (r *ring) hash(k state.Key) uint64 { return maphash.Comparable(r.seed, k) }

// remember notes that the file which is written has the handshake of a flow.
func (r *ring) remember(k state.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open {
		r.kept[len(r.kept)-1].flows[r.hash(k)] = struct{}{}
	}
}

// has tells whether a file of the ring has the handshake of a flow.
func (r *ring) has(k state.Key) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.where(k) >= 0
}

// file returns the path of the newest file with the handshake of a flow, or "".
func (r *ring) file(k state.Key) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.where(k)
	if i < 0 {
		return ""
	}
	return filepath.Join(r.dir, r.kept[i].name)
}

// where finds the newest file with a flow, -1 for none. It is called with r.mu held.
func (r *ring) where(k state.Key) int {
	h := r.hash(k)
	for i := len(r.kept) - 1; i >= 0; i-- {
		if _, has := r.kept[i].flows[h]; has {
			return i
		}
	}
	return -1
}

// current returns the path of the file that is written, or "".
func (r *ring) current() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		return ""
	}
	return filepath.Join(r.dir, r.kept[len(r.kept)-1].name)
}
