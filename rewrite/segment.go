package rewrite

import "net/netip"

// Segment is a parsed TCP segment. Options and Payload are views into the packet
// given to [Segment.Parse], and are valid as long as its bytes are left alone.
// A Segment may be used for one packet after another; it owns no memory.
type Segment struct {
	// Src and Dst are the endpoints that TCP sees. IPv4 stays IPv4 (not mapped).
	// Dst is the final destination: see SourceRouted.
	Src, Dst netip.AddrPort
	// SourceRouted means that a source route with hops left (an IPv6 routing
	// header, an IPv4 source route option) sends the packet elsewhere before it
	// gets to Dst: the IP header holds another destination.
	SourceRouted bool

	Seq, Ack uint32
	Flags    Flags  // FIN|SYN|RST|PSH|ACK|URG|ECE|CWR as in the TCP header
	Window   uint16 // as in the header, not scaled
	Options  []byte // the option list with its padding, 0 to 40 bytes
	Payload  []byte

	// packet is the packet without what follows the IP payload; tcp is the offset
	// of the TCP header in it, in bytes.
	packet []byte
	tcp    int
}

// Parse reads a packet that starts at its IP header. Bytes behind the length in
// the IP header, such as Ethernet padding, are ignored. Neither the checksums
// nor the option list are verified: see [Segment.ChecksumOK], [Segment.MPTCP].
//
// The error is a [Reason]; the Segment is then the zero Segment. Parse does not
// allocate and does not write to packet.
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

// handshake are the bits that tell SYN and SYN+ACK from all else.
const handshake = SYN | ACK | FIN | RST

// IsSYN reports whether the segment is the first of a handshake: SYN without
// ACK, FIN and RST.
func (s *Segment) IsSYN() bool { return s.Flags&handshake == SYN }

// IsSYNACK reports whether the segment is the second of a handshake: SYN and ACK
// without FIN and RST.
func (s *Segment) IsSYNACK() bool { return s.Flags&handshake == SYN|ACK }
