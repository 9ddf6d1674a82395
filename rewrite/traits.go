package rewrite

import "encoding/binary"

// Traits are what a SYN says of its sender and its way beside the addresses.
type Traits struct {
	DSCP      uint8  // RFC 2474
	ECN       bool   // asks for ECN: ECE and CWR are set, RFC 3168, section 6.1.1
	HopLimit  uint8  // or time to live
	MSS       uint16 // bytes, 0 if it names none
	FlowLabel uint32 // of IPv6, RFC 6437; 0 for none
}

const (
	ipv4TTL      = 8
	ipv6HopLimit = 7
)

// Traits reads the traits of the segment.
func (s *Segment) Traits() Traits {
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
