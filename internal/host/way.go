//go:build linux

package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Way is the way of a packet that this machine forwards.
type Way struct {
	In, Out           string // interfaces
	InIndex, OutIndex int
	NextHop           netip.Addr // the zero Addr on a directly connected network
	Local             bool       // the packet is for this machine itself
}

// WayOf asks the kernel for the way from src to dst as of a packet that has come in: by the
// interface in, or if that is "" by the one that leads to src. Marks of other programs, and
// policy rules on ports, are not known to the kernel then. The error says why the packet
// would not be forwarded.
func WayOf(src, dst netip.Addr, in string) (w Way, err error) {
	w.In = in
	if in == "" {
		back, err := netlink.RouteGet(src.AsSlice())
		if err != nil || len(back) == 0 {
			return w, fmt.Errorf("no route leads to the client %s, so the interface by which it comes in is unknown", src)
		}
		if w.In, err = nameOf(back[0].LinkIndex); err != nil {
			return w, err
		}
	}
	dev, err := net.InterfaceByName(w.In)
	if err != nil {
		return w, fmt.Errorf("interface %s: there is no such interface on this machine", w.In)
	}
	w.InIndex = dev.Index
	routes, err := netlink.RouteGetWithOptions(dst.AsSlice(), &netlink.RouteGetOptions{IifIndex: w.InIndex, SrcAddr: src.AsSlice()})
	if err != nil || len(routes) == 0 {
		return w, wayError(err)
	}
	r := routes[0]
	w.Local, w.OutIndex = r.Type == unix.RTN_LOCAL, r.LinkIndex
	if w.Local {
		return w, nil
	}
	if errno, refused := refusals[r.Type]; refused { // as IPv6 says it
		return w, wayError(errno)
	}
	if gateway, ok := netip.AddrFromSlice(r.Gw); ok {
		w.NextHop = gateway.Unmap()
	}
	w.Out, err = nameOf(w.OutIndex)
	return w, err
}

// refusals are the errors of routes that lead nowhere.
var refusals = map[int]error{
	unix.RTN_UNREACHABLE: unix.EHOSTUNREACH, unix.RTN_PROHIBIT: unix.EACCES, unix.RTN_BLACKHOLE: unix.EINVAL,
}

func nameOf(index int) (string, error) {
	dev, err := net.InterfaceByIndex(index)
	if err != nil {
		return "", fmt.Errorf("interface %d: %w", index, err)
	}
	return dev.Name, nil
}

// wayError explains an error of the kernel's routing (kernel: ip_route_input_rcu,
// fib_validate_source).
func wayError(err error) error {
	switch {
	case errors.Is(err, unix.EXDEV):
		return errors.New("the reverse-path filter drops the SYN: the kernel would answer the client by another interface")
	case errors.Is(err, unix.EINVAL):
		return errors.New("the SYN is dropped: a blackhole route, or an address that no packet may have")
	case errors.Is(err, unix.EACCES):
		return errors.New("a route prohibits the destination")
	case errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), err == nil:
		return errors.New("no route leads to the destination, or this machine does not forward")
	}
	return fmt.Errorf("the kernel says: %w", err)
}
