//go:build linux

package tests

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

func TestLANGatewayCarriesConnectionsThroughItsUpstream(t *testing.T) {
	for _, via6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("upstream over IPv6 %v", via6), func(t *testing.T) {
			g := newGateway(t)
			lan := startLANGateway(t, g.Network, []string{upstreamAt(g.Network, via6)})
			for _, f := range families {
				t.Run(f.name, func(t *testing.T) {
					server := echoServer(t, g.Network, "tcp", f.server)
					c := dial(t, g.Client, server)
					sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
					go func() { c.Write(sent); c.(*net.TCPConn).CloseWrite() }() //nolint:errcheck // the reader sees it
					got, err := io.ReadAll(c)
					if netlabtest.Check(t, err); !bytes.Equal(got, sent) {
						t.Errorf("%d bytes come back of %d, or others", len(got), len(sent))
					}
					if flow, known := flowFrom(t, lan.Box, c); !known || flow.Server != server || !flow.MPTCP || len(flow.Subflows) != 2 {
						t.Errorf("%+v", flow)
					}
					_, errno := attempt(t, g.Client, netip.AddrPortFrom(f.server, 1))
					if errno != 111 {
						t.Errorf("a refused port: %v", errno)
					}
				})
			}
		})
	}
}
