package pcaps

import "encoding/binary"

// PPP and the headers around it, MPLS and NSH.

// pppProtocols (IANA: PPP numbers) are those of packets that are read.
var pppProtocols = map[uint16]protocol{0x0021: ipv4, 0x0057: ipv6, 0x0281: mpls, 0x0283: mpls}

// otherPPP are PPP protocols of hidden packets, by name.
var otherPPP = map[uint16]string{
	0x0003: "PPP with robust header compression", 0x002d: "PPP with compressed TCP headers", 0x002f: "PPP with compressed TCP headers",
	0x003d: "PPP multilink", 0x0053: "encrypted PPP", 0x00fd: "compressed PPP", 0x0031: "PPP bridging",
}

// readPPPoE reads the header of a session (RFC 2516, section 4).
func readPPPoE(w *walk, b []byte) (int, protocol) {
	const size, versionAndType, session = 6, 0x11, 0
	if len(b) < size {
		return -1, none
	}
	if b[0] != versionAndType || b[1] != session {
		return size, none
	}
	if length := int(binary.BigEndian.Uint16(b[4:])); length != 0 {
		w.until(w.at + size + length)
	}
	return size, ppp
}

func resizePPPoE(f *Frame, i int) {
	at := f.places[i].at
	putLength(f.Data[at+4:], f.wireEnd()-at-6)
}

// readPPP reads address, control and protocol, with or without compression of these fields
// (RFC 1661, sections 6.5 and 6.6). Of a serial line it also reads Cisco HDLC.
func readPPP(w *walk, b []byte) (int, protocol) {
	at := 0
	if len(b) >= 2 && b[0] == 0xff && b[1] == 0x03 {
		at = 2
	}
	if len(b) >= 2 && (b[0] == 0x0f || b[0] == 0x8f) && b[1] == 0 {
		return readCiscoHDLC(w, b)
	}
	if len(b) < at+1 {
		return -1, none
	}
	if b[at]&1 == 1 {
		return at + 1, w.pppProtocol(uint16(b[at]))
	}
	if len(b) < at+2 {
		return -1, none
	}
	return at + 2, w.pppProtocol(binary.BigEndian.Uint16(b[at:]))
}

func (w *walk) pppProtocol(value uint16) protocol {
	const control = 0x4000 // from here on: control protocols, without packets
	p, known := pppProtocols[value]
	switch {
	case known:
		return p
	case value >= control:
		return none
	}
	if name := otherPPP[value]; name != "" {
		return w.unread(kind{name: name})
	}
	return w.unread(kind{name: "PPP protocol", number: value})
}

// readPPPDirection reads a byte for the direction in front of PPP.
func readPPPDirection(_ *walk, _ []byte) (int, protocol) { return 1, ppp }

// readPPPDaemon reads the direction in place of the address, and the control field.
func readPPPDaemon(_ *walk, _ []byte) (int, protocol) { return 2, ppp }

func readCiscoHDLC(w *walk, b []byte) (int, protocol) {
	const size = 4
	if len(b) < size {
		return -1, none
	}
	return size, w.etherType(binary.BigEndian.Uint16(b[2:]))
}

// readMPLS reads a stack of labels (RFC 3032, section 2.1). The protocol behind it is not
// in the stack: IP by its version, or an Ethernet pseudowire with a control word (RFC 4385,
// section 3) or without.
func readMPLS(w *walk, b []byte) (int, protocol) {
	const label, bottom = 4, 1
	for at := label; at <= len(b); at += label {
		if b[at-2]&bottom == 0 {
			continue
		}
		rest := b[at:]
		switch {
		case len(rest) == 0:
			return at, ipAny
		case plausibleIP(rest, w.end-w.at-at):
			return at, ipAny
		case rest[0]>>4 == 0 && len(rest) >= label && (knownFrame(rest[label:]) || !knownFrame(rest)):
			return at + label, ethernet
		case rest[0]>>4 == 1:
			return at, none // an associated channel
		}
		return at, ethernet
	}
	return -1, none
}

// knownFrame reports whether b begins with an Ethernet header with an EtherType that is read.
func knownFrame(b []byte) bool {
	const size = 14
	return len(b) >= size && etherTypes[binary.BigEndian.Uint16(b[size-2:])] != none
}

// plausibleIP reports whether b begins like an IP packet with a length of at most limit.
func plausibleIP(b []byte, limit int) bool {
	switch b[0] >> 4 {
	case 4:
		length := ipLength(b)
		return b[0]&0xf >= 5 && (length == 0 || length >= ipv4Size && length <= limit) && (len(b) < 10 || b[9] != 0)
	case 6:
		return ipLength(b) <= limit
	}
	return false
}

// readNSH reads a network service header (RFC 8300, section 2.2).
func readNSH(w *walk, b []byte) (int, protocol) {
	const smallest = 8
	if len(b) < smallest {
		return -1, none
	}
	size := int(b[1]&0x3f) * 4
	if size < smallest {
		return smallest, none
	}
	return size, w.genericNext(b[3])
}

// genericNext returns the protocol for the next header of NSH and of VXLAN-GPE.
func (w *walk) genericNext(value byte) protocol {
	next := [...]protocol{1: ipv4, 2: ipv6, 3: ethernet, 4: nsh, 5: mpls}
	if int(value) < len(next) && next[value] != none {
		return next[value]
	}
	return w.unread(kind{name: "next protocol of NSH or VXLAN-GPE", number: uint16(value)})
}
