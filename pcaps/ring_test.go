package pcaps

import (
	"errors"
	"hash/maphash"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/state"
)

// newRing returns an open ring of three small files.
func newRing(t *testing.T, dir string) *ring {
	t.Helper()
	r := &ring{
		dir: dir, prefix: "cpe", comment: "a test", files: 3, size: 2000,
		interfaces: []Interface{{Name: "lan0", Description: "synbond cpe, plain side", LinkType: LinkRaw}},
		seed:       maphash.MakeSeed(),
	}
	if err := errors.Join(r.find(), r.begin(time.Now())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.close() })
	return r
}

// fillRing writes n frames of 100 bytes, each of another flow, numbered from first on.
func fillRing(t *testing.T, r *ring, first, n int) {
	t.Helper()
	for i := first; i < first+n; i++ {
		f := Frame{Time: time.Now(), Direction: Inbound, Data: make([]byte, 100), Length: 100}
		if err := r.write(&f, r.interfaces[0], []string{"hold"}); err != nil {
			t.Fatal(err)
		}
		r.remember(numbered(i))
	}
}

func numbered(i int) state.Key {
	return state.KeyOf(netip.AddrPortFrom(netip.IPv6Loopback(), uint16(i)), netip.AddrPortFrom(netip.IPv6Loopback(), 80))
}

// ringFiles returns the files of a folder, sorted by name, with their numbers of frames. All
// files must be whole.
func ringFiles(t *testing.T, dir string) (names []string, counts []int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		at, err := e.Info()
		if err != nil || at.Size() > 2000 {
			t.Errorf("%s has %d bytes (%v)", e.Name(), at.Size(), err)
		}
		f, err := os.Open(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewReader(f)
		n := -1
		for ; err == nil; n++ {
			_, err = r.Next()
		}
		if !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v after %d frames", e.Name(), err, n)
		}
		f.Close()
		names, counts = append(names, e.Name()), append(counts, n)
	}
	return names, counts
}

func TestRingKeepsNewestFramesInBoundedFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	r := newRing(t, dir)
	fillRing(t, r, 0, 50)
	last := r.current()
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	names, counts := ringFiles(t, dir)
	if len(names) != 3 || names[2] != filepath.Base(last) || counts[0] < 8 || counts[0] != counts[1] {
		t.Errorf("files %q with %d frames", names, counts)
	}
	kept := counts[0] + counts[1] + counts[2]
	for i := range 50 {
		if got := r.has(numbered(i)); got != (i >= 50-kept) {
			t.Errorf("frame %d of 50, with %d kept: has: %v", i, kept, got)
		}
	}
	if got := r.file(numbered(49)); got != last {
		t.Errorf("file of the last frame: %q, want %q", got, last)
	}
}

func TestRingCountsOnlyFilesOfEarlierProcesses(t *testing.T) {
	dir := t.TempDir()
	others := []string{"hag-20260101T000000Z-0001.pcapng", "cpe-notes.pcapng", "cpe-20260101T000000Z-0001.pcapng.gz"}
	own := []string{"cpe-20260101T000000Z-0001.pcapng", "cpe-20260101T000000Z-0002.pcapng", "cpe-20260102T000000Z-0001.pcapng"}
	for _, name := range append(others, own...) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := newRing(t, dir)
	var got []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		got = append(got, e.Name())
	}
	want := slices.Sorted(slices.Values(append(append(others, own[1:]...), filepath.Base(r.current()))))
	if !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

func TestRingLosesOneFileWhileItCannotWrite(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ring")
	r := newRing(t, dir)
	fillRing(t, r, 0, 50)
	moved := dir + "-moved"
	if err := errors.Join(os.Rename(dir, moved), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := r.flush(); err == nil || r.open {
		t.Errorf("flush of a removed file: %v", err)
	}
	for range 5 {
		if err := r.begin(time.Now()); err == nil {
			t.Fatal("begin opens a file in place of a folder")
		}
	}
	if err := errors.Join(os.Remove(dir), os.Rename(moved, dir)); err != nil {
		t.Fatal(err)
	}
	fillRing(t, r, 50, 1)
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	if names, counts := ringFiles(t, dir); len(names) != 3 || counts[2] != 1 {
		t.Errorf("files %q with %d frames", names, counts)
	}
}

func TestRingNamesDifferWithinOneSecond(t *testing.T) {
	dir := t.TempDir()
	a, b := newRing(t, dir), newRing(t, dir)
	if a.current() == b.current() || a.current() == "" {
		t.Errorf("two rings write %q and %q", a.current(), b.current())
	}
}
