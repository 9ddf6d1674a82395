//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Connect joins two hosts by a cable: interface aName of a and bName of b. Both are up.
func Connect(a *Host, aName string, b *Host, bName string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	veth := netlink.NewVeth(attrs)
	veth.PeerName = bName
	veth.PeerNamespace = netlink.NsFd(b.ns.Fd())
	if err := a.Netlink(func(nl *netlink.Handle) error { return nl.LinkAdd(veth) }); err != nil {
		return fmt.Errorf("connect %s:%s to %s:%s: %w", a.Name, aName, b.Name, bName, err)
	}
	if err := a.up(aName); err != nil {
		return err
	}
	return b.up(bName)
}

// up brings an interface up.
func (h *Host) up(ifname string) error {
	err := h.withLink(ifname, func(nl *netlink.Handle, l netlink.Link) error { return nl.LinkSetUp(l) })
	if err != nil {
		return fmt.Errorf("bring %s:%s up: %w", h.Name, ifname, err)
	}
	return nil
}

// withLink runs fn with an rtnetlink connection and one of the host's interfaces.
func (h *Host) withLink(ifname string, fn func(*netlink.Handle, netlink.Link) error) error {
	return h.Netlink(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName(ifname)
		if err != nil {
			return err
		}
		return fn(nl, l)
	})
}

// AddAddress gives an interface an address that works at once. It adds no route to
// the address's prefix: see [Host.AddRoute].
func (h *Host) AddAddress(ifname string, addr netip.Prefix) error {
	err := h.withLink(ifname, func(nl *netlink.Handle, l netlink.Link) error {
		a := &netlink.Addr{IPNet: ipNet(addr), Flags: unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_NODAD}
		if err := nl.AddrAdd(l, a); err != nil || addr.Addr().Is4() || l.Attrs().OperState != netlink.OperUp {
			return err
		}
		return waitForLocal(nl, addr.Addr())
	})
	if err != nil {
		return fmt.Errorf("add address %v to %s:%s: %w", addr, h.Name, ifname, err)
	}
	return nil
}

// waitForLocal waits until an IPv6 address is in the table of local routes: a kernel thread
// puts it there (net/ipv6/addrconf.c, addrconf_dad_work).
func waitForLocal(nl *netlink.Handle, addr netip.Addr) error {
	local := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: ipNet(netip.PrefixFrom(addr, addr.BitLen()))}
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		routes, err := nl.RouteListFiltered(netlink.FAMILY_V6, local, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
		if err != nil || len(routes) > 0 {
			return err
		}
		if time.Since(begin) > 10*time.Second {
			return errors.New("the kernel adds no local route")
		}
	}
}

// Route is one entry of a routing table.
type Route struct {
	To     netip.Prefix
	Via    netip.Addr // next hop; invalid when the prefix is on the link
	Dev    string
	Metric int // the lower is preferred
	Table  int // 0 is the main table
	// CongestionControl is used by TCP connections over this route. Unlike the
	// sysctl, a route may name any algorithm the kernel has, in any namespace.
	CongestionControl string
}

// AddRoute installs r, in place of an equal one.
func (h *Host) AddRoute(r Route) error {
	nr := &netlink.Route{
		Dst:      ipNet(r.To),
		Priority: r.Metric,
		Table:    r.Table,
		Congctl:  r.CongestionControl,
	}
	if r.Via.IsValid() {
		nr.Gw = r.Via.AsSlice()
	} else if r.To.Addr().Is4() {
		nr.Scope = netlink.SCOPE_LINK
	}
	err := h.withLink(r.Dev, func(nl *netlink.Handle, l netlink.Link) error {
		nr.LinkIndex = l.Attrs().Index
		return nl.RouteReplace(nr)
	})
	if err != nil {
		return fmt.Errorf("add route %s to %v by %s: %w", h.Name, r.To, r.Dev, err)
	}
	return nil
}

// AddSourceRule makes packets from addr follow a routing table of their own.
func (h *Host) AddSourceRule(addr netip.Addr, table, priority int) error {
	r := netlink.NewRule()
	r.Src = ipNet(netip.PrefixFrom(addr, addr.BitLen()))
	r.Family = family(addr)
	r.Table = table
	r.Priority = priority
	if err := h.Netlink(func(nl *netlink.Handle) error { return nl.RuleAdd(r) }); err != nil {
		return fmt.Errorf("add rule %s from %v lookup %d: %w", h.Name, addr, table, err)
	}
	return nil
}

// offloadSegmentation makes packets of more than one segment leave the interface
// whole, or as single segments, as on a real line.
func (h *Host) offloadSegmentation(ifname string, on bool) error {
	return h.offload(ifname, "segmentation", unix.ETHTOOL_STSO, on)
}

// CompleteChecksums makes the host compute the checksums of packets that it sends by
// the interface, and send single segments, so that a capture looks like one of a real
// line. The virtual cables need neither.
func (h *Host) CompleteChecksums(ifname string) error {
	return h.offload(ifname, "checksum", unix.ETHTOOL_STXCSUM, false)
}

// offload turns an offload of the interface on or off. set is its ETHTOOL command.
func (h *Host) offload(ifname, kind string, set uint32, on bool) error {
	// struct ethtool_value and struct ifreq, see netdevice(7).
	value := struct{ cmd, data uint32 }{cmd: set}
	if on {
		value.data = 1
	}
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(req.name[:unix.IFNAMSIZ-1], ifname)
	err := h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
		if errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s offload of %s:%s: %w", kind, h.Name, ifname, err)
	}
	return nil
}

// forward makes the host a router.
func (h *Host) forward() error {
	return errors.Join(
		h.Sysctl("net.ipv4.ip_forward", "1"),
		h.Sysctl("net.ipv6.conf.all.forwarding", "1"),
		h.Sysctl("net.ipv6.conf.default.forwarding", "1"),
		// A route whose interface lost its carrier is ignored.
		h.Sysctl("net.ipv4.conf.all.ignore_routes_with_linkdown", "1"),
		h.Sysctl("net.ipv4.conf.default.ignore_routes_with_linkdown", "1"),
		h.Sysctl("net.ipv6.conf.all.ignore_routes_with_linkdown", "1"),
		h.Sysctl("net.ipv6.conf.default.ignore_routes_with_linkdown", "1"),
	)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

// settle waits until the host's interfaces have their carrier and its addresses can
// be used, which can take a while on a busy machine.
func (h *Host) settle() error {
	const pause, patience = 5 * time.Millisecond, 10 * time.Second
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		var missing string
		err := h.Netlink(func(nl *netlink.Handle) (err error) {
			missing, err = unsettled(nl)
			return err
		})
		switch {
		case err != nil:
			return fmt.Errorf("settle %s: %w", h.Name, err)
		case missing == "":
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("settle %s: %s is not ready after %v", h.Name, missing, patience)
		}
	}
}

// unsettled returns the name of an interface that is up but cannot be used yet, or "".
func unsettled(nl *netlink.Handle) (string, error) {
	links, err := nl.LinkList()
	if err != nil {
		return "", err
	}
	for _, l := range links {
		at := l.Attrs()
		if at.Flags&net.FlagUp == 0 || at.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := nl.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return "", err
		}
		tentative := func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }
		if at.OperState != netlink.OperUp || slices.ContainsFunc(addrs, tentative) {
			return at.Name, nil
		}
	}
	return "", nil
}
