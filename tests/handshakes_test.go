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

	"github.com/google/nftables"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/handshaketest"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/state"
)

// kernels is a [handshaketest.Network] of real kernels: a client and a server, with a
// CPE and a HAG between them.
type kernels struct {
	*pair
	last netip.AddrPort // the server of the last handshake
}

// handshakePorts are those of the server, by the way in which it takes a SYN. Some of
// them are those of rejections.
var handshakePorts = map[handshaketest.Server]uint16{
	handshaketest.NoRoute: 1001, handshaketest.NoHost: 1002, handshaketest.Forbids: 1003, handshaketest.Refuses: 1005,
	handshaketest.IsSilent: 1006, handshaketest.Answers: 1007, handshaketest.Resets: 1008,
}

func newKernels(t *testing.T) *kernels {
	p := start(t, netlabtest.Build(t, twoLines), "--config", configFile(t, "[timeouts]\ndial = \"2s\"\n"))
	in := nftables.ChainHookInput
	rejectSYNs(t, p.Server, in)
	silent := loss{"the server's SYN", p.Server, in, destPort, syn, true}
	if err := silent.install(handshakePorts[handshaketest.IsSilent]); err != nil {
		t.Fatal(err)
	}
	unlimited(t, p.Server, p.HAG, p.CPE)
	serveOn := func(s handshaketest.Server, fn func(net.Conn)) {
		serve(listen(t, p.Server, "tcp", netip.AddrPortFrom(netlab.Server6, handshakePorts[s])), fn)
	}
	serveOn(handshaketest.Answers, echo)
	serveOn(handshaketest.Resets, func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0) // it is one
		c.Close()
	})
	return &kernels{pair: p}
}

// Connect implements [handshaketest.Network].
func (k *kernels) Connect(t *testing.T, s handshaketest.Server) error {
	k.last = netip.AddrPortFrom(netlab.Server6, handshakePorts[s])
	c, err := k.Client.Dial(within(t, 6*time.Second), "tcp", "", k.last.String())
	if errors.Is(err, context.DeadlineExceeded) { // its kernel would wait longer than this test
		return syscall.ETIMEDOUT
	}
	if s == handshaketest.Resets && errors.Is(err, syscall.ECONNRESET) {
		return nil // it was connected; the reset came before the program could look
	}
	if err != nil {
		return err
	}
	defer c.Close()
	if s == handshaketest.Resets {
		_, _ = io.Copy(io.Discard, c) // until the reset comes
	}
	return nil
}

// Flow implements [handshaketest.Network].
func (k *kernels) Flow(t *testing.T) (s state.State, why state.Reason) {
	t.Helper()
	var last api.Flow
	eventually(t, "the flow is over", func() (ok bool) {
		last, ok = clientsFlow(t, k.cpe, k.last)
		for s = range state.NumStates {
			if s.String() == last.State {
				break
			}
		}
		return ok && !s.Live()
	})
	for why = range state.NumReasons {
		if why.String() == last.Reason {
			break
		}
	}
	return s, why
}

func TestHandshakesOnKernels(t *testing.T) {
	k := newKernels(t)
	for _, h := range handshaketest.All {
		t.Run(h.Name, func(t *testing.T) { h.Check(t, k) })
	}
}
