package rewrite

import "net/netip"

// Segment is a parsed TCP segment (RFC 9293, section 3.1). Options and Payload are
// views into the packet given to [Segment.Parse]: the caller must not change the
// packet as long as it uses the Segment. A Segment owns no memory, and may be reused
// for the next packet.
type Segment struct {
	// Src and Dst are the endpoints in TCP's pseudo-header. IPv4 addresses are IPv4,
	// not mapped to IPv6. Dst is the final destination: see SourceRouted.
	Src, Dst netip.AddrPort
	// SourceRouted is set if the packet has a source route with hops left (an IPv6
	// routing header, an IPv4 source route option). The IP header then holds another
	// destination than Dst.
	SourceRouted bool

	Seq, Ack uint32 // sequence number, acknowledgment number
	Flags    Flags  // FIN|SYN|RST|PSH|ACK|URG|ECE|CWR as in the TCP header
	Window   uint16 // as in the header, not scaled
	Options  []byte // the option list with its padding, 0 to 40 bytes
	Payload  []byte // the bytes behind the TCP header, up to the length in the IP header

	// packet is the packet up to the end of the IP payload; tcp is the offset of the
	// TCP header in packet, in bytes.
	packet []byte
	tcp    int
}

// Parse reads a packet from its IP header on. It ignores bytes behind the length in
// the IP header, such as Ethernet padding. It verifies neither the checksums nor the
// option list: see [Segment.ChecksumOK], [Segment.MPTCP].
//
// The error is a [Reason], and s is then the zero Segment. Parse does not allocate
// and does not write to packet.
func (s *Segment) Parse(packet []byte) error {
	*s = Segment{}
	ip, err := parseIP(packet)
	if err != nil {
		return err
	}
	tcp, payload, err := parseTCP(packet[ip.tcp:ip.end:ip.end])
	if err != nil {
		return err
	}
	s.Src = netip.AddrPortFrom(ip.src, tcp.sourcePort())
	s.Dst = netip.AddrPortFrom(ip.dst, tcp.destinationPort())
	s.SourceRouted = ip.routed
	s.Seq, s.Ack = tcp.sequence(), tcp.acknowledgment()
	s.Flags, s.Window = tcp.flags(), tcp.window()
	s.Options, s.Payload = tcp.options(), payload
	s.packet, s.tcp = packet[:ip.end:ip.end], ip.tcp
	return nil
}

// handshake are the control bits that identify SYN and SYN+ACK.
const handshake = SYN | ACK | FIN | RST

// IsSYN reports whether the segment is the first of a handshake: SYN without ACK, FIN
// and RST.
func (s *Segment) IsSYN() bool { return s.Flags&handshake == SYN }

// IsSYNACK reports whether the segment is the second of a handshake: SYN and ACK
// without FIN and RST.
func (s *Segment) IsSYNACK() bool { return s.Flags&handshake == SYN|ACK }
