package packettest

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// SYNs makes SYNs of many clients to Server6 out of one, in place.
type SYNs []byte

// NewSYNs returns SYNs of hosts without MPTCP.
func NewSYNs(t testing.TB) SYNs {
	from := netip.AddrPortFrom(netip.MustParseAddr("2001:db8:1::ffff:ffff"), Client6.Port())
	return Segment(t, from, Server6, func(h *layers.TCP) { h.SYN = true }, MSS)
}

// Nth returns the SYN of client number n, which is valid until the next call. The
// client's interface identifier is n and the complement of n: their one's complement
// sum is the same for all n, and so the checksum stays right.
func (s SYNs) Nth(n uint32) []byte {
	const identifier = 8 + 8 // of the source address
	binary.BigEndian.PutUint32(s[identifier:], n)
	binary.BigEndian.PutUint32(s[identifier+4:], ^n)
	return s
}
