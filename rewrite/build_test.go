package rewrite

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Builders of packets, field by field, without any code of the parser. Their packets are
// the expectation of the tests and the seeds of the fuzzer.

var (
	client4 = netip.MustParseAddr("192.0.2.1")
	server4 = netip.MustParseAddr("198.51.100.2")
	hop4    = netip.MustParseAddr("203.0.113.3")
	client6 = netip.MustParseAddr("2001:db8:1::1")
	server6 = netip.MustParseAddr("2001:db8:2::2")
	hop6    = netip.MustParseAddr("2001:db8:3::3")
)

const (
	clientPort = 49152
	serverPort = 443
	testSeq    = 0x01020304
	testAck    = 0x05060708
	testWindow = 0xfaf0
)

func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }
func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// oracle returns the checksum by the algorithm in RFC 1071, section 4.1: 16 bits at a time.
func oracle(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// tcpBytes returns a TCP segment with a checksum for the addresses. It pads options with
// End.
func tcpBytes(src, dst netip.Addr, flags Flags, options, data []byte) []byte {
	for len(options)%4 != 0 {
		options = append(slices.Clone(options), 0)
	}
	b := cat(
		be16(clientPort),                    // source port
		be16(serverPort),                    // destination port
		be32(testSeq),                       // sequence number
		be32(testAck),                       // acknowledgment number
		[]byte{byte(5+len(options)/4) << 4}, // data offset in words
		[]byte{byte(flags)},                 // control bits
		be16(testWindow),                    // window
		be16(0),                             // checksum, below
		be16(0),                             // urgent pointer
		options, data)
	pseudo := cat(src.AsSlice(), dst.AsSlice(), be32(uint32(len(b))), be32(protocolTCP))
	binary.BigEndian.PutUint16(b[16:], oracle(cat(pseudo, b)))
	return b
}

// ipv4Bytes returns an IPv4 packet. The options must fill whole words.
func ipv4Bytes(protocol uint8, options, payload []byte) []byte {
	b := cat(
		[]byte{byte(0x40 + 5 + len(options)/4)},    // version, header length in words
		[]byte{0},                                  // type of service
		be16(uint16(20+len(options)+len(payload))), // total length
		be16(0x1234),                               // identification
		be16(0x4000),                               // Don't Fragment
		[]byte{64, protocol},                       // time to live, protocol
		be16(0),                                    // header checksum, below
		client4.AsSlice(), server4.AsSlice(), options)
	binary.BigEndian.PutUint16(b[10:], oracle(b))
	return cat(b, payload)
}

// header6 is one extension header without its first byte, the next header.
type header6 struct {
	kind uint8
	rest []byte
}

// ipv6Bytes returns an IPv6 packet with a chain of extension headers.
func ipv6Bytes(chain []header6, protocol uint8, payload []byte) []byte {
	next := func(i int) byte {
		if i < len(chain) {
			return chain[i].kind
		}
		return protocol
	}
	var body []byte
	for i, h := range chain {
		body = cat(body, []byte{next(i + 1)}, h.rest)
	}
	body = cat(body, payload)
	return cat(
		be32(0x60000000),        // version, traffic class, flow label
		be16(uint16(len(body))), // payload length
		[]byte{next(0), 64},     // next header, hop limit
		client6.AsSlice(), server6.AsSlice(), body)
}

// Extension headers, without their first byte.
var (
	hopByHop    = header6{protocolHopByHop, []byte{0, 5, 2, 0, 0, 1, 0}}                                    // router alert, PadN
	jumbo       = header6{protocolHopByHop, []byte{0, jumboPayload, 4, 0, 1, 0, 0}}                         // jumbo payload of 65536 bytes
	destination = header6{protocolDestination, []byte{1, 1, 4, 0, 0, 0, 0, 1, 6, 0, 0, 0, 0, 0, 0}}         // PadN, PadN
	homeAddr    = header6{protocolDestination, cat([]byte{2, 1, 2, 0, 0, homeAddress, 16}, hop6.AsSlice())} // PadN, home address
	atomic      = header6{protocolFragment, []byte{0xff, 0, 6, 0, 0, 0, 7}}                                 // reserved bits set, offset 0, M 0
	first       = header6{protocolFragment, []byte{0, 0, 1, 0, 0, 0, 7}}                                    // offset 0, M
	last        = header6{protocolFragment, []byte{0, 0, 8, 0, 0, 0, 7}}                                    // offset 1, no M
	ah          = header6{protocolAH, cat([]byte{4, 0, 0}, be32(0xabcd), be32(1), make([]byte, 12))}
	mobility    = header6{protocolMobility, make([]byte, 7)}
	shim6       = header6{protocolShim6, make([]byte, 7)}
)

// routing returns a routing header, with data for the bytes behind segments left.
func routing(kind, left uint8, data []byte) header6 {
	return header6{protocolRouting, cat([]byte{byte((len(data) - 4) / 8), kind, left}, data)}
}

// sourceRoute returns an IPv4 source route option of one hop, and End.
func sourceRoute(kind, pointer uint8, a netip.Addr) []byte {
	return cat([]byte{kind, 7, pointer}, a.AsSlice(), []byte{0})
}

// Whole packets.

func tcp4(flags Flags, options, data []byte) []byte {
	return ipv4Bytes(protocolTCP, nil, tcpBytes(client4, server4, flags, options, data))
}

func tcp6(flags Flags, options, data []byte, chain ...header6) []byte {
	return ipv6Bytes(chain, protocolTCP, tcpBytes(client6, server6, flags, options, data))
}

// TCP options.
var (
	mss       = []byte{2, 4, 0x05, 0xb4}                // 1460 bytes
	sackOK    = []byte{4, 2}                            // SACK permitted
	timestamp = []byte{8, 10, 0, 0, 0, 1, 0, 0, 0, 0}   // value 1
	nop       = []byte{1}                               //
	scale     = []byte{3, 3, 7}                         // by 2^7
	usual     = cat(mss, sackOK, timestamp, nop, scale) // the options in a SYN of Linux
)

const (
	keyA, keyB = 0x0102030405060708, 0x1112131415161718
	token      = 0xa1a2a3a4
	nonce      = 0xb1b2b3b4
	hmac       = 0xc1c2c3c4c5c6c7c8
)

// mptcp returns an MPTCP option: subtype and the nibble beside it, then the rest.
func mptcp(sub subtype, nibble uint8, rest ...[]byte) []byte {
	data := cat(rest...)
	return cat([]byte{optionMPTCP, byte(3 + len(data)), byte(sub)<<4 | nibble}, data)
}

// MPTCP options of the handshakes. Flags of MP_CAPABLE: A and H.
var (
	capableV0SYN     = mptcp(subtypeCapable, 0, []byte{0x81}, be64(keyA))
	capableV0SYNACK  = mptcp(subtypeCapable, 0, []byte{0x81}, be64(keyB))
	capableV0ACK     = mptcp(subtypeCapable, 0, []byte{0x81}, be64(keyA), be64(keyB))
	capableV1SYN     = mptcp(subtypeCapable, 1, []byte{0x81})
	capableV1SYNACK  = mptcp(subtypeCapable, 1, []byte{0x81}, be64(keyB))
	capableV1ACK     = mptcp(subtypeCapable, 1, []byte{0x81}, be64(keyA), be64(keyB))
	capableV1Data    = mptcp(subtypeCapable, 1, []byte{0x81}, be64(keyA), be64(keyB), be16(4))
	capableV1DataSum = mptcp(subtypeCapable, 1, []byte{0x81}, be64(keyA), be64(keyB), be16(4), be16(0))
	joinSYN          = mptcp(subtypeJoin, 1, []byte{9}, be32(token), be32(nonce))
	joinSYNACK       = mptcp(subtypeJoin, 0, []byte{9}, be64(hmac), be32(nonce))
	joinACK          = mptcp(subtypeJoin, 0, []byte{0}, make([]byte, 20))
)

// seeds returns packets with all headers above, well-formed and malformed.
func seeds() [][]byte {
	s := [][]byte{
		tcp4(SYN, usual, nil),
		tcp4(SYN, cat(usual, capableV1SYN), nil),
		tcp4(SYN|ACK, cat(usual, joinSYNACK), nil),
		tcp4(ACK, cat(timestamp, capableV1Data), []byte("data")),
		tcp4(SYN, cat(capableV1SYN, joinSYN), nil),
		ipv4Bytes(protocolTCP, sourceRoute(ipv4OptionLSRR, 4, hop4), tcpBytes(client4, hop4, SYN, usual, nil)),
		ipv4Bytes(17, nil, make([]byte, 8)),
		tcp6(SYN, cat(usual, capableV0SYN), nil),
		tcp6(SYN, cat(mss, joinSYN), nil, hopByHop, destination, ah),
		ipv6Bytes([]header6{hopByHop, routing(routingSegment, 1, segmentList(1)), atomic, destination},
			protocolTCP, tcpBytes(client6, hop6, SYN, usual, nil)),
		ipv6Bytes([]header6{routing(routingSource, 1, sourceList(2))}, protocolTCP, tcpBytes(client6, hop6, SYN, nil, nil)),
	}
	for _, h := range []header6{jumbo, first, last, mobility, shim6, hopByHop, homeAddr, atomic} {
		s = append(s, tcp6(SYN, usual, nil, h))
	}
	return s
}

// segmentList returns the bytes of a segment routing header behind segments left (RFC
// 8754, section 2). The last segment, hop6, comes first; server6 is each of the n others.
func segmentList(n int) []byte {
	b := cat([]byte{byte(n), 0}, be16(0), hop6.AsSlice()) // last entry, flags, tag
	for range n {
		b = cat(b, server6.AsSlice())
	}
	return b
}

// sourceList returns the bytes of a routing header of type 0 or 2 behind segments left: n
// addresses, with hop6 the last.
func sourceList(n int) []byte {
	b := be32(0) // reserved
	for range n - 1 {
		b = cat(b, server6.AsSlice())
	}
	return cat(b, hop6.AsSlice())
}
