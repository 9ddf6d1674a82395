package pcaps

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Types of pcapng blocks (draft-ietf-opsawg-pcapng, section 4).
const (
	sectionHeader   = 0x0a0d0d0a
	interfaceBlock  = 1
	packetBlock     = 2 // obsolete
	simpleBlock     = 3
	enhancedBlock   = 6
	blockOverhead   = 12 // type, length, and the length again, in bytes
	sectionMinSize  = 28
	byteOrderOffset = 8
)

// searched are the types of blocks at which a search for the next block stops: also name
// resolution, statistics, and decryption secrets.
var searched = map[uint32]bool{interfaceBlock: true, packetBlock: true, simpleBlock: true, 4: true, 5: true, enhancedBlock: true, 10: true}

// ngReader reads the blocks of a pcapng file.
type ngReader struct {
	order      binary.ByteOrder
	interfaces []ngInterface // of the section
}

// ngInterface holds the numbers of an interface description.
type ngInterface struct {
	resolution byte
	offset     int64 // of times, in seconds
	snap       uint32
}

// sectionOrder returns the byte order of a section header, or nil.
func sectionOrder(b []byte) binary.ByteOrder {
	const magic = 0x1a2b3c4d
	for _, order := range byteOrders {
		if order.Uint32(b[byteOrderOffset:]) == magic {
			return order
		}
	}
	return nil
}

// openNg reads the section header at the beginning of a file.
func openNg(r *Reader) error {
	b, err := r.buf.peek(blockOverhead)
	if err != nil {
		return err
	}
	f := &ngReader{order: sectionOrder(b)}
	if f.order == nil {
		return fmt.Errorf("%w: no byte-order magic in the section header", ErrFormat)
	}
	length := f.order.Uint32(b[4:])
	if length < sectionMinSize || length > maxGap {
		return fmt.Errorf("%w: a section header of %d bytes", ErrFormat, length)
	}
	if b, err = r.buf.peek(int(length)); err != nil {
		return err
	}
	if major := f.order.Uint16(b[12:]); major != 1 {
		return fmt.Errorf("%w: version %d of pcapng", ErrFormat, major)
	}
	r.buf.skip(int(length))
	r.format, r.section = f, len(r.interfaces)
	return nil
}

// whole reports whether b begins with a whole block of a known type.
func (f *ngReader) whole(b []byte) bool {
	if fileStarts(b) {
		return true
	}
	if len(b) < blockOverhead || !searched[f.order.Uint32(b)] {
		return false
	}
	length := f.order.Uint32(b[4:])
	return length >= blockOverhead && length%4 == 0 && uint64(length) <= uint64(len(b)) && f.order.Uint32(b[length-4:]) == length
}

func (f *ngReader) next(r *Reader, p *fileRecord) error {
	for {
		b, err := r.buf.peek(blockOverhead)
		switch {
		case len(b) == 0:
			return err
		case err == io.EOF && zeros(b):
			return r.resync(len(b), f.whole, "zeros")
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
		if r.startsFile() {
			if err := r.open(); err != nil {
				return err
			}
			return r.format.next(r, p)
		}
		done, err := f.block(r, p, b)
		if done || err != nil {
			return err
		}
	}
}

// block reads a block, given its first bytes. done means that the block is a packet.
func (f *ngReader) block(r *Reader, p *fileRecord, b []byte) (done bool, err error) {
	kind, length := f.order.Uint32(b), int(f.order.Uint32(b[4:]))
	switch {
	case zeros(b):
		return false, r.resync(1, f.whole, "zeros")
	case length < blockOverhead, length > maxGap:
		return false, r.resync(1, f.whole, "a block of %d bytes", length)
	}
	b, err = r.buf.peek(length)
	if err != nil && err != io.EOF {
		return false, err
	}
	if err == io.EOF || int(f.order.Uint32(b[length-4:])) != length {
		if at := f.hidden(b); at > 0 {
			r.damaged(at, "a block with a wrong length of %d bytes", length)
			r.buf.skip(at)
			return false, nil
		}
	}
	if err == io.EOF {
		return false, io.ErrUnexpectedEOF
	}
	r.buf.skip(length)
	wrong := ""
	switch kind {
	case interfaceBlock:
		wrong = f.describe(r, b)
	case simpleBlock:
		wrong = f.simple(p, b)
	case packetBlock, enhancedBlock:
		wrong = f.packet(r, p, b)
	default:
		return false, nil
	}
	if wrong != "" {
		r.damaged(length, "%s", wrong)
		return false, nil
	}
	return kind != interfaceBlock, nil
}

// hidden returns the offset of the first whole block within the bytes of a damaged one, or
// 0.
func (f *ngReader) hidden(b []byte) int {
	for at := 4; at < len(b); at++ {
		if f.whole(b[at:]) {
			return at
		}
	}
	return 0
}

// body returns the content of a block.
func body(block []byte) []byte { return block[8 : len(block)-4] }

// describe reads an interface description. It returns a text for damage, or "".
func (f *ngReader) describe(r *Reader, block []byte) string {
	const size = 8
	b := body(block)
	if len(b) < size {
		return "a short description of an interface"
	}
	in, ng, fcs := Interface{LinkType: LinkType(f.order.Uint16(b))}, ngInterface{resolution: 6, snap: f.order.Uint32(b[4:])}, 0
	wrong := f.options(b[size:], func(code uint16, value []byte) {
		switch {
		case code == 2:
			in.Name = string(value)
		case code == 3:
			in.Description = string(value)
		case code == 9 && len(value) >= 1:
			ng.resolution = value[0]
		case code == 13 && len(value) >= 1:
			fcs = int(value[0])
		case code == 14 && len(value) >= 8:
			ng.offset = int64(f.order.Uint64(value))
		}
	})
	f.interfaces = append(f.interfaces, ng)
	r.addInterface(in, fcs)
	return wrong
}

// options calls each for the options of a block. It returns a text for damage, or "".
func (f *ngReader) options(b []byte, each func(code uint16, value []byte)) string {
	for len(b) >= 4 {
		code, length := f.order.Uint16(b), int(f.order.Uint16(b[2:]))
		if code == 0 {
			break
		}
		if len(b) < 4+length {
			return "an option longer than its block"
		}
		each(code, b[4:4+length])
		b = b[min(len(b), 4+(length+3)&^3):]
	}
	return ""
}

// packet reads an enhanced packet block, or an obsolete packet block. It returns a text for
// damage, or "".
func (f *ngReader) packet(r *Reader, p *fileRecord, block []byte) string {
	const size = 20
	b := body(block)
	if len(b) < size {
		return "a short packet block"
	}
	index := f.order.Uint32(b)
	if f.order.Uint32(block) == packetBlock {
		index = uint32(f.order.Uint16(b))
	}
	captured, length := f.order.Uint32(b[12:]), f.order.Uint32(b[16:])
	switch {
	case uint64(index) >= uint64(len(f.interfaces)):
		return fmt.Sprintf("a packet of interface %d, which the file does not describe", index)
	case uint64(captured) > uint64(len(b)-size):
		return fmt.Sprintf("a packet of %d bytes in a block of %d", captured, len(block))
	}
	ticks := uint64(f.order.Uint32(b[4:]))<<32 | uint64(f.order.Uint32(b[8:]))
	p.iface, p.time, p.timeKnown = int(index), f.interfaces[index].time(ticks), true
	p.data, p.length = b[size:size+captured:size+captured], int(length)
	if wrong := f.packetOptions(p, b[min(len(b), size+(int(captured)+3)&^3):]); wrong != "" {
		r.damaged(0, "%s", wrong) // the packet itself is whole
	}
	return ""
}

// packetOptions reads the options of a packet. It returns a text for damage, or "".
func (f *ngReader) packetOptions(p *fileRecord, b []byte) string {
	const direction, fcs = 3, 0xf // of epb_flags: bits 0 and 1, bits 5 to 8
	return f.options(b, func(code uint16, value []byte) {
		switch {
		case code == 1:
			p.comments = append(p.comments, string(value))
		case code == 2 && len(value) >= 4:
			flags := f.order.Uint32(value)
			if d := Direction(flags & direction); d <= Outbound {
				p.direction = d
			}
			if n := flags >> 5 & fcs; n != 0 {
				p.fcs = int(n)
			}
		}
	})
}

// simple reads a simple packet block. It returns a text for damage, or "".
func (f *ngReader) simple(p *fileRecord, block []byte) string {
	b := body(block)
	if len(b) < 4 || len(f.interfaces) == 0 {
		return "a packet without an interface"
	}
	length := f.order.Uint32(b)
	captured := int(min(length, uint32(len(b)-4)))
	if snap := f.interfaces[0].snap; snap != 0 {
		captured = int(min(uint32(captured), snap))
	}
	p.iface, p.data, p.length = 0, b[4:4+captured:4+captured], int(length)
	return ""
}

// time returns the time for a number of ticks.
func (in ngInterface) time(ticks uint64) time.Time {
	seconds, nanoseconds := secondsOf(ticks, in.resolution)
	return time.Unix(int64(seconds)+in.offset, int64(nanoseconds)).UTC()
}
