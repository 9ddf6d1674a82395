package paths

import "net/netip"

// Source is the local end of packets to one address by one interface.
type Source struct {
	// Addr is the kernel's choice (RFC 6724 for IPv6), the zero Addr without a route.
	Addr netip.Addr
	// Filter is the setting of a reverse-path filter that drops what comes back, "" without
	// one, and FilterRemedy the one that mends it, both as sysctl(8) takes them.
	Filter, FilterRemedy string
	// MarkMatters is set if the mark of a packet may bring it past the filter.
	MarkMatters bool
}

// Usable reports whether packets can leave, and no filter is known to drop the answers.
func (s Source) Usable() bool { return s.Addr.IsValid() && (s.Filter == "" || s.MarkMatters) }

// Reach is one address family of a path: its way to a join address.
type Reach struct {
	Join   netip.AddrPort // zero without a join address of the family
	Source Source
	// Silent is set if answers to probes of this family are missing, while those of the
	// other family come, or those of other paths to a path that never had one.
	Silent bool
	// Refused is set if probes of this family are answered by ICMP port unreachable, while the
	// other family's are not.
	Refused bool
}

// obstacles of an address family, from the nearest to the farthest.
var obstacles = []struct {
	reason string
	here   func(l Link, r Reach) bool
}{
	{reasonAddress, func(l Link, r Reach) bool { return !l.Addr(r.Join.Addr().Is4()).IsValid() }},
	{reasonRoute, func(_ Link, r Reach) bool { return !r.Source.Addr.IsValid() }},
	{"", func(_ Link, r Reach) bool { return r.Source.Filter != "" && (!r.Source.MarkMatters || r.Silent) }},
	{reasonPortIsRefused, func(_ Link, r Reach) bool { return r.Refused }},
	{reasonNoAnswer, func(_ Link, r Reach) bool { return r.Silent }},
}

// obstacle returns the first obstacle of a family, and its place among the obstacles; ""
// and -1 without one.
func (l Link) obstacle(r Reach) (reason string, place int) {
	for i, o := range obstacles {
		switch {
		case !o.here(l, r):
		case o.reason == "":
			return r.Source.Filter + " drops the answers: set " + r.Source.FilterRemedy, i
		default:
			return o.reason, i
		}
	}
	return "", -1
}

// Reaches returns why each address family with a join address cannot be used ("" where it
// can), and why none can. A path without any join address needs an address only.
func (l Link) Reaches(all [2]Reach) (reasons [2]string, fault string) {
	farthest, joins, usable := -1, false, false
	for i, r := range all {
		if !r.Join.IsValid() {
			continue
		}
		joins = true
		reason, place := l.obstacle(r)
		reasons[i] = reason
		if usable = usable || r.Source.Usable(); place > farthest {
			farthest, fault = place, reason
		}
	}
	switch {
	case usable:
		fault = ""
	case !joins && len(l.Usable) == 0:
		fault = reasonAddress
	}
	return reasons, fault
}
