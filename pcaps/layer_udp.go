package pcaps

import "encoding/binary"

// Tunnels over UDP. A header that is not one of the tunnel belongs to another user of the
// port: nothing is read behind it.

// readVXLAN reads VXLAN (RFC 7348) and VXLAN-GPE, which has a bit for a next protocol.
func readVXLAN(w *walk, b []byte) (int, protocol) {
	const size, valid, next = 8, 0x08, 0x04
	if len(b) < size {
		return -1, none
	}
	switch {
	case b[0]&valid == 0:
		return size, none
	case b[0]&next != 0:
		return size, w.genericNext(b[3])
	}
	return size, ethernet
}

// readGTPU reads version 1 of GTP-U with its extension headers (3GPP TS 29.281, section 5).
func readGTPU(w *walk, b []byte) (int, protocol) {
	const (
		size, more                 = 8, 4 // of the header, and of its optional part
		version1, gtp, packet      = 1, 0x10, 255
		extension, optional, field = 0x04, 0x07, 2
	)
	if len(b) < size {
		return -1, none
	}
	if b[0]>>5 != version1 || b[0]&gtp == 0 || b[1] != packet {
		return size, none
	}
	if length := int(binary.BigEndian.Uint16(b[field:])); length != 0 {
		w.until(w.at + size + length)
	}
	at := size
	if b[0]&optional != 0 {
		at += more
	}
	if len(b) < at {
		return -1, none
	}
	for next := b[at-1]; b[0]&extension != 0 && next != 0; next = b[at-1] {
		if len(b) <= at || b[at] == 0 || len(b) < at+int(b[at])*4 {
			return -1, none
		}
		at += int(b[at]) * 4
	}
	if at < len(b) && !plausibleIP(b[at:], w.end-w.at-at) {
		return at, w.unread(kind{name: "GTP-U without an IP packet"})
	}
	return at, ipAny
}

func resizeGTPU(f *Frame, i int) {
	at := f.places[i].at
	putLength(f.Data[at+2:], f.wireEnd()-at-8)
}

// readGeneve reads a header with options (RFC 8926, section 3.4).
func readGeneve(w *walk, b []byte) (int, protocol) {
	const size, version, control = 8, 0xc0, 0x80
	if len(b) < size {
		return -1, none
	}
	if b[0]&version != 0 || b[1]&control != 0 {
		return size, none
	}
	return size + int(b[0]&0x3f)*4, w.etherType(binary.BigEndian.Uint16(b[2:]))
}

// L2TP: the bits of its first word (RFC 2661, section 3.1).
const (
	l2tpControl  = 0x8000
	l2tpLength   = 0x4000
	l2tpSequence = 0x0800
	l2tpOffset   = 0x0200
)

func readL2TP(w *walk, b []byte) (int, protocol) {
	const version2, version3 = 2, 3
	if len(b) < 6 {
		return -1, none
	}
	flags := binary.BigEndian.Uint16(b)
	switch {
	case flags&l2tpControl != 0:
		return 6, none
	case flags&0xf == version3:
		return 6, w.unread(kind{name: "L2TPv3"})
	case flags&0xf != version2:
		return 6, none
	}
	at := 6
	if flags&l2tpLength != 0 {
		if length := int(binary.BigEndian.Uint16(b[2:])); length != 0 {
			w.until(w.at + length)
		}
		at += 2
	}
	if flags&l2tpSequence != 0 {
		at += 4
	}
	if flags&l2tpOffset != 0 {
		if len(b) < at+2 {
			return -1, none
		}
		at += 2 + int(binary.BigEndian.Uint16(b[at:]))
	}
	return at, ppp
}

func resizeL2TP(f *Frame, i int) {
	at := f.places[i].at
	if b := f.Data[at:]; binary.BigEndian.Uint16(b)&l2tpLength != 0 {
		putLength(b[2:], f.wireEnd()-at)
	}
}

// readTeredo reads IPv6 behind the origin indication, if any (RFC 4380, section 5.1.1).
func readTeredo(w *walk, b []byte) (int, protocol) {
	const origin = 8
	switch {
	case len(b) == 0:
		return -1, none
	case b[0]>>4 == 6:
		return 0, ipv6
	case len(b) >= 2 && b[0] == 0 && b[1] == 0:
		return origin, ipv6
	case len(b) >= 2 && b[0] == 0 && b[1] == 1:
		return 0, w.unread(kind{name: "Teredo with authentication"})
	}
	return 0, none
}

// readLISP reads the header of a data packet (RFC 9300, section 5.1).
func readLISP(w *walk, b []byte) (int, protocol) {
	const size = 8
	if len(b) < size+1 {
		return -1, none
	}
	if !plausibleIP(b[size:], w.end-w.at-size) {
		return size, none
	}
	return size, ipAny
}
