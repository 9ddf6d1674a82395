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

// LeastFileSize is the smallest size limit for a file of a recording, in bytes: enough for
// any single packet.
const LeastFileSize = 100_000

// ring is a folder with the newest capture files of one role. Before a file would exceed
// its size limit, the ring closes it and begins the next one. It removes the oldest file
// when there are too many.
//
// One goroutine writes; mu guards the list of files, for lookups by other goroutines.
type ring struct {
	dir, prefix string
	comment     string // of each file
	files       int    // largest number of files
	size        int64  // largest size of a file, in bytes

	interfaces []Interface // described in every file

	out     *os.File // the file being written, if open
	w       *Writer
	written int64 // upper bound of the size of out after a flush, in bytes
	number  int   // of the last file of this process

	seed maphash.Seed
	mu   sync.Mutex
	kept []ringFile // oldest first
	open bool       // out is open, and the last one in kept
}

// ringFile is a file of the ring. It keeps the hashes of its flows, about 16 bytes each: a
// ring of 100 MB needs at most 10 MB of memory.
type ringFile struct {
	name  string
	flows map[uint64]struct{}
}

// find lists the files of earlier processes.
func (r *ring) find() error {
	dir, err := filepath.Abs(r.dir) // file names are shown in other working directories, too
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

// begin makes room for the next file and opens it. Repeated failures remove no more than
// one old file in total.
func (r *ring) begin(now time.Time) error {
	// The files contain customers' addresses and the keys of their connections.
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

// evict removes the oldest files until there is room for another file.
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

// create creates a file with an unused name. A process that ended within the same second
// may have used the first names.
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

// Upper bounds of the pcapng overhead of a file, an interface, a frame and a comment, in
// bytes: blocks, options and padding, without the data and texts.
const (
	fileOverhead      = 96
	interfaceOverhead = 64
	frameOverhead     = 64
	commentOverhead   = 8
)

// write appends a frame, to a new file if the frame does not fit into the current one.
// After an error no file is open.
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
		_ = r.close() // err is the cause
		return err
	}
	return nil
}

// flush passes buffered frames to the kernel. After an error no file is open.
func (r *ring) flush() error {
	if !r.open {
		return nil
	}
	err := r.w.Flush()
	if err == nil {
		_, err = os.Lstat(r.out.Name()) // fails if the file has been removed
	}
	if err != nil {
		_ = r.close() // err is the cause
		return err
	}
	return nil
}

// close closes the current file, if one is open.
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

// remember records that the current file contains the handshake of a flow.
func (r *ring) remember(k state.Key) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open {
		r.kept[len(r.kept)-1].flows[r.hash(k)] = struct{}{}
	}
}

// has reports whether a file of the ring contains the handshake of a flow.
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

// where returns the index of the newest file with a flow, or -1. The caller holds r.mu.
func (r *ring) where(k state.Key) int {
	h := r.hash(k)
	for i := len(r.kept) - 1; i >= 0; i-- {
		if _, has := r.kept[i].flows[h]; has {
			return i
		}
	}
	return -1
}

// current returns the path of the current file, or "".
func (r *ring) current() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.open {
		return ""
	}
	return filepath.Join(r.dir, r.kept[len(r.kept)-1].name)
}
