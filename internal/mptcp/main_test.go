//go:build linux

package mptcp

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// The words that tests of several packages share.
var (
	check      = netlabtest.Check
	eventually = netlabtest.Eventually
	build      = netlabtest.TwoLines
)

func TestMain(m *testing.M) { netlabtest.Main(m) }

// pm opens a path manager on a host.
func pm(t *testing.T, h *netlab.Host) *PM {
	t.Helper()
	var p *PM
	check(t, h.Do(func() (err error) {
		p, err = Open()
		return err
	}))
	t.Cleanup(func() { check(t, p.Close()) })
	return p
}

// connected makes an MPTCP connection from the CPE's first line to the HAG.
func connected(t *testing.T, n *netlab.Network, network, server string) (c, s net.Conn) {
	t.Helper()
	l, err := n.HAG.Listen(network, net.JoinHostPort(server, "0"))
	check(t, err)
	t.Cleanup(func() { l.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err = n.CPE.Dial(ctx, network, "", l.Addr().String())
	check(t, err)
	t.Cleanup(func() { c.Close() })
	s, err = l.Accept()
	check(t, err)
	t.Cleanup(func() { s.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	s.SetDeadline(time.Now().Add(20 * time.Second))
	return c, s
}

func at(addr netip.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr, port) }
