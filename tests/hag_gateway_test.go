//go:build linux

package tests

import (
	"io"
	"net/netip"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// TestHAGIsAGatewayToo has one box serve a CPE and clients that ask.
func TestHAGIsAGatewayToo(t *testing.T) {
	p := &pair{Network: netlabtest.TwoLines(t), dir: scratch(t)}
	socks := netip.AddrPortFrom(p.Lines[0].HAG4, 1080)
	var err error
	p.hag, err = p.StartHAG(synbond(), p.dir, "--socks", socks.String(), "--users", usersFile(t), "--state-dir", p.dir)
	netlabtest.Check(t, err)
	t.Cleanup(func() { p.down(t) })
	p.cpe, err = p.StartCPE(synbond(), p.dir, nil)
	netlabtest.Check(t, err)
	for _, f := range families {
		p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
	}
	g := &gateway{Network: p.Network, Box: p.hag, t: t}
	for _, f := range families {
		server := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
		c, err := g.ask("mptcp", socks, alice, server.String())
		netlabtest.Check(t, err)
		word, err := io.ReadAll(c)
		if netlabtest.Check(t, err); string(word) != "hello" {
			t.Errorf("%s: %q, want hello", f.name, word)
		}
		if flow := g.flow(t, c.LocalAddr().String()); flow.User != userName || !flow.MPTCP || flow.Server != server {
			t.Errorf("%s: %+v", f.name, flow)
		}
	}
	if _, err := g.ask("tcp", socks, alice, netip.AddrPortFrom(netlab.Client4, 80).String()); err == nil {
		t.Error("a client may ask for a private address")
	}
}
