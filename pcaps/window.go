package pcaps

import "io"

// window is a buffer over the decompressed bytes of a file. It grows up to the longest
// record, with the bytes that arrive and not with the lengths in the file.
type window struct {
	r    io.Reader
	buf  []byte
	from int   // start of the unread bytes in buf
	err  error // of the last read; returned once the unread bytes are too few
}

// windowSize is the usual size of a window in bytes.
const windowSize = 128 << 10

func newWindow(r io.Reader) *window { return &window{r: r, buf: make([]byte, 0, windowSize)} }

// buffered returns the unread bytes that need no further read. They are valid until the
// next call of peek.
func (w *window) buffered() []byte { return w.buf[w.from:] }

// peek returns the next n bytes, or fewer with an error. They are valid until the next
// call, and skip does not invalidate them.
func (w *window) peek(n int) ([]byte, error) {
	for len(w.buf)-w.from < n {
		if w.err != nil {
			return w.buf[w.from:], w.err
		}
		w.read()
	}
	return w.buf[w.from : w.from+n : w.from+n], nil
}

// read reads once, into free memory at the end of the buffer.
func (w *window) read() {
	if len(w.buf) == cap(w.buf) {
		size := cap(w.buf)
		if unread := len(w.buf) - w.from; unread > size/2 {
			size *= 2
		}
		if size == cap(w.buf) {
			w.buf = w.buf[:copy(w.buf, w.buf[w.from:])]
		} else {
			w.buf = append(make([]byte, 0, size), w.buf[w.from:]...)
		}
		w.from = 0
	}
	n, err := w.r.Read(w.buf[len(w.buf):cap(w.buf)])
	w.buf, w.err = w.buf[:len(w.buf)+n], err
}

// skip moves behind n bytes that peek has returned.
func (w *window) skip(n int) { w.from += n }
