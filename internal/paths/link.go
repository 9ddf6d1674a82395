package paths

import (
	"net/netip"
	"slices"
)

// Link is an interface and its addresses. The zero Link is no interface.
type Link struct {
	Index   int
	Enabled bool
	MTU     int    // 0 if it is not known
	Carrier bool   // it is enabled and could carry packets (IFF_RUNNING, RFC 2863)
	Master  string // the bridge, bond or team of which it is a port; "" for none
	// Addrs are all its addresses. Usable are the global ones that are neither tentative
	// nor deprecated, in the kernel's order.
	Addrs, Usable []netip.Addr
	// Removals counts how often an address was taken from the interface since the box
	// began.
	Removals map[netip.Addr]int
}

// Addr returns the first usable address of a family, or the zero Addr.
func (l Link) Addr(is4 bool) netip.Addr {
	for _, a := range l.Usable {
		if a.Is4() == is4 {
			return a
		}
	}
	return netip.Addr{}
}

// Lost reports whether subflows of the link as it was before cannot go on: the interface,
// or one of the addresses that they use, is gone or was away for a moment.
func (l Link) Lost(before Link, used []netip.Addr) bool {
	return before.Index != 0 && before.Index != l.Index || slices.ContainsFunc(used, func(a netip.Addr) bool {
		return !slices.Contains(l.Addrs, a) || l.Removals[a] != before.Removals[a]
	})
}

// Fault returns why a link cannot be used, or "". Reach is the obstacle between its
// addresses and the join addresses, if there is one.
func (l Link) Fault(reach string) string {
	for _, check := range []struct {
		ok     bool
		reason string
	}{
		{l.Index != 0, reasonInterface},
		{l.Enabled, reasonDisabled},
		{l.Master == "", "port of " + l.Master + ": name " + l.Master + " in its place"},
		{l.Carrier, reasonCarrier},
	} {
		if !check.ok {
			return check.reason
		}
	}
	return reach
}

// LinkCounters are an interface's counters since it was made.
type LinkCounters struct {
	SentPackets, ReceivedPackets uint64
	SentBytes, ReceivedBytes     uint64
}
