package encap

import "encoding/binary"

// A datagram is, in network byte order:
//
//	 0  magic u32   "sBe1"; that of a probe is another
//	 4  key u64     of the path, from the HAG
//	12  an IPv4 packet
const (
	HeaderSize = 12
	magic      = 0x73426531

	offKey = 4
)

// Is reports whether a datagram is one of this package.
func Is(datagram []byte) bool {
	return len(datagram) >= HeaderSize && binary.BigEndian.Uint32(datagram) == magic
}

// parseHeader returns the key and the packet of a datagram.
func parseHeader(datagram []byte) (key uint64, packet []byte, ok bool) {
	if !Is(datagram) {
		return 0, nil, false
	}
	return binary.BigEndian.Uint64(datagram[offKey:]), datagram[HeaderSize:], true
}

// putHeader writes the header into the first HeaderSize bytes of b.
func putHeader(b []byte, key uint64) {
	binary.BigEndian.PutUint32(b, magic)
	binary.BigEndian.PutUint64(b[offKey:], key)
}
