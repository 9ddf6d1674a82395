//go:build linux

package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
)

// read reads the interfaces and addresses as they are now.
func (m *Machine) read() error {
	for {
		// A change while the kernel lists makes the list inconsistent.
		if err := m.list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
}

func (m *Machine) list() error {
	all, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	byName := make(map[string]paths.Link, len(all))
	for _, dev := range all {
		flags := dev.Attrs().RawFlags
		at := paths.Link{
			Index: dev.Attrs().Index, MTU: dev.Attrs().MTU, Enabled: flags&unix.IFF_UP != 0,
			Carrier: flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING != 0,
			Master:  master(all, dev), Removals: m.removals[dev.Attrs().Index],
		}
		for _, a := range addrs {
			if a.LinkIndex == at.Index {
				addAddress(&at, a)
			}
		}
		byName[dev.Attrs().Name] = at
	}
	m.byName.Store(&byName)
	return nil
}

// master returns the name of the interface of which dev is a port, "" for none. An
// interface in a VRF has addresses of its own.
func master(all []netlink.Link, dev netlink.Link) string {
	i := slices.IndexFunc(all, func(o netlink.Link) bool { return o.Attrs().Index == dev.Attrs().MasterIndex })
	if i < 0 || all[i].Type() == "vrf" {
		return ""
	}
	return all[i].Attrs().Name
}

// addAddress adds address a to a link.
func addAddress(to *paths.Link, a netlink.Addr) {
	ip, ok := netip.AddrFromSlice(a.IP)
	ip = ip.Unmap()
	to.Addrs = append(to.Addrs, ip)
	if ok && ip.IsGlobalUnicast() && a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DEPRECATED|unix.IFA_F_DADFAILED) == 0 {
		to.Usable = append(to.Usable, ip)
	}
}

// InterfaceName returns the name of the interface that has an alternative name, and a name
// without such an interface as it is.
func InterfaceName(name string) string {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return name
	}
	return dev.Attrs().Name
}
