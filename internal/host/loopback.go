//go:build linux

package host

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// loopbackName is the name of the loopback interface in every network namespace.
const loopbackName = "lo"

// loopbackNets are the addresses that the kernel gives the loopback interface, by address
// family.
var loopbackNets = map[int]net.IPNet{
	unix.AF_INET:  {IP: net.IPv4(127, 0, 0, 1).To4(), Mask: net.CIDRMask(8, 32)},
	unix.AF_INET6: {IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
}

// Loopback is the loopback interface, over which relayed packets are delivered. Families
// are the address families that a box uses.
type Loopback struct{ Families []int }

// Changed returns what others have made of the loopback interface, "" if it is up and has
// its addresses.
func (l Loopback) Changed() (string, error) {
	lo, err := netlink.LinkByName(loopbackName)
	if err != nil {
		return "", fmt.Errorf("find loopback: %w", err)
	}
	if lo.Attrs().RawFlags&unix.IFF_UP == 0 {
		return "set down", nil
	}
	var gone []string
	for _, family := range l.Families {
		there, err := netlink.AddrList(lo, family)
		if err != nil {
			return "", fmt.Errorf("list addresses of loopback: %w", err)
		}
		want, found := loopbackNets[family], false
		for _, a := range there {
			found = found || a.IP.Equal(want.IP)
		}
		if !found && hasFamily(family) {
			gone = append(gone, want.IP.String()+" gone")
		}
	}
	return strings.Join(gone, ", "), nil
}

// Mend brings the loopback interface up, with its addresses.
func (l Loopback) Mend() error {
	lo := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: loopbackName, Index: 1}} // kernel: LOOPBACK_IFINDEX
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring loopback up: %w; it takes root's rights over this network namespace", err)
	}
	for _, family := range l.Families {
		at := loopbackNets[family]
		if err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: &at}); err != nil && !errors.Is(err, unix.EEXIST) && hasFamily(family) {
			return fmt.Errorf("give loopback its address %s: %w", at.IP, err)
		}
	}
	return nil
}
