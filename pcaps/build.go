package pcaps

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
)

// Packets that the kernel of a box would send by itself, built from captured packets.

const (
	ipv4Size, ipv6Size, tcpSize = 20, 40, 20

	protocolICMP, protocolTCP, protocolICMPv6 = 1, 6, 58

	// usualHopLimit is the hop limit of packets from the box itself: the default of
	// net.ipv4.ip_default_ttl and net.ipv6.conf.*.hop_limit.
	usualHopLimit = 64
)

// ipHeader holds the fields of an IP header to build.
type ipHeader struct {
	like     []byte // source of DSCP, flow label and identification: the start of a packet
	src, dst netip.Addr
	protocol uint8
	hopLimit uint8
}

// packet returns an IP packet with the header, without options or extension headers.
func (h ipHeader) packet(payload []byte) []byte {
	if h.src.Is4() {
		b := make([]byte, ipv4Size, ipv4Size+len(payload))
		b[0], b[1] = 0x45, h.like[1]&^3 // without ECN
		binary.BigEndian.PutUint16(b[2:], uint16(ipv4Size+len(payload)))
		copy(b[4:6], h.like[4:6])
		if h.protocol == protocolTCP {
			b[6] = 0x40 // Don't Fragment: path MTU discovery
		}
		b[8], b[9] = h.hopLimit, h.protocol
		copy(b[12:], h.src.AsSlice())
		copy(b[16:], h.dst.AsSlice())
		binary.BigEndian.PutUint16(b[10:], rewrite.Checksum(b))
		return append(b, payload...)
	}
	b := make([]byte, ipv6Size, ipv6Size+len(payload))
	copy(b, h.like[:4])
	b[1] &^= 0x30 // without ECN
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6], b[7] = h.protocol, h.hopLimit
	copy(b[8:], h.src.AsSlice())
	copy(b[24:], h.dst.AsSlice())
	return append(b, payload...)
}

// pseudoHeader returns the pseudo-header for the checksums of TCP and ICMPv6 (RFC 9293,
// section 3.1; RFC 8200, section 8.1).
func pseudoHeader(src, dst netip.Addr, protocol uint8, length int) []byte {
	b := make([]byte, 0, ipv6Size)
	b = append(append(b, src.AsSlice()...), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return binary.BigEndian.AppendUint32(b, uint32(protocol))
}

// tcpHeader holds the fields of a TCP segment to build, without payload.
type tcpHeader struct {
	src, dst netip.AddrPort
	seq, ack uint32
	flags    rewrite.Flags
	window   uint16
	options  []byte // of whole words
}

// packet returns the segment in an IP packet.
func (h tcpHeader) packet(like []byte, hopLimit uint8) []byte {
	b := make([]byte, tcpSize, tcpSize+len(h.options))
	binary.BigEndian.PutUint16(b[0:], h.src.Port())
	binary.BigEndian.PutUint16(b[2:], h.dst.Port())
	binary.BigEndian.PutUint32(b[4:], h.seq)
	binary.BigEndian.PutUint32(b[8:], h.ack)
	b[12], b[13] = byte(cap(b)/4)<<4, byte(h.flags)
	binary.BigEndian.PutUint16(b[14:], h.window)
	b = append(b, h.options...)
	pseudo := pseudoHeader(h.src.Addr(), h.dst.Addr(), protocolTCP, len(b))
	binary.BigEndian.PutUint16(b[16:], rewrite.Checksum(pseudo, b))
	return ipHeader{like, h.src.Addr(), h.dst.Addr(), protocolTCP, hopLimit}.packet(b)
}

// kernelOptions returns an option list like those of Linux in SYN and SYN+ACK (kernel:
// tcp_options_write), with the values of another list and, unless capable is nil, an
// MP_CAPABLE. It omits options that the kernel does not write.
func kernelOptions(list []byte, capable *rewrite.MPCapable) []byte {
	var has [rewrite.OptionTimestamps + 1]bool
	var o rewrite.Option // each type of option has its own field
	for walk := rewrite.WalkOptions(list); walk.Next(&o); {
		if int(o.Type) < len(has) {
			has[o.Type] = true
		}
	}
	nop := byte(1)
	var b []byte
	if has[rewrite.OptionMSS] {
		b = o.MSS.Append(b)
	}
	if has[rewrite.OptionSACKPermitted] {
		if !has[rewrite.OptionTimestamps] {
			b = append(b, nop, nop)
		}
		b = rewrite.SACKPermitted{}.Append(b)
	}
	if has[rewrite.OptionTimestamps] {
		if !has[rewrite.OptionSACKPermitted] {
			b = append(b, nop, nop)
		}
		b = o.Timestamps.Append(b)
	}
	if has[rewrite.OptionWindowScale] {
		b = o.WindowScale.Append(append(b, nop))
	}
	if capable != nil {
		b = capable.Append(b)
	}
	return b
}

// onwardSYN returns the SYN of the box's socket for a held SYN: without data, which the
// client will send again, and with MP_CAPABLE towards the multipath side. The kernel's
// own choices, such as the sequence number, are replaced by the values of the client.
func onwardSYN(seg *rewrite.Segment, packet []byte, mptcp bool) []byte {
	var capable *rewrite.MPCapable
	if mptcp {
		capable = &rewrite.MPCapable{Version: 1, Flags: rewrite.CapableHMACSHA}
	}
	return tcpHeader{
		src: seg.Src, dst: seg.Dst, seq: seg.Seq, flags: rewrite.SYN, window: seg.Window,
		options: kernelOptions(seg.Options, capable),
	}.packet(packet, seg.Traits().HopLimit-1)
}

// answer returns the SYN+ACK of the box's listener to the client, given the SYN+ACK of the
// server. The kernel's own choices are replaced by the values of the server.
func answer(seg *rewrite.Segment, packet []byte, isn uint32, capable *rewrite.MPCapable) []byte {
	return tcpHeader{
		src: seg.Src, dst: seg.Dst, seq: seg.Seq, ack: isn + 1, flags: seg.Flags &^ rewrite.PSH, window: seg.Window,
		options: kernelOptions(seg.Options, capable),
	}.packet(packet, max(seg.Traits().HopLimit, 1)-1)
}

// withoutCapable returns a packet, with its TCP header at an offset, with Nop instead of
// MP_CAPABLE. It updates the checksum (RFC 1624, section 3): a correct checksum stays
// correct and a wrong one wrong, also for a truncated payload.
func withoutCapable(packet []byte, seg *rewrite.Segment, header int) []byte {
	out := bytes.Clone(packet)
	list := out[header+tcpSize:][:len(seg.Options)]
	var o rewrite.Option
	at := 0
	for walk := rewrite.WalkOptions(seg.Options); walk.Next(&o); at += len(o.Raw) {
		if o.Type == rewrite.OptionMPCapable {
			for i := range o.Raw {
				list[at+i] = 1
			}
		}
	}
	field := out[header+16:]
	words := binary.BigEndian.AppendUint16(nil, ^binary.BigEndian.Uint16(field))
	words = binary.BigEndian.AppendUint16(words, rewrite.Checksum(seg.Options))
	words = binary.BigEndian.AppendUint16(words, ^rewrite.Checksum(list))
	binary.BigEndian.PutUint16(field, rewrite.Checksum(words))
	return out
}

// reset returns the RST with which nftables refuses a SYN (kernel:
// nf_reject_ip_tcphdr_put).
func reset(client, server netip.AddrPort, ack uint32, syn []byte) []byte {
	return tcpHeader{src: server, dst: client, ack: ack, flags: rewrite.RST | rewrite.ACK}.packet(syn, usualHopLimit)
}

// unreachable holds type and code of the ICMP error and of the ICMPv6 error for a verdict
// (kernel: nft_reject_icmp_code, nft_reject_icmpv6_code).
var unreachable = map[core.Verdict][2][2]uint8{
	core.NoRoute:         {{3, 0}, {1, 0}},
	core.HostUnreachable: {{3, 1}, {1, 3}},
	core.Prohibited:      {{3, 13}, {1, 1}},
}

// icmpError returns the ICMP error for a verdict, which quotes a packet of the client.
func icmpError(v core.Verdict, from, client netip.Addr, quote []byte) []byte {
	// Length of the quote: RFC 1812, section 4.3.2.3, and RFC 4443, section 2.4 (c).
	version, protocol, mtu := 0, uint8(protocolICMP), 576-ipv4Size
	like := []byte{0x45, 0xc0, 0, 0, 0, 0} // internetwork control (RFC 1812, section 4.3.2.5)
	var pseudo []byte
	if client.Is6() {
		version, protocol, mtu = 1, protocolICMPv6, 1280-ipv6Size
		like = []byte{0x60, 0, 0, 0}
	}
	kind := unreachable[v][version]
	b := append([]byte{kind[0], kind[1], 0, 0, 0, 0, 0, 0}, quote...)
	b = b[:min(len(b), mtu)]
	if client.Is6() {
		pseudo = pseudoHeader(from, client, protocolICMPv6, len(b))
	}
	binary.BigEndian.PutUint16(b[2:], rewrite.Checksum(pseudo, b))
	return ipHeader{like, from, client, protocol, usualHopLimit}.packet(b)
}
