package paths

import (
	"encoding/binary"
	"iter"

	"golang.org/x/sys/unix"
)

// Netlink attributes, written and read in place, because requests and events
// come by the thousand when a path is lost or comes back. Numbers are in the
// machine's byte order. Source: uapi linux/netlink.h, struct nlattr.

func appendBytes(b []byte, kind uint16, value []byte) []byte {
	b, start := openAttr(b, kind)
	return closeAttr(append(b, value...), start)
}

func appendUint8(b []byte, kind uint16, v uint8) []byte {
	b, start := openAttr(b, kind)
	return closeAttr(append(b, v), start)
}

func appendUint16(b []byte, kind uint16, v uint16) []byte {
	b, start := openAttr(b, kind)
	return closeAttr(binary.NativeEndian.AppendUint16(b, v), start)
}

func appendUint32(b []byte, kind uint16, v uint32) []byte {
	b, start := openAttr(b, kind)
	return closeAttr(binary.NativeEndian.AppendUint32(b, v), start)
}

// openAttr begins an attribute: what is appended until closeAttr is its content.
func openAttr(b []byte, kind uint16) (_ []byte, start int) {
	start = len(b)
	return binary.NativeEndian.AppendUint16(append(b, 0, 0), kind), start
}

// closeAttr ends the attribute that begins at start.
func closeAttr(b []byte, start int) []byte {
	binary.NativeEndian.PutUint16(b[start:], uint16(len(b)-start))
	return append(b, make([]byte, -len(b)&3)...)
}

// attributes yields the types and contents of the attributes in b. A content of
// nil, with the type 0, says that b is malformed from there on.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
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
