package pcaps

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/pcapgo"
)

// Errors of a [Reader], for errors.Is.
var (
	ErrFormat    = errors.New("malformed capture file")
	ErrTruncated = errors.New("truncated capture file")
)

var errNoCapture = fmt.Errorf("%w: neither pcap nor pcapng", ErrFormat)

// Reader reads a capture file: pcap with times in microseconds or nanoseconds, or
// pcapng, in either byte order, with or without gzip compression. Times of pcapng in a
// resolution of whole seconds or a power of two are inexact. A Reader is not safe for
// concurrent use.
type Reader struct {
	in  *input
	buf *bufio.Reader

	pcap *pcapgo.Reader   // nil for pcapng
	ng   *pcapgo.NgReader // nil for pcap

	swapped    bool // pcapng in big endian
	interfaces []Interface
	section    int // index of the first interface of this pcapng section
	frame      Frame
	err        error // returned by all further calls of Next
}

// NewReader reads the header of a file, which may be a pipe. The error wraps [ErrFormat]
// if the file is not a capture, and [ErrTruncated] if it ends within the header.
func NewReader(r io.Reader) (*Reader, error) {
	in, buf, err := newInput(r)
	c := &Reader{in: in, buf: buf}
	c.frame.Time = time.Unix(0, 0).UTC()
	if err == nil {
		err = c.open()
	}
	switch {
	case err == errNoCapture:
		return nil, err
	case err != nil:
		return nil, c.failure(err, "in its header")
	}
	return c, nil
}

// magics are the first four bytes of a file in little endian, each with the function that
// opens the file.
var magics = map[uint32]func(*Reader) error{
	0x0a0d0d0a: (*Reader).openNg,   // the section header of pcapng, in both byte orders
	0xa1b2c3d4: (*Reader).openPcap, // microseconds
	0xd4c3b2a1: (*Reader).openPcap, // microseconds, big endian
	0xa1b23c4d: (*Reader).openPcap, // nanoseconds
	0x4d3cb2a1: (*Reader).openPcap, // nanoseconds, big endian
}

func (r *Reader) open() error {
	magic, err := r.buf.Peek(4)
	if err != nil && err != io.EOF {
		return err
	}
	if err == nil {
		if open, known := magics[binary.LittleEndian.Uint32(magic)]; known {
			return open(r)
		}
	}
	return errNoCapture
}

func (r *Reader) openPcap() error {
	pcap, err := pcapgo.NewReader(r.buf)
	if err != nil {
		return err
	}
	r.pcap = pcap
	r.interfaces = []Interface{{LinkType: LinkType(pcap.LinkType())}}
	return nil
}

func (r *Reader) openNg() error {
	const order = 8 // the offset of the byte-order magic 0x1a2b3c4d
	if header, err := r.buf.Peek(order + 1); err == nil {
		r.swapped = header[order] == 0x1a
	}
	var err error
	r.ng, err = pcapgo.NewNgReader(r.buf, pcapgo.NgReaderOptions{
		WantMixedLinkType: true,
		SectionEndCallback: func([]pcapgo.NgInterface, pcapgo.NgSectionInfo) {
			r.section = len(r.interfaces) // the next section numbers its interfaces from 0
		},
	})
	return err
}

// Interfaces returns the number of interfaces described so far in the file, among them
// those of all frames read so far. In a pcapng file with several sections, the
// interfaces of a section follow those of the section before.
func (r *Reader) Interfaces() int { return len(r.interfaces) }

// Interface returns an interface by its index, from 0.
func (r *Reader) Interface(i int) Interface { return r.interfaces[i] }

// Next reads a frame, which is valid until the next call. The error is io.EOF at the end
// of the file. It wraps [ErrTruncated] if the file ends within a frame, and [ErrFormat] if
// the file is damaged behind the frames read so far. Other errors are those of the
// underlying reader. After an error there are no more frames.
func (r *Reader) Next() (*Frame, error) {
	if r.err != nil {
		return nil, r.err
	}
	r.in.left = maxGap
	data, info, options, err := r.read()
	if err == nil && info.Length < len(data) {
		err = fmt.Errorf("%d bytes captured of %d", len(data), info.Length)
	}
	switch {
	case err == io.EOF && r.in.err == io.EOF && info.CaptureLength == 0:
		// The library returns io.EOF also for a gzip stream truncated between two
		// blocks, and for a pcap file truncated between a record's header and its data.
		r.err = err
		return nil, err
	case err != nil:
		r.err = r.failure(err, fmt.Sprintf("after frame %d", r.frame.Number))
		return nil, r.err
	}
	r.fill(data, info, &options)
	return &r.frame, nil
}

// read reads a packet of either format. The results are valid until the next call.
func (r *Reader) read() ([]byte, gopacket.CaptureInfo, pcapgo.NgPacketOptions, error) {
	if r.ng == nil {
		data, info, err := r.pcap.ZeroCopyReadPacketData()
		return data, info, pcapgo.NgPacketOptions{}, err
	}
	data, info, options, err := r.ng.ZeroCopyReadPacketDataWithOptions()
	for i := len(r.interfaces) - r.section; i < r.ng.NInterfaces(); i++ {
		in, _ := r.ng.Interface(i) // exists
		r.interfaces = append(r.interfaces, Interface{in.Name, in.Description, LinkType(in.LinkType)})
	}
	info.InterfaceIndex += r.section
	return data, info, options, err
}

// fill sets the fields of the frame from the results of read.
func (r *Reader) fill(data []byte, info gopacket.CaptureInfo, options *pcapgo.NgPacketOptions) {
	f := &r.frame
	f.Number++
	if !info.Timestamp.IsZero() { // zero in simple packet blocks
		f.Time = info.Timestamp
	}
	f.Interface = info.InterfaceIndex
	f.Data, f.Length = data, info.Length
	f.Comments = options.Comments
	f.Direction = Unknown
	if options.Flags != nil {
		f.Direction = direction(options.Flags, r.swapped)
	}
	f.decode(r.interfaces[f.Interface].LinkType)
}

// direction returns the direction from the flags of an enhanced packet block. The library
// reads them as little endian: in a big endian file the first byte is in its field for
// link-layer errors.
func direction(flags *pcapgo.NgEpbFlags, swapped bool) Direction {
	word := flags.Direction
	if swapped {
		word = flags.LinkLayerErr >> 24
	}
	if d := Direction(word & pcapgo.NgEpbFlagDirectionMask); d <= Outbound {
		return d
	}
	return Unknown
}

// failure wraps an error in ErrTruncated or ErrFormat, and adds the place in the file.
func (r *Reader) failure(err error, where string) error {
	if errors.Is(err, ErrFormat) {
		return fmt.Errorf("%w, %s", err, where)
	}
	if r.buf.Buffered() == 0 && r.in.err != nil {
		err = r.in.err // the library may have dropped it
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends %s", ErrTruncated, where)
	case err == r.in.err:
		return fmt.Errorf("%w, %s", err, where)
	}
	return fmt.Errorf("%w: %w, %s", ErrFormat, err, where)
}
