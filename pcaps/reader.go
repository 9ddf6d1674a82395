package pcaps

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Errors of a [Reader], for errors.Is.
var (
	ErrFormat    = errors.New("malformed capture file")
	ErrTruncated = errors.New("truncated capture file")
)

var (
	errNoCapture = fmt.Errorf("%w: neither pcap nor pcapng", ErrFormat)
	errEmpty     = fmt.Errorf("%w: it is empty", ErrFormat)
)

// Reader reads a capture file: pcap or pcapng of any resolution, in either byte order, with
// or without compression by gzip, zstd or xz. Files that follow one another are read as one.
// A damaged record is skipped, see [Reader.Damage]. A Reader is not safe for concurrent use.
type Reader struct {
	in  *input
	buf *window

	format     format
	interfaces []Interface
	fcs        []int // length of the frame check sequence by interface, in bytes; 0 if unknown
	section    int   // index of the first interface of this pcapng section, or of this pcap file
	frame      Frame
	rec        fileRecord
	damage     Damage
	err        error // returned by all further calls of Next
}

// Damage is the part of a file that a [Reader] has skipped.
type Damage struct {
	Records uint64 // places: a damaged record, or any bytes that are no record
	Bytes   uint64
	First   string // describes the first place
}

// format reads the records of one file format.
type format interface {
	// next reads up to the next packet, which it stores in p. It skips damaged records.
	next(r *Reader, p *fileRecord) error
}

// fileRecord is a packet of a file.
type fileRecord struct {
	data      []byte
	length    int // on the wire
	time      time.Time
	timeKnown bool
	iface     int // index within the section
	direction Direction
	comments  []string
	fcs       int // length of the frame check sequence; 0 if unknown
}

// NewReader reads the header of a file, which may be a pipe. The error wraps [ErrFormat]
// if the file is not a capture, and [ErrTruncated] if it ends within the header.
func NewReader(r io.Reader) (*Reader, error) {
	in, err := newInput(r)
	c := &Reader{in: in, buf: newWindow(in.r)}
	c.frame.Time = time.Unix(0, 0).UTC()
	if err == nil {
		err = c.open()
	}
	switch {
	case err == errNoCapture, err == errEmpty:
		return nil, err
	case err != nil:
		return nil, c.failure(err, "in its header")
	}
	return c, nil
}

// open opens a file, or the next file behind a file.
func (r *Reader) open() error {
	magic, err := r.buf.peek(4)
	if err != nil && err != io.EOF {
		return err
	}
	if err == nil {
		if binary.BigEndian.Uint32(magic) == sectionHeader {
			return openNg(r)
		}
		if v, order := pcapMagic(magic); v != nil {
			return openPcap(r, v, order)
		}
	}
	if none, _ := r.buf.peek(1); len(none) == 0 {
		return errEmpty
	}
	return errNoCapture
}

var byteOrders = [...]binary.ByteOrder{binary.LittleEndian, binary.BigEndian}

// pcapMagic returns variant and byte order of a pcap file that begins with these bytes, four
// at least. The variant is nil for other files.
func pcapMagic(b []byte) (*pcapVariant, binary.ByteOrder) {
	if !magicBytes[b[0]] {
		return nil, nil
	}
	for _, order := range byteOrders {
		if v := pcapVariants[order.Uint32(b)]; v != nil {
			return v, order
		}
	}
	return nil, nil
}

// magicBytes are the possible first bytes of a capture file.
var magicBytes = func() (first [256]bool) {
	first[sectionHeader>>24] = true
	for magic := range pcapVariants {
		first[magic>>24], first[magic&0xff] = true, true
	}
	return first
}()

// fileStarts reports whether b begins with the header of a capture file.
func fileStarts(b []byte) bool {
	if len(b) < pcapHeaderSize || !magicBytes[b[0]] {
		return false
	}
	if binary.BigEndian.Uint32(b) == sectionHeader {
		return sectionOrder(b) != nil
	}
	// Version 2, and no correction of the time zone: a time with the value of a magic number
	// has other numbers behind it.
	v, order := pcapMagic(b)
	return v != nil && order.Uint16(b[4:]) == 2 && order.Uint32(b[8:]) == 0
}

// startsFile reports whether another file begins at the window.
func (r *Reader) startsFile() bool {
	b := r.buf.buffered()
	if len(b) == 0 || !magicBytes[b[0]] {
		return false
	}
	b, _ = r.buf.peek(pcapHeaderSize) // the next read reports an error
	return fileStarts(b)
}

// Interfaces returns the number of interfaces described so far in the file, among them
// those of all frames read so far. In a pcapng file with several sections, the
// interfaces of a section follow those of the section before.
func (r *Reader) Interfaces() int { return len(r.interfaces) }

// Interface returns an interface by its index, from 0.
func (r *Reader) Interface(i int) Interface { return r.interfaces[i] }

// addInterface adds an interface of the current section.
func (r *Reader) addInterface(in Interface, fcs int) {
	r.interfaces, r.fcs = append(r.interfaces, in), append(r.fcs, fcs)
}

// Damage returns the part of the file that has been skipped so far.
func (r *Reader) Damage() Damage { return r.damage }

// damaged counts a place that is skipped.
func (r *Reader) damaged(bytes int, format string, args ...any) {
	if r.damage.Records == 0 {
		r.damage.First = fmt.Sprintf("after frame %d: ", r.frame.Number) + fmt.Sprintf(format, args...)
	}
	r.damage.Records++
	r.damage.Bytes += uint64(bytes)
}

// Next reads a frame, which is valid until the next call. The error is io.EOF at the end
// of the file. It wraps [ErrTruncated] if the file ends within a frame, and [ErrFormat] if
// nothing behind the frames read so far is a record. Other errors are those of the
// underlying reader. After an error there are no more frames.
func (r *Reader) Next() (*Frame, error) {
	if r.err != nil {
		return nil, r.err
	}
	r.rec = fileRecord{}
	err := r.format.next(r, &r.rec)
	if err != nil {
		if err != io.EOF {
			err = r.failure(err, fmt.Sprintf("after frame %d", r.frame.Number))
		}
		r.err = err
		return nil, err
	}
	r.fill(&r.rec)
	return &r.frame, nil
}

// fill sets the fields of the frame.
func (r *Reader) fill(p *fileRecord) {
	f := &r.frame
	f.Number++
	if p.timeKnown {
		f.Time = p.time
	}
	f.Interface = p.iface + r.section
	f.Data, f.Length = p.data, len(p.data)
	if p.length <= maxLength { // a longer one is damaged
		f.Length = max(f.Length, p.length)
	}
	f.Comments, f.Direction = p.comments, p.direction
	f.fcs = p.fcs
	if f.fcs == 0 {
		f.fcs = r.fcs[f.Interface]
	}
	f.decode(r.interfaces[f.Interface].LinkType)
}

// maxLength (bytes) bounds the length of a packet on the wire.
const maxLength = 1 << 30

// failure wraps an error in ErrTruncated or ErrFormat, and adds the place in the file.
func (r *Reader) failure(err error, where string) error {
	switch {
	case errors.Is(err, ErrFormat):
		return fmt.Errorf("%w, %s", err, where)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends %s", ErrTruncated, where)
	}
	return fmt.Errorf("%w, %s", err, where)
}

// resync skips bytes until valid accepts the bytes at the window, at least from bytes and
// at most maxGap. It counts the bytes as damage, except for the end of the file.
func (r *Reader) resync(from int, valid func(b []byte) bool, why string, args ...any) error {
	skipped := from
	if _, err := r.buf.peek(from); err != nil {
		return r.lost(len(r.buf.buffered()), err, why, args...)
	}
	r.buf.skip(from)
	for skipped < maxGap {
		b, err := r.buf.peek(resyncView)
		if err != nil && err != io.EOF {
			return err
		}
		if len(b) == 0 {
			return r.lost(skipped, io.EOF, why, args...)
		}
		n := 0
		for n < len(b) && n < resyncStep && !valid(b[n:]) {
			n++
		}
		r.buf.skip(n)
		skipped += n
		if n < len(b) && n < resyncStep {
			r.damaged(skipped, why, args...)
			return nil
		}
	}
	r.damaged(skipped, why, args...)
	return fmt.Errorf("%w: no record in %d bytes", ErrFormat, skipped)
}

const (
	resyncView = 512 << 10 // bytes that resync looks at, at most
	resyncStep = 256 << 10 // places that resync tries in one view
)

// lost ends a search for a record at the end of the file, or at an error of the reader.
func (r *Reader) lost(skipped int, err error, why string, args ...any) error {
	if err == io.EOF {
		r.buf.skip(len(r.buf.buffered()))
		r.damaged(skipped, why, args...)
	}
	return err
}
