//go:build linux

package probe

import (
	"context"
	"net"
	"net/netip"
	"sync"
)

// DialServers returns a [Dialer] for paths to servers which take no probes
// ([paths.ProbeConfig.ByTCP]): nothing is sent, and Knock reports whether any of the servers is
// there. At returns the servers, by address family.
func DialServers(at func(is4 bool) []netip.AddrPort) Dialer {
	return func(ifname string, local netip.Addr, _ netip.AddrPort) (Conn, error) {
		return &serversConn{at: at, ifname: ifname, local: local, closed: make(chan struct{})}, nil
	}
}

// serversConn is a [Conn] of DialServers.
type serversConn struct {
	at     func(is4 bool) []netip.AddrPort
	ifname string
	local  netip.Addr
	once   sync.Once
	closed chan struct{}
}

// Read implements [Conn]. Nothing comes.
func (c *serversConn) Read([]byte) (int, error) {
	<-c.closed
	return 0, net.ErrClosed
}

// Write implements [Conn]. It sends nothing.
func (c *serversConn) Write(b []byte) (int, error) { return len(b), nil }

// Close implements [Conn].
func (c *serversConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// Knock implements [Conn]: one answer is enough.
func (c *serversConn) Knock(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all := c.at(c.local.Is4())
	answers := make(chan bool, len(all))
	for _, at := range all {
		go func() { answers <- knock(ctx, c.ifname, c.local, at) }()
	}
	for range all {
		if <-answers {
			return true
		}
	}
	return false
}
