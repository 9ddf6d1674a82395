//go:build linux

package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tunDevice is the kernel's device for TUN interfaces.
const tunDevice = "/dev/net/tun"

// TUNConfig describes a TUN interface.
type TUNConfig struct {
	Name string
	MTU  int
	// Local is the interface's own address, the zero Addr for none.
	Local netip.Addr
	// Remote has the destinations to which the interface leads.
	Remote netip.Prefix
}

// TUN is a TUN interface: the kernel's packets to it are read, and packets that are written
// come in by it. Its end, that of the process included, removes the interface and its routes.
type TUN struct {
	*os.File
	Config TUNConfig
	Index  int
}

// CanOpenTUN returns an error if the machine has no TUN device, or the caller may not use it. It
// makes no interface.
func CanOpenTUN() error {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", tunDevice, err)
	}
	return unix.Close(fd)
}

// OpenTUN makes a TUN interface and brings it up. An interface of that name that others have
// made is an error.
func OpenTUN(c TUNConfig) (*TUN, error) {
	fd, err := unix.Open(tunDevice, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tunDevice, err)
	}
	request, err := unix.NewIfreq(c.Name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the interface %s: %w", c.Name, err), unix.Close(fd))
	}
	t := &TUN{File: os.NewFile(uintptr(fd), tunDevice), Config: c}
	if err := t.setUp(); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// setUp gives the interface its address and routes.
func (t *TUN) setUp() error {
	dev, err := netlink.LinkByName(t.Config.Name)
	if err != nil {
		return fmt.Errorf("find the interface %s: %w", t.Config.Name, err)
	}
	t.Index = dev.Attrs().Index
	// No IPv6 packet has any business here; where there is no IPv6, there is no such setting.
	_ = os.WriteFile(filepath.Join("/proc/sys/net/ipv6/conf", t.Config.Name, "disable_ipv6"), []byte("1"), 0)
	if err := netlink.LinkSetMTU(dev, t.Config.MTU); err != nil {
		return fmt.Errorf("set the MTU of %s to %d: %w", t.Config.Name, t.Config.MTU, err)
	}
	return t.Mend()
}

// Missing names what others have taken from the interface, "" if nothing is missing.
func (t *TUN) Missing() (string, error) {
	dev, err := netlink.LinkByName(t.Config.Name)
	switch {
	case errors.As(err, new(netlink.LinkNotFoundError)), err == nil && dev.Attrs().Index != t.Index:
		return t.Config.Name + " gone", nil
	case err != nil:
		return "", fmt.Errorf("find the interface %s: %w", t.Config.Name, err)
	case dev.Attrs().RawFlags&unix.IFF_UP == 0:
		return t.Config.Name + " set down", nil
	}
	if t.Config.Local.IsValid() {
		there, err := netlink.AddrList(dev, unix.AF_INET)
		if err != nil {
			return "", fmt.Errorf("list addresses of %s: %w", t.Config.Name, err)
		}
		for _, a := range there {
			if a.IP.Equal(t.Config.Local.AsSlice()) {
				return "", nil
			}
		}
		return t.Config.Name + " without its address", nil
	}
	there, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{LinkIndex: t.Index}, netlink.RT_FILTER_OIF)
	if err != nil {
		return "", fmt.Errorf("list routes of %s: %w", t.Config.Name, err)
	}
	for _, r := range there {
		if r.Dst != nil && r.Dst.String() == t.Config.Remote.String() {
			return "", nil
		}
	}
	return t.Config.Name + " without its route", nil
}

// Mend puts back what [TUN.Missing] finds, as long as the interface is there.
func (t *TUN) Mend() error {
	dev := &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: t.Config.Name, Index: t.Index}}
	if err := netlink.LinkSetUp(dev); err != nil {
		return fmt.Errorf("bring %s up: %w", t.Config.Name, err)
	}
	remote := &net.IPNet{IP: t.Config.Remote.Addr().AsSlice(), Mask: net.CIDRMask(t.Config.Remote.Bits(), 32)}
	if !t.Config.Local.IsValid() {
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: t.Index, Dst: remote, Scope: netlink.SCOPE_LINK}); err != nil {
			return fmt.Errorf("add the route to %s: %w", t.Config.Remote, err)
		}
		return nil
	}
	local := &net.IPNet{IP: t.Config.Local.AsSlice(), Mask: net.CIDRMask(32, 32)}
	if err := netlink.AddrReplace(dev, &netlink.Addr{IPNet: local, Peer: remote}); err != nil {
		return fmt.Errorf("give %s its address %s: %w", t.Config.Name, t.Config.Local, err)
	}
	return nil
}
