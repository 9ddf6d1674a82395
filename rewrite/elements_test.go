package rewrite

import (
	"net/netip"
	"strings"
)

// element is one option as a value and as bytes, built here field by field. All tests of
// the codec run over the elements.
type element struct {
	name  string
	value Option
	wire  []byte
}

const (
	testDSN    = 0xd1d2d3d4d5d6d7d8
	testDSNLow = 0xd5d6d7d8
	testAck64  = 0xe1e2e3e4e5e6e7e8
	testAckLow = 0xe5e6e7e8
)

var (
	extra4 = netip.MustParseAddr("203.0.113.7")
	extra6 = netip.MustParseAddr("2001:db8:4::7")
	hmac20 = []byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14")
)

func elements() []element {
	return append(append(append(append(tcpElements(), openingElements()...), dssElements()...),
		addressElements()...), signalElements()...)
}

func tcpElements() []element {
	return []element{
		{"End", Option{Type: OptionEnd, Raw: []byte{0}}, []byte{0}},
		{"End with bytes behind it", Option{Type: OptionEnd, Raw: []byte{0, 7, 7}}, []byte{0, 7, 7}},
		{"Nop", Option{Type: OptionNop}, []byte{1}},
		{"MSS", Option{Type: OptionMSS, MSS: 1460}, cat(
			[]byte{2, 4}, // kind, length
			be16(1460))},
		{"window scale", Option{Type: OptionWindowScale, WindowScale: 14}, []byte{3, 3, 14}},
		{"window scale above what a receiver uses", Option{Type: OptionWindowScale, WindowScale: 255}, []byte{3, 3, 255}},
		{"SACK permitted", Option{Type: OptionSACKPermitted}, []byte{4, 2}},
		{"SACK of one block", Option{Type: OptionSACK, SACK: SACK{Count: 1, Blocks: [4]SACKBlock{{1, 2}}}}, cat(
			[]byte{5, 10},      // kind, length
			be32(1), be32(2))}, // left, right
		{"SACK of four blocks", Option{Type: OptionSACK, SACK: SACK{Count: 4,
			Blocks: [4]SACKBlock{{1, 2}, {3, 4}, {5, 6}, {0xfffffff7, 8}}}}, cat(
			[]byte{5, 34}, // kind, length
			be32(1), be32(2), be32(3), be32(4), be32(5), be32(6),
			be32(0xfffffff7), be32(8))}, // around the end of the sequence space
		{"timestamps", Option{Type: OptionTimestamps, Timestamps: Timestamps{0x11223344, 0x55667788}}, cat(
			[]byte{8, 10},    // kind, length
			be32(0x11223344), // value
			be32(0x55667788))},
		{"fast open request", Option{Type: OptionFastOpen}, []byte{34, 2}},
		{"fast open cookie of 4 bytes", Option{Type: OptionFastOpen, FastOpen: FastOpen{[]byte("cook")}},
			cat([]byte{34, 6}, []byte("cook"))},
		{"fast open cookie of 16 bytes", Option{Type: OptionFastOpen, FastOpen: FastOpen{[]byte("cookie of 16 b.s")}},
			cat([]byte{34, 18}, []byte("cookie of 16 b.s"))},
		{"unknown kind without data", Option{Type: OptionUnknown, Raw: []byte{253, 2}}, []byte{253, 2}},
		{"unknown kind with data", Option{Type: OptionUnknown, Raw: []byte{19, 5, 1, 2, 3}}, []byte{19, 5, 1, 2, 3}},
		{"unknown subtype of MPTCP", Option{Type: OptionUnknown, Raw: []byte{30, 4, 0x9f, 7}}, []byte{30, 4, 0x9f, 7}},
	}
}

func openingElements() []element {
	capable := func(v uint8, f CapableForm, m MPCapable) Option {
		m.Version, m.Form, m.Flags = v, f, 0x81
		return Option{Type: OptionMPCapable, MPCapable: m}
	}
	keyOfA, keyOfB := MPCapable{SenderKey: keyA}, MPCapable{SenderKey: keyB}
	keys := MPCapable{SenderKey: keyA, ReceiverKey: keyB}
	data, sum := keys, keys
	data.DataLength, sum.DataLength, sum.Checksum = 4, 4, 0xabcd
	return []element{
		{"MP_CAPABLE v0 SYN", capable(0, CapableKey, keyOfA), capableV0SYN},
		{"MP_CAPABLE v0 SYN+ACK", capable(0, CapableKey, keyOfB), capableV0SYNACK},
		{"MP_CAPABLE v0 ACK", capable(0, CapableKeys, keys), capableV0ACK},
		{"MP_CAPABLE v1 SYN", capable(1, CapableBare, MPCapable{}), capableV1SYN},
		{"MP_CAPABLE v1 SYN+ACK", capable(1, CapableKey, keyOfB), capableV1SYNACK},
		{"MP_CAPABLE v1 ACK", capable(1, CapableKeys, keys), capableV1ACK},
		{"MP_CAPABLE v1 data", capable(1, CapableData, data), capableV1Data},
		{"MP_CAPABLE v1 data and checksum", capable(1, CapableDataChecksum, sum),
			cat(capableV1DataSum[:22], be16(0xabcd))},
		{"MP_CAPABLE v15", capable(15, CapableBare, MPCapable{}), mptcp(subtypeCapable, 15, []byte{0x81})},
		{"MP_JOIN SYN, backup", Option{Type: OptionMPJoinSYN,
			MPJoinSYN: MPJoinSYN{Backup: true, AddressID: 9, Token: token, Nonce: nonce}}, joinSYN},
		{"MP_JOIN SYN, reserved bits", Option{Type: OptionMPJoinSYN,
			MPJoinSYN: MPJoinSYN{AddressID: 9, Token: token, Nonce: nonce, Reserved: 7}},
			mptcp(subtypeJoin, 0x0e, []byte{9}, be32(token), be32(nonce))},
		{"MP_JOIN SYN+ACK", Option{Type: OptionMPJoinSYNACK,
			MPJoinSYNACK: MPJoinSYNACK{AddressID: 9, HMAC: hmac, Nonce: nonce}}, joinSYNACK},
		{"MP_JOIN SYN+ACK, backup and reserved bits", Option{Type: OptionMPJoinSYNACK,
			MPJoinSYNACK: MPJoinSYNACK{Backup: true, AddressID: 9, HMAC: hmac, Nonce: nonce, Reserved: 4}},
			mptcp(subtypeJoin, 0x09, []byte{9}, be64(hmac), be32(nonce))},
		{"MP_JOIN ACK", Option{Type: OptionMPJoinACK, MPJoinACK: MPJoinACK{HMAC: [20]byte(hmac20)}},
			mptcp(subtypeJoin, 0, []byte{0}, hmac20)},
		{"MP_JOIN ACK, reserved bits", Option{Type: OptionMPJoinACK,
			MPJoinACK: MPJoinACK{HMAC: [20]byte(hmac20), Reserved: 0xa5c}},
			mptcp(subtypeJoin, 0x0a, []byte{0x5c}, hmac20)},
	}
}

// dssElements returns DSS with every combination of flags, with and without checksum.
func dssElements() []element {
	var all []element
	for f := range uint8(0x20) {
		d := DSS{HasAck: f&1 != 0, WideAck: f&2 != 0, HasMap: f&4 != 0, WideDSN: f&8 != 0, DataFIN: f&16 != 0}
		var body []byte
		name := []string{"DSS"}
		switch {
		case d.HasAck && d.WideAck:
			d.Ack, body, name = testAck64, be64(testAck64), append(name, "ack8")
		case d.HasAck:
			d.Ack, body, name = testAckLow, be32(testAckLow), append(name, "ack4")
		case d.WideAck:
			name = append(name, "a without A")
		}
		switch {
		case d.HasMap && d.WideDSN:
			d.DSN, body, name = testDSN, cat(body, be64(testDSN)), append(name, "dsn8")
		case d.HasMap:
			d.DSN, body, name = testDSNLow, cat(body, be32(testDSNLow)), append(name, "dsn4")
		case d.WideDSN:
			name = append(name, "m without M")
		}
		if d.DataFIN {
			name = append(name, "DATA_FIN")
		}
		if d.HasMap {
			d.SubflowSeq, d.DataLength = 0x01020304, 1400
			body = cat(body,
				be32(0x01020304), // subflow sequence number
				be16(1400))       // data-level length
		}
		all = append(all, element{strings.Join(name, " "), Option{Type: OptionDSS, DSS: d}, mptcp(subtypeDSS, 0, []byte{f}, body)})
		if d.HasMap {
			d.HasChecksum, d.Checksum = true, 0xbeef
			all = append(all, element{strings.Join(name, " ") + " checksum", Option{Type: OptionDSS, DSS: d},
				mptcp(subtypeDSS, 0, []byte{f}, body, be16(0xbeef))})
		}
	}
	return append(all, element{"DSS, reserved bits", Option{Type: OptionDSS, DSS: DSS{Reserved: 0x55}},
		mptcp(subtypeDSS, 0x0a, []byte{0xa0})})
}

// addressElements returns ADD_ADDR of both versions and families, with and without port,
// echoed or not, and REMOVE_ADDR.
func addressElements() []element {
	var all []element
	for _, ip := range []netip.Addr{extra4, extra6} {
		for _, port := range [][]byte{nil, be16(8080), be16(0)} {
			name := "ADD_ADDR " + ip.String()
			a := AddAddr{AddressID: 5, Address: ip, HasPort: port != nil}
			if port != nil {
				a.Port = uint16(port[0])<<8 | uint16(port[1])
				name += " with a port"
			}
			add := func(what string, a AddAddr, wire []byte) {
				all = append(all, element{name + " " + what, Option{Type: OptionAddAddr, AddAddr: a}, wire})
			}
			version := uint8(6)
			if ip.Is4() {
				version = 4
			}
			add("v0", a, mptcp(subtypeAddAddr, version, []byte{5}, ip.AsSlice(), port))
			a.Version, a.Echo = 1, true
			add("v1 echo", a, mptcp(subtypeAddAddr, 1, []byte{5}, ip.AsSlice(), port))
			a.Echo, a.HMAC = false, hmac
			add("v1", a, mptcp(subtypeAddAddr, 0, []byte{5}, ip.AsSlice(), port, be64(hmac)))
			a.Reserved = 2 // looks like IP version 4, but for the HMAC
			add("v1 reserved bits", a, mptcp(subtypeAddAddr, 4, []byte{5}, ip.AsSlice(), port, be64(hmac)))
		}
	}
	return append(all,
		element{"REMOVE_ADDR", Option{Type: OptionRemoveAddr, RemoveAddr: RemoveAddr{IDs: []byte{5}}},
			mptcp(subtypeRemoveAddr, 0, []byte{5})},
		element{"REMOVE_ADDR of three, reserved bits", Option{Type: OptionRemoveAddr,
			RemoveAddr: RemoveAddr{[]byte{5, 0, 255}, 0xf}}, mptcp(subtypeRemoveAddr, 0xf, []byte{5, 0, 255})})
}

func signalElements() []element {
	return []element{
		{"MP_PRIO", Option{Type: OptionMPPrio}, mptcp(subtypePrio, 0)},
		{"MP_PRIO, backup and reserved bits", Option{Type: OptionMPPrio, MPPrio: MPPrio{Backup: true, Reserved: 5}},
			mptcp(subtypePrio, 0x0b)},
		{"MP_PRIO of an address, v0", Option{Type: OptionMPPrio, MPPrio: MPPrio{HasAddressID: true, AddressID: 5}},
			mptcp(subtypePrio, 0, []byte{5})},
		{"MP_FAIL", Option{Type: OptionMPFail, MPFail: MPFail{DSN: testDSN}},
			mptcp(subtypeFail, 0, []byte{0}, be64(testDSN))},
		{"MP_FAIL, reserved bits", Option{Type: OptionMPFail, MPFail: MPFail{testDSN, 0xabc}},
			mptcp(subtypeFail, 0x0a, []byte{0xbc}, be64(testDSN))},
		{"MP_FASTCLOSE", Option{Type: OptionMPFastclose, MPFastclose: MPFastclose{ReceiverKey: keyB}},
			mptcp(subtypeFastclose, 0, []byte{0}, be64(keyB))},
		{"MP_FASTCLOSE, reserved bits", Option{Type: OptionMPFastclose, MPFastclose: MPFastclose{keyB, 0x321}},
			mptcp(subtypeFastclose, 0x03, []byte{0x21}, be64(keyB))},
		{"MP_TCPRST", Option{Type: OptionMPTCPRST, MPTCPRST: MPTCPRST{Reason: ResetUnacceptablePerformance}},
			mptcp(subtypeReset, 0, []byte{5})},
		{"MP_TCPRST, transient and reserved bits", Option{Type: OptionMPTCPRST,
			MPTCPRST: MPTCPRST{true, ResetMiddlebox, 7}}, mptcp(subtypeReset, 0xf, []byte{6})},
		{"MP_EXPERIMENTAL without data", Option{Type: OptionMPExperimental}, mptcp(subtypeExperimental, 0)},
		{"MP_EXPERIMENTAL", Option{Type: OptionMPExperimental, MPExperimental: MPExperimental{3, []byte("try")}},
			mptcp(subtypeExperimental, 3, []byte("try"))},
	}
}
