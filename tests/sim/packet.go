package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/synbond/synbond/rewrite"
)

// packet is a TCP segment, or an ICMP error about one.
type packet struct {
	src, dst netip.AddrPort
	flags    rewrite.Flags
	// seq and ack are the initial sequence numbers of the sender and the receiver.
	seq, ack  uint32
	keepalive bool // an ACK that asks for an ACK
	finACK    bool // acknowledges a FIN
	// unreachable makes it an ICMP error about the SYN from dst to src.
	unreachable bool
	data        []byte // the segment from the IP header on, of SYN and SYN+ACK
	attempt     int    // the client's attempt that the segment goes back to, for the checks
}

const synACK = rewrite.SYN | rewrite.ACK

// is reports whether the packet has these of the flags that tell segments apart.
func (p *packet) is(flags rewrite.Flags) bool {
	return !p.unreachable && p.flags&(rewrite.SYN|rewrite.ACK|rewrite.FIN|rewrite.RST) == flags
}

// capable reports whether the packet bears MP_CAPABLE.
func (p *packet) capable() bool {
	var seg rewrite.Segment
	if p.data == nil || seg.Parse(p.data) != nil {
		return false
	}
	m, err := seg.MPTCP()
	return err == nil && m.Capable
}

func (p *packet) String() string {
	what := p.flags.String()
	switch {
	case p.unreachable:
		what = "unreachable"
	case p.keepalive:
		what = "keepalive"
	case p.finACK:
		what = "ACK of FIN"
	case p.capable():
		what += " MP_CAPABLE"
	}
	return fmt.Sprintf("%v → %v %s %d/%d (attempt %d)", p.src, p.dst, what, p.seq, p.ack, p.attempt)
}

// withData gives a SYN or SYN+ACK its bytes, with MP_CAPABLE or without.
func (p packet) withData(capable bool) packet {
	options := rewrite.MSS(1440).Append(nil)
	if capable {
		o := rewrite.MPCapable{Version: 1, Flags: 1}
		if p.flags&rewrite.ACK != 0 {
			o.Form, o.SenderKey = rewrite.CapableKey, uint64(p.seq)
		}
		options = o.Append(options)
	}
	const ipSize, tcpSize = 40, 20
	b := make([]byte, ipSize+tcpSize, ipSize+tcpSize+len(options))
	src, dst := p.src.Addr().As16(), p.dst.Addr().As16()
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(tcpSize+len(options)))
	b[6], b[7] = 6, 64 // TCP, hop limit
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	tcp := b[ipSize:]
	binary.BigEndian.PutUint16(tcp, p.src.Port())
	binary.BigEndian.PutUint16(tcp[2:], p.dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], p.seq)
	binary.BigEndian.PutUint32(tcp[8:], p.ack)
	tcp[12] = byte((tcpSize + len(options)) / 4 << 4)
	tcp[13] = byte(p.flags)
	binary.BigEndian.PutUint16(tcp[14:], 64000)
	b = append(b, options...)
	pseudo := make([]byte, 0, 40)
	pseudo = append(append(pseudo, src[:]...), dst[:]...)
	pseudo = append(pseudo, 0, 0, 0, byte(tcpSize+len(options)), 0, 0, 0, 6)
	binary.BigEndian.PutUint16(b[ipSize+16:], rewrite.Checksum(pseudo, b[ipSize:]))
	p.data = b
	return p
}
