package rewrite

import (
	"slices"
	"testing"
)

func TestMPTCPReadsEachStepOfHandshake(t *testing.T) {
	for _, tt := range []struct {
		name    string
		flags   Flags
		options []byte
		want    MPTCP
	}{
		{"a plain SYN has no MPTCP option", SYN, usual, MPTCP{}},
		{"a SYN without options", SYN, nil, MPTCP{}},
		{"MP_CAPABLE v1 in a SYN has no key", SYN, cat(usual, capableV1SYN),
			MPTCP{Capable: true, Version: 1, CapableFlags: 0x81}},
		{"MP_CAPABLE v1 in a SYN+ACK has the sender's key", SYN | ACK, cat(usual, capableV1SYNACK),
			MPTCP{Capable: true, Version: 1, CapableFlags: 0x81, SenderKey: keyB}},
		{"MP_CAPABLE v1 in the third ACK has both keys", ACK, cat(timestamp, capableV1ACK),
			MPTCP{Capable: true, Version: 1, CapableFlags: 0x81, SenderKey: keyA, ReceiverKey: keyB}},
		{"MP_CAPABLE v1 with data has both keys", ACK | PSH, capableV1Data,
			MPTCP{Capable: true, Version: 1, CapableFlags: 0x81, SenderKey: keyA, ReceiverKey: keyB}},
		{"MP_CAPABLE v1 with data and a checksum has both keys", ACK | PSH | FIN, capableV1DataSum,
			MPTCP{Capable: true, Version: 1, CapableFlags: 0x81, SenderKey: keyA, ReceiverKey: keyB}},
		{"MP_CAPABLE v0 in a SYN has the sender's key", SYN | ECE | CWR, cat(usual, capableV0SYN),
			MPTCP{Capable: true, CapableFlags: 0x81, SenderKey: keyA}},
		{"MP_CAPABLE v0 in a SYN+ACK has the sender's key", SYN | ACK | ECE, cat(usual, capableV0SYNACK),
			MPTCP{Capable: true, CapableFlags: 0x81, SenderKey: keyB}},
		{"MP_CAPABLE v0 in the third ACK has both keys", ACK, cat(timestamp, capableV0ACK),
			MPTCP{Capable: true, CapableFlags: 0x81, SenderKey: keyA, ReceiverKey: keyB}},
		{"MP_CAPABLE of a later version: only version and flags", SYN, mptcp(subtypeCapable, 2, []byte{0x81}, be64(keyA)),
			MPTCP{Capable: true, Version: 2, CapableFlags: 0x81}},
		{"MP_CAPABLE of the highest version: only version and flags", SYN | ACK, mptcp(subtypeCapable, 15, []byte{1}, be64(keyA)),
			MPTCP{Capable: true, Version: 15, CapableFlags: 1}},
		{"MP_JOIN in a SYN has token and nonce", SYN, cat(usual, joinSYN),
			MPTCP{Join: true, Backup: true, AddressID: 9, Token: token, Nonce: nonce}},
		{"MP_JOIN in a SYN+ACK has HMAC and nonce", SYN | ACK, cat(usual, joinSYNACK),
			MPTCP{Join: true, AddressID: 9, HMAC: hmac, Nonce: nonce}},
		{"MP_JOIN in the third ACK has no fields", ACK, cat(timestamp, joinACK), MPTCP{Join: true}},
		{"MP_CAPABLE beside DSS", ACK, cat(mptcp(subtypeDSS, 0, []byte{1}, be32(0)), capableV1ACK),
			MPTCP{Capable: true, Version: 1, CapableFlags: 0x81, SenderKey: keyA, ReceiverKey: keyB}},
		{"MP_CAPABLE behind End is padding", SYN, cat(mss, []byte{0}, capableV1SYN), MPTCP{}},
		{"another kind with the same bytes", SYN, edit(capableV1SYN, 0, 253), MPTCP{}},
	} {
		for _, packet := range [][]byte{tcp4(tt.flags, tt.options, nil), tcp6(tt.flags, tt.options, nil, hopByHop)} {
			t.Run(tt.name, func(t *testing.T) {
				got, err := parsed(t, packet).MPTCP()
				if err != nil || got != tt.want {
					t.Errorf("got %+v, %v; want %+v", got, err, tt.want)
				}
			})
		}
	}
}

func parsed(t *testing.T, packet []byte) *Segment {
	t.Helper()
	var s Segment
	if err := s.Parse(packet); err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return &s
}

func TestMPTCPRefusesBadOptions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		flags   Flags
		options []byte
	}{
		{"an option overruns the list", SYN, []byte{2, 5, 0, 0}},
		{"an option overruns the list behind MP_CAPABLE", SYN, cat(capableV1SYN, []byte{1, 1, 1, 2})},
		{"MPTCP without a subtype", SYN, []byte{optionMPTCP, 2, 1, 1}},
		{"MP_CAPABLE twice", SYN, cat(capableV1SYN, capableV1SYN)},
		{"MP_JOIN twice", SYN, cat(joinSYN, joinSYN)},
		{"MP_CAPABLE and MP_JOIN", SYN, cat(capableV1SYN, joinSYN)},
		{"MP_JOIN and MP_CAPABLE", SYN, cat(joinSYN, capableV1SYN)},
		{"MP_CAPABLE v1 in a SYN with the key of v0", SYN, edit(capableV0SYN, 2, 0x01)},
		{"MP_CAPABLE v0 in a SYN without a key", SYN, edit(capableV1SYN, 2, 0x00)},
		{"MP_CAPABLE v0 with a data-level length", ACK, edit(capableV1Data, 2, 0x00)},
		{"MP_CAPABLE v0 with a checksum", ACK, edit(capableV1DataSum, 2, 0x00)},
		{"MP_CAPABLE on a RST", RST | ACK, capableV1ACK},
		{"MP_CAPABLE on a SYN with FIN", SYN | FIN, capableV1SYN},
		{"MP_CAPABLE without SYN and ACK", PSH, capableV1ACK},
		{"MP_JOIN on a RST", RST | ACK, joinACK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parsed(t, tcp4(tt.flags, tt.options, nil)).MPTCP()
			if err != BadOption || got != (MPTCP{}) {
				t.Errorf("got %+v, %v; want nothing and %v", got, err, BadOption)
			}
		})
	}
}

// The allowed lengths of every subtype. All other lengths from 2 to 40 bytes are bad.
func TestMPTCPAcceptsOnlyLengthsOfTheRFCs(t *testing.T) {
	anyLength := make([]int, 0, 40)
	for n := 3; n <= 40; n++ {
		anyLength = append(anyLength, n)
	}
	for _, tt := range []struct {
		name    string
		flags   Flags
		sub     subtype
		nibble  uint8
		fourth  uint8 // the byte behind the subtype
		allowed []int
	}{
		{"MP_CAPABLE v0 SYN", SYN, subtypeCapable, 0, 0x81, []int{12}},
		{"MP_CAPABLE v0 SYN+ACK", SYN | ACK, subtypeCapable, 0, 0x81, []int{12}},
		{"MP_CAPABLE v0 ACK", ACK, subtypeCapable, 0, 0x81, []int{20}},
		{"MP_CAPABLE v1 SYN", SYN, subtypeCapable, 1, 0x81, []int{4}},
		{"MP_CAPABLE v1 SYN+ACK", SYN | ACK, subtypeCapable, 1, 0x81, []int{12}},
		{"MP_CAPABLE v1 ACK", ACK, subtypeCapable, 1, 0x81, []int{20, 22, 24}},
		{"MP_CAPABLE v2 SYN", SYN, subtypeCapable, 2, 0x81, []int{4, 12}},
		{"MP_CAPABLE v2 SYN+ACK", SYN | ACK, subtypeCapable, 2, 0x81, []int{12}},
		{"MP_CAPABLE v2 ACK", ACK, subtypeCapable, 2, 0x81, []int{20, 22, 24}},
		{"MP_CAPABLE on RST", RST, subtypeCapable, 1, 0x81, nil},
		{"MP_JOIN SYN", SYN, subtypeJoin, 0, 1, []int{12}},
		{"MP_JOIN SYN+ACK", SYN | ACK, subtypeJoin, 0, 1, []int{16}},
		{"MP_JOIN ACK", ACK, subtypeJoin, 0, 0, []int{24}},
		{"MP_JOIN on RST", RST, subtypeJoin, 0, 0, nil},
		{"DSS with nothing", ACK, subtypeDSS, 0, 0x00, []int{4}},
		{"DSS with a narrow ack", ACK, subtypeDSS, 0, 0x01, []int{8}},
		{"DSS with a wide ack", ACK, subtypeDSS, 0, 0x03, []int{12}},
		{"DSS with a narrow map", ACK, subtypeDSS, 0, 0x04, []int{14, 16}},
		{"DSS with a wide map", ACK, subtypeDSS, 0, 0x0c, []int{18, 20}},
		{"DSS with all wide and DATA_FIN", ACK, subtypeDSS, 0, 0x1f, []int{26, 28}},
		{"ADD_ADDR v0 of IPv4", ACK, subtypeAddAddr, 4, 1, []int{8, 10, 16, 18, 28, 30}},
		{"ADD_ADDR v0 of IPv6", ACK, subtypeAddAddr, 6, 1, []int{16, 18, 20, 22, 28, 30}},
		{"ADD_ADDR v1", ACK, subtypeAddAddr, 0, 1, []int{16, 18, 28, 30}},
		{"ADD_ADDR v1 echo", ACK, subtypeAddAddr, 1, 1, []int{8, 10, 20, 22}},
		{"REMOVE_ADDR", ACK, subtypeRemoveAddr, 0, 1, anyLength[1:]},
		{"MP_PRIO", ACK, subtypePrio, 1, 1, []int{3, 4}},
		{"MP_FAIL", ACK, subtypeFail, 0, 0, []int{12}},
		{"MP_FASTCLOSE", ACK, subtypeFastclose, 0, 0, []int{12}},
		{"MP_TCPRST", RST, subtypeReset, 0, 1, []int{4}},
		{"an unassigned subtype", SYN, 9, 0, 0, anyLength},
		{"the private subtype", ACK, 15, 0, 0, anyLength},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n := 2; n <= 40; n++ {
				o := make([]byte, 40) // End behind the option
				copy(o, []byte{optionMPTCP, byte(n), byte(tt.sub)<<4 | tt.nibble, tt.fourth})
				if n == 2 {
					o[2], o[3] = 0, 0
				} else if n == 3 {
					o[3] = 0
				}
				want := error(BadOption)
				if slices.Contains(tt.allowed, n) {
					want = nil
				}
				if _, err := parsed(t, tcp6(tt.flags, o, nil)).MPTCP(); err != want {
					t.Errorf("%d bytes: got %v, want %v", n, err, want)
				}
			}
		})
	}
}

// A list that ends inside an MPTCP option is bad.
func TestMPTCPRefusesEveryTruncatedOption(t *testing.T) {
	for _, tt := range []struct {
		flags  Flags
		option []byte
	}{
		{SYN, capableV0SYN}, {SYN | ACK, capableV0SYNACK}, {ACK, capableV0ACK},
		{SYN, capableV1SYN}, {SYN | ACK, capableV1SYNACK}, {ACK, capableV1ACK},
		{ACK, capableV1Data}, {ACK, capableV1DataSum},
		{SYN, joinSYN}, {SYN | ACK, joinSYNACK}, {ACK, joinACK},
	} {
		for n := 1; n < len(tt.option); n++ {
			s := Segment{Flags: tt.flags, Options: tt.option[:n:n]}
			if m, err := s.MPTCP(); err != BadOption || m != (MPTCP{}) {
				t.Errorf("%d bytes of %x: got %+v, %v", n, tt.option, m, err)
			}
		}
	}
}
