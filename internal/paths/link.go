package paths

import (
	"net/netip"
	"slices"
)

// Link is an interface and its addresses. The zero Link is no interface.
type Link struct {
	Index   int
	Enabled bool
	Carrier bool // it is enabled and could carry packets (IFF_RUNNING, RFC 2863)
	// Addr4 and Addr6 are the first usable global address of each family, from which
	// probes and subflows start; the zero Addr without one.
	Addr4, Addr6 netip.Addr
	Addrs        []netip.Addr // all of them
}

// Addr returns the usable address of a family, or the zero Addr.
func (l Link) Addr(is4 bool) netip.Addr {
	if is4 {
		return l.Addr4
	}
	return l.Addr6
}

// Lost reports whether subflows of the link as it was before cannot go on: the
// interface or an address that they used is gone.
func (l Link) Lost(before Link) bool {
	gone := func(a netip.Addr) bool { return a.IsValid() && !slices.Contains(l.Addrs, a) }
	return before.Index != 0 && before.Index != l.Index || gone(before.Addr4) || gone(before.Addr6)
}

// Fault returns why a link cannot be used, or "". An address is usable if addressed
// is set, and there is a route to a join address if routed is.
func (l Link) Fault(addressed, routed bool) string {
	for _, check := range []struct {
		ok     bool
		reason string
	}{
		{l.Index != 0, reasonInterface},
		{l.Enabled, reasonDisabled},
		{l.Carrier, reasonCarrier},
		{addressed, reasonAddress},
		{routed, reasonRoute},
	} {
		if !check.ok {
			return check.reason
		}
	}
	return ""
}

// LinkCounters are an interface's counters since it was made.
type LinkCounters struct {
	SentPackets, ReceivedPackets uint64
	SentBytes, ReceivedBytes     uint64
}
