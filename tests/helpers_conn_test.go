//go:build linux

package tests

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// listen opens a listener on a host until the test ends, on a free port if addr's
// port is 0.
func listen(t *testing.T, h *netlab.Host, network string, addr netip.AddrPort) net.Listener {
	t.Helper()
	l, err := h.Listen(network, addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// listenAt is listen with TCP on a free port of an address.
func listenAt(t *testing.T, h *netlab.Host, addr netip.Addr) net.Listener {
	t.Helper()
	return listen(t, h, "tcp", netip.AddrPortFrom(addr, 0))
}

// serve calls fn for every connection of l until the listener closes.
func serve(l net.Listener, fn func(net.Conn)) {
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go func() {
					defer c.Close()
					fn(c)
				}()
			}
		}
	}()
}

// echo sends back all bytes of a connection.
func echo(c net.Conn) { io.Copy(c, c) }

// chat sends a word to an echo server, and waits for it to come back.
func chat(t *testing.T, c net.Conn, word string) {
	t.Helper()
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(word))); err != nil {
		t.Fatal(err)
	}
}

// addrOf returns a listener's address.
func addrOf(l net.Listener) netip.AddrPort {
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// traffic runs [netlab.ServeTraffic] on a host, and returns a dialer to it from
// another host.
func traffic(t *testing.T, server, client *netlab.Host, addr netip.Addr) netlab.Dialer {
	t.Helper()
	l := listenAt(t, server, addr)
	go netlab.ServeTraffic(l) //nolint:errcheck // ends with the listener
	return func(ctx context.Context) (net.Conn, error) {
		return client.Dial(ctx, "tcp", "", l.Addr().String())
	}
}

// dial connects from a host by TCP, with a deadline for all that follows.
func dial(t *testing.T, h *netlab.Host, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := h.Dial(within(t, 20*time.Second), "tcp", "", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// attempt connects and closes. It returns the time that connecting took, and the
// error number, 0 for none.
func attempt(t *testing.T, h *netlab.Host, to netip.AddrPort) (time.Duration, syscall.Errno) {
	t.Helper()
	start := time.Now()
	c, err := h.Dial(within(t, 20*time.Second), "tcp", "", to.String())
	took := time.Since(start)
	if err == nil {
		c.Close()
		return took, 0
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		t.Fatal(err)
	}
	return took, errno
}

// quickest returns the shortest time of five attempts, and the error of the last one.
func quickest(t *testing.T, h *netlab.Host, to netip.AddrPort) (best time.Duration, errno syscall.Errno) {
	t.Helper()
	best = time.Hour
	for range 5 {
		var took time.Duration
		took, errno = attempt(t, h, to)
		best = min(best, took)
	}
	return best, errno
}
