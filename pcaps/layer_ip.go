package pcaps

import (
	"encoding/binary"

	"github.com/synbond/synbond/rewrite"
)

// IP in front of a tunnel, UDP, and the tunnels in IP.

// ipProtocols (IANA: protocol numbers) are those of tunnels that are read.
var ipProtocols = [256]protocol{
	4: ipv4, 94: ipv4, 41: ipv6, 17: udp, 47: gre, 97: etherIP, 137: mpls,
	143: ethernet, // RFC 8986, section 9.1
}

// otherIP are IP protocols of hidden packets, by name.
var otherIP = [256]string{50: "ESP", 55: "minimal encapsulation in IP", 108: "compressed IP", 115: "L2TPv3"}

// readIP returns a function that reads an IP packet of a version, or of any for 0. The packet
// becomes the packet of the frame.
func readIP(want byte) func(*walk, []byte) (int, protocol) {
	return func(w *walk, b []byte) (int, protocol) {
		if len(b) == 0 {
			return -1, none
		}
		version := b[0] >> 4
		if version != 4 && version != 6 || want != 0 && version != want {
			return -1, none
		}
		f, length := w.f, w.end-w.at
		if claimed := ipLength(b); claimed != 0 {
			length = min(length, claimed)
		}
		w.end = w.at + length
		f.ip, f.end, f.depth = w.at, min(w.end, len(f.Data)), w.depth
		f.missing = w.end - f.end
		return w.tunnel(f.Data[f.ip:f.end])
	}
}

// tunnel returns the length of an IP packet's header, and the protocol behind it if that is
// a tunnel.
func (w *walk) tunnel(packet []byte) (int, protocol) {
	value, at, ok := transport(packet)
	if value, w.fragment = fragmentOf(packet, value); w.fragment {
		ok = true
	}
	if !ok || at > len(packet) {
		return 0, none
	}
	if name := otherIP[value]; name != "" {
		w.unread(kind{name: name})
	}
	return at, ipProtocols[value]
}

// fragmentOf reports whether a packet is a fragment, and returns the protocol of its content.
func fragmentOf(packet []byte, value uint8) (uint8, bool) {
	const fragmentHeader = 44
	switch {
	case len(packet) >= ipv4Size && packet[0]>>4 == 4:
		return value, binary.BigEndian.Uint16(packet[6:])&0x3fff != 0
	case len(packet) >= ipv6Size+8 && packet[0]>>4 == 6 && packet[6] == fragmentHeader:
		return packet[ipv6Size], binary.BigEndian.Uint16(packet[ipv6Size+2:])&0xfff9 != 0
	}
	return value, false
}

func resizeIP(f *Frame, i int) {
	at := f.places[i].at
	b := f.Data[at:]
	if b[0]>>4 == 6 {
		putLength(b[4:], f.wireEnd()-at-ipv6Size)
		return
	}
	putLength(b[2:], f.wireEnd()-at)
	header := b[:int(b[0]&0xf)*4]
	clear(header[10:12])
	binary.BigEndian.PutUint16(header[10:], rewrite.Checksum(header))
}

// turnIP exchanges the addresses. No checksum depends on their order.
func turnIP(header []byte) {
	src, dst := header[12:16], header[16:20]
	if header[0]>>4 == 6 {
		src, dst = header[8:24], header[24:40]
	}
	for i := range src {
		src[i], dst[i] = dst[i], src[i]
	}
}

// udpPort is a port of a tunnel over UDP.
type udpPort struct {
	protocol protocol
	replies  bool // packets from the port are of the tunnel, too
}

// udpPorts (IANA: service names and port numbers) are those of tunnels that are read.
var udpPorts = map[uint16]udpPort{
	4789: {vxlan, false},
	8472: {vxlan, false}, // the default of Linux
	4790: {vxlan, false}, // VXLAN-GPE
	2152: {gtpU, false},
	6081: {geneve, false},
	6635: {mpls, false},
	4754: {gre, false},
	1701: {l2tp, true},
	3544: {teredo, true},
	4341: {lisp, false},
}

const udpSize = 8

// readUDP reads the header of UDP in front of a tunnel.
func readUDP(w *walk, b []byte) (int, protocol) {
	if len(b) < udpSize {
		return 0, none
	}
	if length := int(binary.BigEndian.Uint16(b[4:])); length >= udpSize {
		w.until(w.at + length)
	}
	to := udpPorts[binary.BigEndian.Uint16(b[2:])]
	if to.protocol == none {
		if from := udpPorts[binary.BigEndian.Uint16(b)]; from.replies {
			to = from
		}
	}
	return udpSize, to.protocol
}

// resizeUDP also computes the checksum, unless it is unused or cannot be known.
func resizeUDP(f *Frame, i int) {
	at := f.places[i].at
	b := f.Data[at:]
	length := f.wireEnd() - at
	putLength(b[4:], length)
	if binary.BigEndian.Uint16(b[6:]) == 0 || f.missing > 0 || i == 0 {
		return
	}
	clear(b[6:8])
	src, dst := addresses(f.Data[f.places[i-1].at:])
	sum := rewrite.Checksum(pseudoHeader(src, dst, protocolUDP, length), b[:length])
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[6:], sum)
}

// GRE: the bits of its first word (RFC 2784, 2890, 2637, 1701).
const (
	greChecksum  = 0x8000
	greRouting   = 0x4000
	greKey       = 0x2000
	greSequence  = 0x1000
	greAck       = 0x0080 // version 1
	greVersion   = 0x0007
	greSize      = 4
	grePPP       = 0x880b
	greWCCP      = 0x883e
	greKeepalive = 0
)

func readGRE(w *walk, b []byte) (int, protocol) {
	if len(b) < greSize {
		return -1, none
	}
	flags, value := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	size := greSize
	for _, field := range [...]uint16{greChecksum, greKey, greSequence} {
		if flags&field != 0 {
			size += 4
		}
	}
	switch version := flags & greVersion; {
	case flags&greRouting != 0:
		return size, w.unread(kind{name: "GRE with routing"})
	case version == 1 && value == grePPP:
		if flags&greAck != 0 {
			size += 4
		}
		return size, pptp(flags)
	case version != 0:
		return size, w.unread(kind{name: "GRE version", number: version})
	case value == greWCCP:
		return size, wccp
	case value == greKeepalive:
		return size, none
	}
	return size, w.etherType(value)
}

// pptp returns the protocol of version 1, whose acknowledgments have no sequence number and
// no payload.
func pptp(flags uint16) protocol {
	if flags&greSequence == 0 {
		return none
	}
	return ppp
}

// resizeGRE writes the length of PPTP, and the checksum unless it cannot be known.
func resizeGRE(f *Frame, i int) {
	at := f.places[i].at
	b := f.Data[at:]
	flags := binary.BigEndian.Uint16(b)
	if flags&greVersion == 1 {
		payload := f.ip
		if i+1 < f.depth {
			payload = f.places[i+1].at
		}
		putLength(b[4:], f.wireEnd()-payload)
		return
	}
	if flags&greChecksum == 0 || f.missing > 0 {
		return
	}
	clear(b[4:6])
	binary.BigEndian.PutUint16(b[4:], rewrite.Checksum(b[:f.wireEnd()-at]))
}

// readEtherIP reads version 3 of RFC 3378.
func readEtherIP(_ *walk, b []byte) (int, protocol) {
	const size = 2
	if len(b) < size || b[0]>>4 != 3 {
		return -1, none
	}
	return size, ethernet
}

// readWCCP reads the redirect header of version 2, which version 1 lacks.
func readWCCP(w *walk, b []byte) (int, protocol) {
	const size = 4
	if len(b) > 0 && plausibleIP(b, w.end-w.at) {
		return 0, ipAny
	}
	return size, ipAny
}
