package encap

import (
	"encoding/binary"
	"net/netip"
)

// Prefix has all inner addresses.
var Prefix = netip.MustParsePrefix("240.91.0.0/16")

// RemotePort is the TCP port of [Remote].
const RemotePort = 9000

const (
	// lastInner is the largest low half of a CPE's inner address; those above are remotes.
	lastInner = 0xfeff
	remoteNet = 0xff00
)

// MaxPaths is the largest number of paths of a CPE.
const MaxPaths = 8

// address returns the address of [Prefix] with that low half.
func address(low uint16) netip.Addr {
	high := Prefix.Addr().As4()
	binary.BigEndian.PutUint16(high[2:], low)
	return netip.AddrFrom4(high)
}

// low returns the low half of an address of [Prefix].
func low(a netip.Addr) (n uint16, ok bool) {
	if !a.Is4() || !Prefix.Contains(a) {
		return 0, false
	}
	b := a.As4()
	return binary.BigEndian.Uint16(b[2:]), true
}

// Remote returns the other end of the encapsulated subflows on a path, as the CPE's kernel sees
// it. Each path has one of its own, so that a route leads to the path's device.
func Remote(path int) netip.AddrPort {
	return netip.AddrPortFrom(address(remoteNet+uint16(path)+1), RemotePort)
}

// Overhead is the size in bytes of what is added to a packet: the headers of IPv6, UDP and
// this package.
const Overhead = 40 + 8 + HeaderSize

// MTU returns the MTU of the inner packets on a path that carries packets of that size. The
// largest datagrams are those of an Ethernet frame.
func MTU(outer int) int {
	const largest, least = 1500, 576
	if outer <= 0 || outer > largest {
		outer = largest
	}
	return max(outer-Overhead, least)
}
