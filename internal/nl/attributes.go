//go:build linux

package nl

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// Attributes (struct nlattr): a length and a type, 16 bits each, then the content,
// padded to 4 bytes. Integers are in the machine's byte order.

// AppendBytes appends an attribute with this content.
func AppendBytes(b []byte, kind uint16, value []byte) []byte {
	b, start := OpenAttribute(b, kind)
	return CloseAttribute(append(b, value...), start)
}

// AppendUint8 appends an attribute with an 8-bit integer.
func AppendUint8(b []byte, kind uint16, v uint8) []byte {
	b, start := OpenAttribute(b, kind)
	return CloseAttribute(append(b, v), start)
}

// AppendUint16 appends an attribute with a 16-bit integer.
func AppendUint16(b []byte, kind uint16, v uint16) []byte {
	b, start := OpenAttribute(b, kind)
	return CloseAttribute(binary.NativeEndian.AppendUint16(b, v), start)
}

// AppendUint32 appends an attribute with a 32-bit integer.
func AppendUint32(b []byte, kind uint16, v uint32) []byte {
	b, start := OpenAttribute(b, kind)
	return CloseAttribute(binary.NativeEndian.AppendUint32(b, v), start)
}

// OpenAttribute begins an attribute whose content is appended until
// [CloseAttribute] gets start. Attributes nest this way.
func OpenAttribute(b []byte, kind uint16) (_ []byte, start int) {
	start = len(b)
	return binary.NativeEndian.AppendUint16(append(b, 0, 0), kind), start
}

// CloseAttribute ends the attribute that begins at start.
func CloseAttribute(b []byte, start int) []byte {
	binary.NativeEndian.PutUint16(b[start:], uint16(len(b)-start))
	return append(b, make([]byte, -len(b)&3)...)
}

// Attributes yields the types, without their flags, and the contents of the
// attributes in b. The contents are slices of b. A malformed rest is yielded as
// type 0 with nil content.
func Attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofNlAttr || size > len(b) {
				break
			}
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, b[unix.SizeofNlAttr:size:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
		if len(b) > 0 {
			yield(0, nil)
		}
	}
}

// Messages yields the types (nlmsghdr.nlmsg_type) and the bodies of the messages
// in a datagram. The bodies are slices of b. A malformed rest is yielded as type 0
// with nil body.
func Messages(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				break
			}
			if !yield(binary.NativeEndian.Uint16(b[4:]), b[unix.NLMSG_HDRLEN:size:size]) {
				return
			}
			b = b[min((size+3)&^3, len(b)):]
		}
		if len(b) > 0 {
			yield(0, nil)
		}
	}
}
