package rewrite

import (
	"slices"
	"testing"
)

func TestTraitsOfSYN(t *testing.T) {
	mss := MSS(1400).Append(nil)
	v6 := tcp6(SYN|ECE|CWR, slices.Concat(nop, nop, nop, nop, mss), nil)
	v6[0], v6[1], v6[2], v6[3] = 0x6b, 0x85, 0x43, 0x21 // traffic class 0xb8, flow label 0x54321
	v6[ipv6HopLimit] = 9
	v4 := tcp4(SYN|ECE, nil, nil)
	v4[ipv4TOS], v4[ipv4TTL] = 0x2b, 1
	late := tcp6(SYN, slices.Concat([]byte{optionEnd}, nop, nop, nop, mss), nil)
	late[ipv6HopLimit] = 64
	for _, c := range []struct {
		name   string
		packet []byte
		want   Traits
	}{
		{"IPv6", v6, Traits{DSCP: 46, ECN: true, HopLimit: 9, MSS: 1400, FlowLabel: 0x54321}},
		{"IPv4 without MSS, with half of ECN", v4, Traits{DSCP: 10, HopLimit: 1}},
		{"an MSS behind the end of the options", late, Traits{HopLimit: 64}},
	} {
		var s Segment
		if err := s.Parse(c.packet); err != nil {
			t.Fatal(err)
		}
		if got := s.Traits(); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
		if n := testing.AllocsPerRun(100, func() { s.Traits() }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}
