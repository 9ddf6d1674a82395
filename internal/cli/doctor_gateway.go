//go:build linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/users"
)

// runForGateway checks what a gateway needs: much less than a box on the path.
func (with doctorFlags) runForGateway(ctx context.Context, w io.Writer, cfg *box.Config) error {
	d := diagnosis{OK: true}
	d.kernel()
	if host.IsNetAdmin() {
		d.add("privilege", "ok", "", "")
	} else {
		d.add("privilege", "note", "without CAP_NET_ADMIN the gateway takes the machine's MPTCP settings as they are", "give it CAP_NET_ADMIN, or make the settings below by hand")
	}
	families := map[string]int{"IPv6": unix.AF_INET6, "IPv4": unix.AF_INET}
	for _, name := range []string{"IPv6", "IPv4"} {
		d.judge("MPTCP sockets, "+name, probeMPTCP(families[name]), "kernel options CONFIG_MPTCP and CONFIG_MPTCP_IPV6, sysctl net.mptcp.enabled=1")
	}
	d.prefer("subflows of clients", enoughSubflows(), fmt.Sprintf("ip mptcp limits set subflows %d", paths.MaxPaths))
	d.gateway(&cfg.Gateway)
	if err := d.box(ctx, with.control); err != nil {
		return err
	}
	return with.end(w, d)
}

// gateway checks the listeners and users of a gateway, or of a HAG that is one, too.
func (d *diagnosis) gateway(cfg *box.GatewayConfig) {
	for _, at := range cfg.Listen {
		d.judge("listener "+at.String(), isHere(at.Addr()), "name an address of this machine with --socks")
	}
	if file := cfg.Users; file != "" {
		d.judge("users' file "+file, readUsers(file), "write it with `synbond passwd`, for the gateway's user only (chmod 600)")
	}
}

// probeMPTCP makes an MPTCP socket.
func probeMPTCP(family int) error {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_MPTCP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	return unix.Close(fd)
}

// enoughSubflows returns an error if this machine takes fewer subflows than a client may have
// paths. A gateway with CAP_NET_ADMIN raises the limit itself.
func enoughSubflows() error {
	if host.IsNetAdmin() {
		return nil
	}
	pm, err := mptcp.Open()
	if err != nil {
		return err
	}
	limits, err := pm.Limits()
	if err == nil && limits.Subflows < paths.MaxPaths {
		err = fmt.Errorf("connections can have %d further subflows", limits.Subflows)
	}
	return errors.Join(err, pm.Close())
}

// isHere returns an error if an address is none of this machine's.
func isHere(a netip.Addr) error {
	if a.IsUnspecified() {
		return nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, one := range all {
		if p, err := netip.ParsePrefix(one.String()); err == nil && (p.Addr().Unmap() == a || a.IsLoopback() && p.Contains(a)) {
			return nil
		}
	}
	return fmt.Errorf("%s is no address of this machine", a)
}

// readUsers reads a users' file.
func readUsers(file string) error {
	u, err := users.Open(users.Config{File: file, Now: func() time.Duration { return 0 }})
	if err == nil && u.Len() == 0 {
		err = errors.New("it has no users")
	}
	return err
}
