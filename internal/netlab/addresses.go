//go:build linux

package netlab

import "net/netip"

// The plan of addresses, all from the ranges for documentation (RFC 5737, RFC 3849).
//
//	what         IPv6                    IPv4
//	client side  2001:db8:1::/64         198.51.100.0/28
//	server side  2001:db8:2::/64         203.0.113.0/28
//	line i       2001:db8:1i::/48        198.51.100.16(i+1)/28 at the CPE
//	             :1: at the CPE, :2:     203.0.113.16(i+1)/28  at the HAG
//
// On a line the router has host number 1 and the box host number 2.
var (
	Client6 = netip.MustParseAddr("2001:db8:1::2")
	Client4 = netip.MustParseAddr("198.51.100.2")
	Server6 = netip.MustParseAddr("2001:db8:2::2")
	Server4 = netip.MustParseAddr("203.0.113.2")

	CPELan6 = netip.MustParseAddr("2001:db8:1::1")
	CPELan4 = netip.MustParseAddr("198.51.100.1")
	HAGWan6 = netip.MustParseAddr("2001:db8:2::1")
	HAGWan4 = netip.MustParseAddr("203.0.113.1")

	clientNets = []netip.Prefix{
		netip.MustParsePrefix("2001:db8:1::/64"),
		netip.MustParsePrefix("198.51.100.0/28"),
	}
	serverNets = []netip.Prefix{
		netip.MustParsePrefix("2001:db8:2::/64"),
		netip.MustParsePrefix("203.0.113.0/28"),
	}
	everything = []netip.Prefix{
		netip.MustParsePrefix("::/0"),
		netip.MustParsePrefix("0.0.0.0/0"),
	}
)

// Names of the interfaces other than lines.
const (
	ClientInterface = "eth0"
	ServerInterface = "eth0"
	CPELanInterface = "lan"
	HAGWanInterface = "wan"
)

// MaxLines is the number of lines in the plan of addresses.
const MaxLines = 15

// cpeAddrs returns the addresses of line i at the CPE with the given host number.
func cpeAddrs(i int, host byte) []netip.Prefix { return lineAddrs(i, 1, [4]byte{198, 51, 100}, host) }

// hagAddrs returns the addresses of line i at the HAG with the given host number.
func hagAddrs(i int, host byte) []netip.Prefix { return lineAddrs(i, 2, [4]byte{203, 0, 113}, host) }

func lineAddrs(i int, side byte, v4 [4]byte, host byte) []netip.Prefix {
	v6 := [16]byte{0x20, 0x01, 0x0d, 0xb8, 0, 0x10 + byte(i), 0, side, 15: host}
	v4[3] = 16*byte(i+1) + host
	return []netip.Prefix{
		netip.PrefixFrom(netip.AddrFrom16(v6), 64),
		netip.PrefixFrom(netip.AddrFrom4(v4), 28),
	}
}

// on returns addresses with the prefix lengths of their networks.
func on(addrs []netip.Addr, nets []netip.Prefix) []netip.Prefix {
	ps := make([]netip.Prefix, len(addrs))
	for i, a := range addrs {
		ps[i] = netip.PrefixFrom(a, nets[i].Bits())
	}
	return ps
}
