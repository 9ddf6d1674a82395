//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects from the host to remote, an address and port. Networks are tcp,
// udp and mptcp, with or without 4 or 6. local is an address with or
// without a port, or empty. Unlike net.Dialer it makes one attempt, and
// uses MPTCP only if told so.
func (h *Host) Dial(ctx context.Context, network, local, remote string) (net.Conn, error) {
	c, err := h.dial(ctx, network, local, remote)
	if err != nil {
		return nil, fmt.Errorf("dial %s %s from %s: %w", network, remote, h.Name, err)
	}
	return c, nil
}

func (h *Host) dial(ctx context.Context, network, local, remote string) (net.Conn, error) {
	raddr, err := netip.ParseAddrPort(remote)
	if err != nil {
		return nil, err
	}
	laddr, err := parseLocal(local)
	if err != nil {
		return nil, err
	}
	typ, proto, err := socketType(network)
	if err != nil {
		return nil, err
	}
	var fd int
	// The connect does not block, so that the host's thread never waits for the network.
	err = h.Do(func() error {
		fd, err = startConnect(typ, proto, laddr, raddr)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), remote)
	defer f.Close() // the net.Conn has a copy
	if err := waitConnected(ctx, f); err != nil {
		return nil, err
	}
	c, err := net.FileConn(f)
	if tc, ok := c.(*net.TCPConn); ok && err == nil {
		err = tc.SetNoDelay(true) // as net.Dialer does
	}
	return c, err
}

// socketType translates a network's name.
func socketType(network string) (typ, proto int, err error) {
	switch strings.TrimRight(network, "46") {
	case "tcp":
		return unix.SOCK_STREAM, unix.IPPROTO_TCP, nil
	case "mptcp":
		return unix.SOCK_STREAM, unix.IPPROTO_MPTCP, nil
	case "udp":
		return unix.SOCK_DGRAM, unix.IPPROTO_UDP, nil
	}
	return 0, 0, net.UnknownNetworkError(network)
}

// parseLocal reads an address with or without a port. Nothing is the zero value.
func parseLocal(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a, 0), nil
	}
	return netip.ParseAddrPort(s)
}

// startConnect makes a socket and starts its connection. The caller waits for the outcome.
func startConnect(typ, proto int, local, remote netip.AddrPort) (int, error) {
	domain := unix.AF_INET6
	if remote.Addr().Unmap().Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if local.IsValid() {
		// The kernel picks the port at connect, where it knows the whole 5-tuple.
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return -1, errors.Join(os.NewSyscallError("setsockopt", err), unix.Close(fd))
		}
		if err := unix.Bind(fd, sockaddr(local)); err != nil {
			return -1, errors.Join(os.NewSyscallError("bind", err), unix.Close(fd))
		}
	}
	if err := unix.Connect(fd, sockaddr(remote)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return -1, errors.Join(os.NewSyscallError("connect", err), unix.Close(fd))
	}
	return fd, nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if ip := a.Addr().Unmap(); ip.Is4() {
		return &unix.SockaddrInet4{Addr: ip.As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// waitConnected waits until the socket's connection stands, has failed, or ctx ends.
func waitConnected(ctx context.Context, f *os.File) error {
	// A deadline in the past wakes the wait below.
	stop := context.AfterFunc(ctx, func() { f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		errno, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err != nil || errno != 0 {
			result = os.NewSyscallError("connect", errors.Join(err, nonzero(errno)))
			return true
		}
		_, err = unix.Getpeername(int(fd))
		return err == nil // ENOTCONN: not yet
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return errors.Join(err, result)
}

func nonzero(errno int) error {
	if errno == 0 {
		return nil
	}
	return unix.Errno(errno)
}

// Listen announces on the host's address. The networks are those of Dial except udp.
func (h *Host) Listen(network, addr string) (net.Listener, error) {
	// Go's own default would accept MPTCP on every listener.
	var lc net.ListenConfig
	plain, multipath := strings.CutPrefix(network, "mp")
	lc.SetMultipathTCP(multipath)
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = lc.Listen(context.Background(), plain, addr)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", h.Name, err)
	}
	return l, nil
}
