package pcaps

import (
	"bufio"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// maxGap is how many bytes are read for one frame: what libpcap takes for the
// longest pcapng block. A damaged length must not read a whole file into memory.
const maxGap = 16 << 20

var errGap = fmt.Errorf("%w: a record of more than %d bytes", ErrFormat, maxGap)

// input is what a capture is read from: a file, decompressed. It remembers how
// it ended, for the library that reads from it does not always say.
type input struct {
	r    io.Reader
	left int   // of maxGap, bytes
	err  error // of the last read
}

// newInput returns an input, and a buffer in front of it.
func newInput(r io.Reader) (*input, *bufio.Reader, error) {
	const size = 128 << 10
	raw := bufio.NewReaderSize(r, size)
	in := &input{r: raw, left: maxGap}
	magic, err := raw.Peek(2)
	if err == nil && string(magic) == "\x1f\x8b" { // RFC 1952, section 2.3.1
		in.r, err = gzip.NewReader(raw)
	}
	if err == io.EOF {
		err = nil // what a file of a few bytes is, the next to read it will say
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

// damaged makes an ErrFormat of the errors of a gzip stream.
func damaged(err error) error {
	var corrupt flate.CorruptInputError
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt) {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return err
}
