//go:build linux

package box

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/socks"
)

// greet connects to a SOCKS server over a path and speaks with it: until it would take a request,
// or with whole until it has answered one. It returns the time until the server's first answer.
func greet(ctx context.Context, from core.Source, at netip.AddrPort, client *socks.Client, whole bool) (trip time.Duration, err error) {
	began := time.Now()
	conn, err := dialFrom(ctx, from, at)
	if err != nil {
		return 0, causeOf(err)
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetLinger(0)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	out := client.Start(nil)
	defer func() { clear(out) }()
	for b := make([]byte, client.Room()); ; {
		if _, err := conn.Write(out); err != nil {
			return 0, causeOf(err)
		}
		clear(out)
		n, err := conn.Read(b[:min(len(b), client.Room())])
		if trip == 0 {
			trip = time.Since(began)
		}
		switch {
		case n > 0:
			out, _ = client.Receive(out[:0], b[:n])
		case ctx.Err() != nil:
			_ = client.TimedOut()
		case err != nil:
			_ = client.Closed()
		}
		switch {
		case client.Err() != nil:
			return trip, client.Err()
		case client.Step() == socks.Over, client.Step() == socks.Request && !whole:
			return trip, nil
		}
	}
}

// dialFrom connects by TCP over a path.
func dialFrom(ctx context.Context, from core.Source, at netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from.Addr, 0)),
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), from.Interface) }), err)
		},
	}
	d.SetMultipathTCP(false)
	return d.DialContext(ctx, "tcp", at.String())
}

// causeOf returns the error of the kernel in an error of package net, and silence as no error of
// its own.
func causeOf(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return syscall.ETIMEDOUT
}
