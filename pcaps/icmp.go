package pcaps

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"syscall"
)

// transport returns the protocol and the offset of the upper-layer header in an IP
// packet, which may be truncated or malformed. Like nftables (kernel: ipv6_find_hdr), it
// finds none in a fragment other than the first, and none behind an unknown header.
func transport(packet []byte) (protocol uint8, at int, ok bool) {
	switch {
	case len(packet) >= ipv4Size && packet[0]>>4 == 4:
		const offset = 0x1fff
		at = int(packet[0]&0x0f) * 4
		return packet[9], at, at >= ipv4Size && binary.BigEndian.Uint16(packet[6:])&offset == 0
	case len(packet) >= ipv6Size && packet[0]>>4 == 6:
		return transport6(packet)
	}
	return 0, 0, false
}

func transport6(packet []byte) (protocol uint8, at int, ok bool) {
	const hopByHop, routing, fragment, authentication, destination = 0, 43, 44, 51, 60
	next, at := packet[6], ipv6Size
	for {
		size := 0
		switch next {
		case hopByHop, routing, fragment, authentication, destination:
			if len(packet) < at+8 {
				return 0, 0, false
			}
			size = 8 + int(packet[at+1])*8
		default:
			return next, at, true
		}
		switch next {
		case fragment:
			size = 8
			if binary.BigEndian.Uint16(packet[at+2:])&0xfff8 != 0 {
				return 0, 0, false
			}
		case authentication:
			size = 8 + int(packet[at+1])*4
		}
		next = packet[at]
		at += size
	}
}

// icmpCause is the meaning of an ICMP error, and the errno with which it ends a connect
// (kernel: icmp_err_convert, icmpv6_err_convert). An errno of 0 does not end it.
type icmpCause struct {
	name  string
	errno syscall.Errno
}

var unreachable4 = [...]icmpCause{
	{"network unreachable", syscall.ENETUNREACH},
	{"host unreachable", syscall.EHOSTUNREACH},
	{"protocol unreachable", syscall.ENOPROTOOPT},
	{"port unreachable", syscall.ECONNREFUSED},
	{"fragmentation needed", 0}, // concerns the path MTU
	{"source route failed", syscall.EOPNOTSUPP},
	{"network unknown", syscall.ENETUNREACH},
	{"host unknown", syscall.EHOSTDOWN},
	{"host isolated", syscall.EPROTO}, // ENONET in Linux, which other systems lack: both are unexpected errors
	{"network prohibited", syscall.ENETUNREACH},
	{"host prohibited", syscall.EHOSTUNREACH},
	{"network unreachable for this service", syscall.ENETUNREACH},
	{"host unreachable for this service", syscall.EHOSTUNREACH},
	{"administratively prohibited", syscall.EHOSTUNREACH},
	{"precedence violation", syscall.EHOSTUNREACH},
	{"precedence cutoff", syscall.EHOSTUNREACH},
}

var unreachable6 = [...]icmpCause{
	{"no route", syscall.ENETUNREACH},
	{"administratively prohibited", syscall.EACCES},
	{"beyond scope", syscall.EHOSTUNREACH},
	{"address unreachable", syscall.EHOSTUNREACH},
	{"port unreachable", syscall.ECONNREFUSED},
	{"policy failed", syscall.EACCES},
	{"route rejected", syscall.EACCES},
}

// icmpTypes are the errors other than "destination unreachable".
var icmpTypes = map[uint8]map[uint8]icmpCause{
	protocolICMP: {
		11: {"time exceeded", syscall.EHOSTUNREACH},
		12: {"parameter problem", syscall.EPROTO},
	},
	protocolICMPv6: {
		2: {"packet too big", 0},
		3: {"time exceeded", syscall.EHOSTUNREACH},
		4: {"parameter problem", syscall.EPROTO},
	},
}

func causeOf(protocol, kind, code uint8) (icmpCause, bool) {
	table := unreachable4[:]
	if protocol == protocolICMPv6 {
		table = unreachable6[:]
	}
	switch {
	case protocol == protocolICMP && kind != 3, protocol == protocolICMPv6 && kind != 1:
		c, ok := icmpTypes[protocol][kind]
		return c, ok
	case int(code) < len(table):
		return table[code], true
	case protocol == protocolICMPv6:
		return icmpCause{fmt.Sprintf("unreachable, code %d", code), syscall.EPROTO}, true
	}
	return icmpCause{}, false
}

// icmpReport is an ICMP error about a TCP segment.
type icmpReport struct {
	kind     [2]uint8 // type and code
	text     string
	from     netip.Addr // sender of the error
	errno    syscall.Errno
	src, dst netip.AddrPort // of the quoted segment
	seq      uint32         // of the quoted segment
}

// parseICMP reads an ICMP or ICMPv6 error that quotes a TCP segment, at least up to its
// sequence number (RFC 792; RFC 4443, section 3).
func parseICMP(packet []byte) (icmpReport, bool) {
	protocol, at, ok := transport(packet)
	if !ok || protocol != protocolICMP && protocol != protocolICMPv6 || len(packet) < at+8 {
		return icmpReport{}, false
	}
	cause, known := causeOf(protocol, packet[at], packet[at+1])
	quote := packet[at+8:]
	quoted, tcp, ok := transport(quote)
	if !known || !ok || quoted != protocolTCP || len(quote) < tcp+8 {
		return icmpReport{}, false
	}
	version := map[uint8]byte{protocolICMP: 4, protocolICMPv6: 6}[protocol]
	if packet[0]>>4 != version || quote[0]>>4 != version {
		return icmpReport{}, false
	}
	r := icmpReport{kind: [2]uint8(packet[at:]), errno: cause.errno, seq: binary.BigEndian.Uint32(quote[tcp+4:])}
	r.src, r.dst = endpoints(quote, tcp)
	r.from, _ = addresses(packet)
	r.text = "ICMP " + cause.name
	if protocol == protocolICMPv6 {
		r.text = "ICMPv6 " + cause.name
	}
	return r, true
}

// endpoints returns source and destination of a packet, with its ports at an offset.
func endpoints(packet []byte, at int) (src, dst netip.AddrPort) {
	from, to := addresses(packet)
	return netip.AddrPortFrom(from, binary.BigEndian.Uint16(packet[at:])),
		netip.AddrPortFrom(to, binary.BigEndian.Uint16(packet[at+2:]))
}

// addresses returns source and destination of a packet, which must have a whole IP header.
func addresses(packet []byte) (src, dst netip.Addr) {
	if packet[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(packet[12:])), netip.AddrFrom4([4]byte(packet[16:]))
	}
	return netip.AddrFrom16([16]byte(packet[8:])), netip.AddrFrom16([16]byte(packet[24:]))
}
