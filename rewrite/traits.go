package rewrite

import "encoding/binary"

// Traits are properties of a SYN that an onward SYN should share.
type Traits struct {
	DSCP      uint8  // differentiated services code point, 0 to 63 (RFC 2474)
	ECN       bool   // the SYN requests ECN: ECE and CWR are set (RFC 3168, section 6.1.1)
	HopLimit  uint8  // IPv6 hop limit or IPv4 time to live
	MSS       uint16 // in bytes, 0 without the option
	FlowLabel uint32 // IPv6 flow label (RFC 6437), 20 bits; 0 for IPv4
}

const (
	ipv4TTL      = 8
	ipv6HopLimit = 7
)

// Traits returns the traits of the segment; those of the zero Segment are zero.
func (s *Segment) Traits() Traits {
	if len(s.packet) == 0 {
		return Traits{}
	}
	t := Traits{DSCP: s.DSCP(), ECN: s.Flags&(ECE|CWR) == ECE|CWR}
	if s.packet[0]>>4 == 4 {
		t.HopLimit = s.packet[ipv4TTL]
	} else {
		t.HopLimit = s.packet[ipv6HopLimit]
		t.FlowLabel = binary.BigEndian.Uint32(s.packet) & 0xfffff
	}
	for list := s.Options; ; {
		o, rest, err := nextOption(list)
		if err != nil || o == nil {
			return t
		}
		if mss, err := ParseMSS(o); err == nil {
			t.MSS = uint16(mss)
		}
		list = rest
	}
}
