package nfq

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Packets with the mark [Relay] have a routing table of their own, in which every
// destination is local.
const (
	routeTable   = 91
	rulePriority = 91
)

// InstallRoutes adds the policy rule and the local route that deliver marked
// packets to this machine, for IPv4 or IPv6 (unix.AF_INET, unix.AF_INET6).
// They replace those of an earlier box. The loopback interface must be up.
func InstallRoutes(family int) error {
	if err := RemoveRoutes(family); err != nil {
		return err
	}
	if err := netlink.RouteReplace(localRoute(family)); err != nil {
		return fmt.Errorf("add local route to table %d: %w", routeTable, err)
	}
	if err := netlink.RuleAdd(markRule(family)); err != nil {
		return fmt.Errorf("add rule for mark %#x: %w", uint32(Relay), err)
	}
	return nil
}

// RemoveRoutes undoes [InstallRoutes]. It is no error if there is nothing to undo.
func RemoveRoutes(family int) error {
	for {
		err := netlink.RuleDel(markRule(family))
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EAFNOSUPPORT) {
			break
		}
		if err != nil {
			return fmt.Errorf("remove rule for mark %#x: %w", uint32(Relay), err)
		}
	}
	err := netlink.RouteDel(localRoute(family))
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("remove local route from table %d: %w", routeTable, err)
	}
	return nil
}

func markRule(family int) *netlink.Rule {
	r := netlink.NewRule()
	mask := ^uint32(0)
	r.Family, r.Table, r.Priority = family, routeTable, rulePriority
	r.Mark, r.Mask = uint32(Relay), &mask
	return r
}

// loopbackIndex is the interface index of lo in every network namespace (kernel: LOOPBACK_IFINDEX).
const loopbackIndex = 1

func localRoute(family int) *netlink.Route {
	any := net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	if family == unix.AF_INET {
		any = net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return &netlink.Route{
		LinkIndex: loopbackIndex, Dst: &any, Table: routeTable,
		Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Family: family,
	}
}
