//go:build linux

package host

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
)

// strict is the value of rp_filter with which the kernel drops packets that do not come
// in by the route back to their source (RFC 3704).
const strict = "1"

// reversePathFilter returns the setting that drops IPv4 packets from remote to local on an
// interface, and the one that mends it; "" for none. MarkMatters is set if a packet with some
// mark would pass: the kernel looks up the route back with the mark (src_valid_mark), and a
// policy rule for that mark leads there.
//
// The kernel takes the larger of the values for all interfaces and for this one (kernel:
// __fib_validate_source, IN_DEV_RPFILTER).
func reversePathFilter(remote, local netip.Addr, ifname string, index int) (filter, remedy string, markMatters bool) {
	if !remote.Is4() {
		return "", "", false
	}
	every, own := interfaceSysctl("all", "rp_filter"), interfaceSysctl(ifname, "rp_filter")
	if max(every, own) != strict || returns(remote, local, index, 0) {
		return "", "", false
	}
	from := ifname
	if own != strict {
		from = "all"
	}
	for _, of := range []string{"all", ifname} {
		markMatters = markMatters || cmp.Or(interfaceSysctl(of, "src_valid_mark"), "0") != "0"
	}
	markMatters = markMatters && slices.ContainsFunc(marks(), func(m uint32) bool { return returns(remote, local, index, m) })
	return dotted(interfaceKey(from, "rp_filter")) + "=1", dotted(interfaceKey(ifname, "rp_filter")) + "=2", markMatters
}

// marks returns the marks for which there are policy rules.
func marks() (all []uint32) {
	rules, _ := netlink.RuleList(netlink.FAMILY_V4)
	for _, r := range rules {
		if r.Mark != 0 && r.IifName == "" {
			all = append(all, r.Mark)
		}
	}
	return all
}

// returns reports whether the route back to remote, for packets to local with a mark, leads
// to the interface with that index.
func returns(remote, local netip.Addr, index int, mark uint32) bool {
	routes, err := netlink.RouteGetWithOptions(remote.AsSlice(), &netlink.RouteGetOptions{SrcAddr: local.AsSlice(), Mark: mark, FIBMatch: true})
	return err == nil && len(routes) > 0 && uses(routes[0], index)
}

// interfaceSysctl returns an IPv4 setting of an interface, or of "all"; "" without one.
func interfaceSysctl(ifname, name string) string {
	value, _ := ReadSysctl(interfaceKey(ifname, name))
	return value
}

func interfaceKey(ifname, name string) string { return "net/ipv4/conf/" + ifname + "/" + name }
