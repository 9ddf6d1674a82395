package pcaps

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// pcapVariant is a variant of the pcap format.
type pcapVariant struct {
	tick time.Duration // unit of the second field of a time
	// headers are the possible lengths of a record's header in bytes, the usual one first.
	headers []int
	trailer int // length of further fields behind the header of the file, in bytes
}

// pcapVariants holds the variants by the magic number (Wireshark: wiretap/libpcap.h).
var pcapVariants = map[uint32]*pcapVariant{
	0xa1b2c3d4: {time.Microsecond, []int{16, 20}, 0}, // 20: Nokia
	0xa1b23c4d: {time.Nanosecond, []int{16}, 0},
	0xa1b2cd34: {time.Microsecond, []int{24, 28, 16}, 0}, // A. Kuznetsov: with interface index, protocol, packet type
	0x1c0001ab: {time.Microsecond, []int{16}, 4},         // Ixia, with the length of all records
	0x1c0001ac: {time.Nanosecond, []int{16}, 4},
}

const (
	pcapHeaderSize = 24
	recordSize     = 16 // length of the usual header of a record
	// maxCaptured (bytes) bounds the length of a packet in a pcap file, unless the file's
	// snap length is larger: the largest snap length of libpcap.
	maxCaptured = 256 << 10
)

// pcapReader reads the records of a pcap file.
type pcapReader struct {
	order   binary.ByteOrder
	tick    time.Duration
	header  int  // length of a record's header
	swapped bool // versions before 2.3: the length on the wire precedes the captured length
	either  bool // version 2.3: the larger length is the length on the wire
	limit   int  // longest packet
	last    int64
	begun   bool // last is valid: the time of the last record in seconds
}

// openPcap reads the header of a pcap file.
func openPcap(r *Reader, v *pcapVariant, order binary.ByteOrder) error {
	b, err := r.buf.peek(pcapHeaderSize + v.trailer)
	if err != nil {
		return err
	}
	major, minor := order.Uint16(b[4:]), order.Uint16(b[6:])
	if major != 2 {
		return fmt.Errorf("%w: version %d.%d of pcap", ErrFormat, major, minor)
	}
	snap, network := order.Uint32(b[16:]), order.Uint32(b[20:])
	f := &pcapReader{order: order, tick: v.tick, swapped: minor < 3, either: minor == 3, limit: maxCaptured}
	if snap <= maxGap {
		f.limit = max(f.limit, int(snap))
	}
	r.buf.skip(pcapHeaderSize + v.trailer)
	f.header = f.headerOf(v, r.buf.buffered())
	in := Interface{LinkType: LinkType(network)}
	_, continues := r.format.(*pcapReader)
	r.format = f
	if last := len(r.interfaces) - 1; continues && r.interfaces[last] == in {
		r.fcs[last] = fcsOf(network) // the same interface: a packet in both files is no copy
		return nil
	}
	r.section = len(r.interfaces)
	r.addInterface(in, fcsOf(network))
	return nil
}

// fcsOf returns the length of the frame check sequence in the field for the link type: in
// words of 16 bits (draft-ietf-opsawg-pcap, section 4). It returns 0 if unknown.
func fcsOf(network uint32) int {
	const present = 0x0400_0000
	if network&present == 0 {
		return 0
	}
	return int(network>>28) * 2
}

// headerOf returns the length of the records' headers: the one with which most of the first
// records fit.
func (f *pcapReader) headerOf(v *pcapVariant, b []byte) int {
	best, most := v.headers[0], 0
	for _, size := range v.headers {
		try := *f
		try.header = size
		if n, _ := try.chain(b, 3); n > most {
			best, most = size, n
		}
	}
	return best
}

// lengths returns the captured length of a record and its length on the wire.
func (f *pcapReader) lengths(header []byte) (captured, length uint32) {
	captured, length = f.order.Uint32(header[8:]), f.order.Uint32(header[12:])
	if f.swapped || f.either && captured > length {
		return length, captured
	}
	return captured, length
}

// fits reports whether a record's header is one that programs write: not empty, with a
// length within the limit, and a time within a year of the last record.
func (f *pcapReader) fits(header []byte) bool {
	const year = 366 * 24 * 3600
	captured, length := f.lengths(header)
	seconds, fraction := int64(f.order.Uint32(header)), f.order.Uint32(header[4:])
	far := seconds - f.last
	return captured > 0 && captured <= uint32(f.limit) && length <= maxLength &&
		time.Duration(fraction) < time.Second/f.tick && (!f.begun || -year < far && far < year)
}

// chain returns the number of records at the beginning of b, at most n, which fit and
// follow one another, and whether b ends with the last of them.
func (f *pcapReader) chain(b []byte, n int) (records int, end bool) {
	for records < n {
		if len(b) < f.header || !f.fits(b) {
			return records, len(b) == 0
		}
		captured, _ := f.lengths(b)
		records++
		if len(b) < f.header+int(captured) {
			return records, false
		}
		b = b[f.header+int(captured):]
	}
	return records, len(b) == 0
}

// starts reports whether b begins with records or with another file.
func (f *pcapReader) starts(b []byte) bool {
	if fileStarts(b) {
		return true
	}
	const sure = 3
	n, end := f.chain(b, sure)
	return n == sure || n > 0 && end
}

func (f *pcapReader) next(r *Reader, p *fileRecord) error {
	for {
		header, err := r.buf.peek(f.header)
		switch {
		case len(header) == 0:
			return err
		case err == io.EOF && zeros(header):
			return r.resync(len(header), f.starts, "zeros")
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		captured, length := f.lengths(header)
		switch {
		case r.startsFile():
			if err := r.open(); err != nil {
				return err
			}
			return r.format.next(r, p)
		case captured > uint32(f.limit):
			err = r.resync(1, f.starts, "a record of %d bytes", captured)
		case zeros(header):
			err = r.resync(1, f.starts, "zeros")
		default:
			done, err := f.packet(r, p, int(captured), int(length))
			if done || err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

// zeros reports whether all bytes are zero: space that a program has reserved.
func zeros(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// packet reads a record with plausible lengths. If records begin within its data rather than
// behind, its length is damaged: packet skips up to those, and done is false.
func (f *pcapReader) packet(r *Reader, p *fileRecord, captured, length int) (done bool, err error) {
	b, err := r.buf.peek(f.header + captured)
	if err != nil && err != io.EOF {
		return false, err
	}
	if at, found := f.hidden(r.buf.buffered(), f.header+captured, err != nil); found {
		r.damaged(at, "a record with a wrong length of %d bytes", captured)
		r.buf.skip(at)
		return false, nil
	}
	if err != nil {
		return false, io.ErrUnexpectedEOF
	}
	seconds, fraction := f.order.Uint32(b), f.order.Uint32(b[4:])
	p.data, p.length, p.timeKnown = b[f.header:], length, true
	p.time = time.Unix(int64(seconds), int64(fraction)*int64(f.tick)).UTC()
	f.last, f.begun = int64(seconds), true
	r.buf.skip(len(b))
	return true, nil
}

// hidden looks for records within a record of a length, if none follows it in the buffered
// bytes b. cut means that the file ends within the record.
func (f *pcapReader) hidden(b []byte, length int, cut bool) (at int, found bool) {
	if !cut {
		rest := b[length:]
		if len(rest) < f.header || f.fits(rest) || f.empty(rest) || fileStarts(rest) {
			return 0, false
		}
	}
	for at := f.header; at < min(length, len(b)); at++ {
		if n, end := f.chain(b[at:], 3); n == 3 || n > 0 && end {
			return at, true
		}
	}
	return 0, false
}

// empty reports whether a header is one of a packet without bytes, or zeros.
func (f *pcapReader) empty(header []byte) bool {
	captured, _ := f.lengths(header)
	return captured == 0
}
