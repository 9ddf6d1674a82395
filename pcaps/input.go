package pcaps

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxGap is the largest number of bytes read for one frame: libpcap's limit for a pcapng
// block. A damaged length must not read a whole file into memory.
const maxGap = 16 << 20

// compression is a format of compressed files.
type compression struct {
	name  string
	magic string
	end   string // of a whole file, or ""; zeros may follow
	open  func(io.Reader) (io.Reader, error)
}

// compressions are the formats that a Reader expands.
var compressions = []compression{
	{"gzip", "\x1f\x8b", "", openGzip},         // RFC 1952, section 2.3.1
	{"zstd", "\x28\xb5\x2f\xfd", "", openZstd}, // RFC 8878, section 3.1.1
	{"xz", "\xfd7zXZ\x00", "YZ", openXZ},       // the .xz file format, sections 2.1.1.1 and 2.1.2.4
}

func openGzip(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }

// openZstd expands zstd. A window (RFC 8878, section 3.1.1.1.2) of up to 128 MiB is read:
// the limit of zstd --ultra -22.
func openZstd(r io.Reader) (io.Reader, error) {
	const maxWindow = 128 << 20
	// One goroutine at most: a reader of captures needs no close.
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// openXZ expands xz. A dictionary of up to 128 MiB is read: xz -9 takes 64 MiB. A file may
// name one of 4 GiB, and fill it with few bytes. Further blocks have the size of the first,
// unless somebody has put a file together by hand.
func openXZ(r io.Reader) (io.Reader, error) {
	const most = 128 << 20
	buf := bufio.NewReaderSize(r, longestXZHeader)
	head, _ := buf.Peek(longestXZHeader) // of a short file as much as there is
	if size := xzDictionary(head); size > most {
		return nil, fmt.Errorf("a dictionary of %d MiB, and %d MiB are read", size>>20, most>>20)
	}
	return xz.NewReader(buf)
}

// longestXZHeader is the length of a stream header and the longest block header (the .xz
// file format, sections 2.1.1 and 3.1.1).
const longestXZHeader = 12 + 1024

// xzDictionary returns the size of the dictionary that the first block of a file names, in
// bytes; 0 if it names none (the .xz file format, sections 3.1 and 5.3.1).
func xzDictionary(head []byte) int64 {
	const stream, lzma2 = 12, 0x21
	if len(head) < stream+2 || head[stream] == 0 {
		return 0
	}
	flags, at := head[stream+1], stream+2
	number := func() (n uint64) {
		for shift := 0; at < len(head) && shift < 63; shift += 7 {
			b := head[at]
			at++
			n |= uint64(b&0x7f) << shift
			if b&0x80 == 0 {
				break
			}
		}
		return n
	}
	for _, sized := range []byte{0x40, 0x80} {
		if flags&sized != 0 {
			number()
		}
	}
	for range flags&3 + 1 {
		id, size := number(), number()
		if at >= len(head) {
			break
		}
		if id == lzma2 {
			n := head[at] & 0x3f
			return int64(2|n&1) << (n/2 + 11)
		}
		at += int(min(size, longestXZHeader))
	}
	return 0
}

// input is the decompressed source of a capture.
type input struct {
	r   io.Reader
	raw source
}

// source is the file itself. It keeps its last error and its last bytes: decompressors do
// not always return that error, and take the end of some truncated files for the end.
type source struct {
	r    io.Reader
	err  error
	last [2]byte // other than zero
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	for i, found := n-1, 1; i >= 0 && found >= 0; i-- {
		if p[i] != 0 {
			if found == 0 {
				s.last[0] = p[i]
			} else {
				s.last = [2]byte{s.last[1], p[i]}
			}
			found--
		}
	}
	if err != nil {
		s.err = err
	}
	return n, err
}

// newInput returns the decompressed source of a capture.
func newInput(r io.Reader) (*input, error) {
	in := &input{raw: source{r: r}}
	buf := bufio.NewReaderSize(&in.raw, windowSize)
	in.r = buf
	for _, c := range compressions {
		magic, err := buf.Peek(len(c.magic))
		if err != nil && err != io.EOF {
			return in, err
		}
		if !bytes.Equal(magic, []byte(c.magic)) {
			continue
		}
		expanded, err := c.open(buf)
		if err != nil {
			return in, in.failure(c.name, err)
		}
		in.r = expander{in, c, expanded}
	}
	return in, nil
}

// expander reads an expanded stream, with the errors of failure.
type expander struct {
	in *input
	compression
	r io.Reader
}

func (e expander) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err == io.EOF && e.end != "" && e.end != string(e.in.raw.last[:]) {
		err = io.ErrUnexpectedEOF
	}
	return n, e.in.failure(e.name, err)
}

// failure returns the error of an expanded stream: the error of the file, or
// io.ErrUnexpectedEOF at the end of a truncated file, or an error that wraps ErrFormat.
func (in *input) failure(name string, err error) error {
	var corrupt flate.CorruptInputError
	switch {
	case err == nil, err == io.EOF && (in.raw.err == nil || in.raw.err == io.EOF):
		return err
	case in.raw.err != nil && in.raw.err != io.EOF:
		return in.raw.err
	case errors.Is(err, gzip.ErrHeader), errors.Is(err, gzip.ErrChecksum), errors.As(err, &corrupt):
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %s: %w", ErrFormat, name, err)
}
