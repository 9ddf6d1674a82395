package core

import (
	"net/netip"
	"slices"
)

// special are the addresses that are no destination of a gateway unless a rule names them:
// those of this machine's own network, and those that nobody has. What lies in them trusts its
// neighbours, and a client elsewhere is none (IANA special-purpose address registries;
// RFC 6890).
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),      // this network
	netip.MustParsePrefix("10.0.0.0/8"),     // private
	netip.MustParsePrefix("100.64.0.0/10"),  // shared, of providers
	netip.MustParsePrefix("127.0.0.0/8"),    // loopback
	netip.MustParsePrefix("169.254.0.0/16"), // link-local
	netip.MustParsePrefix("172.16.0.0/12"),  // private
	netip.MustParsePrefix("192.0.0.0/24"),   // protocol assignments, such as DS-Lite
	netip.MustParsePrefix("192.168.0.0/16"), // private
	netip.MustParsePrefix("224.0.0.0/4"),    // multicast
	netip.MustParsePrefix("240.0.0.0/4"),    // reserved, and broadcast
	netip.MustParsePrefix("::/96"),          // unspecified, loopback, IPv4-compatible
	netip.MustParsePrefix("::ffff:0:0/96"),  // IPv4-mapped
	netip.MustParsePrefix("64:ff9b:1::/48"), // local translation
	netip.MustParsePrefix("fc00::/7"),       // private
	netip.MustParsePrefix("fe80::/9"),       // link-local, site-local
	netip.MustParsePrefix("ff00::/8"),       // multicast
}

// Prefixes of IPv6 addresses with an IPv4 address inside, and the place of that in bytes.
var (
	translated = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixToFour  = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

const translatedAt, sixToFourAt = 12, 2

// isSpecial reports whether an address, or the IPv4 address in it, is special.
func isSpecial(a netip.Addr) bool {
	b := a.As16()
	switch {
	case translated.Contains(a):
		a = netip.AddrFrom4([4]byte(b[translatedAt:]))
	case sixToFour.Contains(a):
		a = netip.AddrFrom4([4]byte(b[sixToFourAt : sixToFourAt+4]))
	}
	return slices.ContainsFunc(special, func(p netip.Prefix) bool { return p.Contains(a) })
}

// public reports whether an address may be a destination that no rule names.
func (c *Core) public(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	return a.IsValid() && !isSpecial(a) && (c.own == nil || !c.own(a))
}

// names reports whether a prefix of a rule means an address that is not public: as a part of
// special addresses, or alone. One as wide as 0.0.0.0/0 does not.
func names(p netip.Prefix, a netip.Addr) bool {
	return p.Contains(a) && (p.IsSingleIP() || slices.ContainsFunc(special, func(s netip.Prefix) bool {
		return s.Contains(p.Addr()) && p.Bits() >= s.Bits()
	}))
}
