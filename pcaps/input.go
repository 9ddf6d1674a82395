package pcaps

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// maxGap is the largest number of bytes read for one frame: libpcap's limit for a pcapng
// block. A damaged length must not read a whole file into memory.
const maxGap = 16 << 20

var errGap = fmt.Errorf("%w: a record of more than %d bytes", ErrFormat, maxGap)

// input is the decompressed source of a capture. It keeps its last error, because the
// library that reads from it does not always return that error.
type input struct {
	r    io.Reader
	left int   // of maxGap, in bytes
	err  error // of the last read
}

// newInput returns an input, and a buffered reader of it.
func newInput(r io.Reader) (*input, *bufio.Reader, error) {
	const size = 128 << 10
	raw := bufio.NewReaderSize(r, size)
	in := &input{r: raw, left: maxGap}
	magic, err := raw.Peek(2)
	if err == nil && string(magic) == "\x1f\x8b" { // RFC 1952, section 2.3.1
		in.r, err = gzip.NewReader(raw)
	}
	if err == io.EOF {
		err = nil // the next read reports the end of such a short file
	}
	in.err = damaged(err)
	return in, bufio.NewReaderSize(in, size), in.err
}

func (in *input) Read(p []byte) (int, error) {
	if in.left <= 0 {
		in.err = errGap
		return 0, in.err
	}
	n, err := in.r.Read(p)
	in.left -= n
	in.err = damaged(err)
	return n, in.err
}

// damaged wraps the errors of a gzip stream in ErrFormat.
func damaged(err error) error {
	var corrupt flate.CorruptInputError
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt) {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}
