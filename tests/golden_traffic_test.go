//go:build linux

package tests

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/netlab"
)

// converse connects from a host to an echo server, exchanges a few words, and closes.
func converse(t *testing.T, h *netlab.Host, network string, to netip.AddrPort) {
	t.Helper()
	c, err := h.Dial(within(t, 20*time.Second), network, "", to.String())
	if err != nil {
		t.Fatal(err)
	}
	chat(t, c, "a word, and another one to make it longer than Ethernet's padding")
	hangUp(t, c)
}

// hangUp closes the sending half, and waits for the end of the other half.
func hangUp(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	c.Close()
}

// talk uses a relayed connection until it has a subflow on each line.
func talk(f family) func(*testing.T, *pair) {
	return func(t *testing.T, p *pair) {
		server := echoServer(t, p.Network, "tcp", f.server)
		c := dial(t, p.Client, server)
		chat(t, c, "hello")
		eventually(t, "a subflow by each line", func() bool {
			flow, ok := flowTo(t, p.hag, server)
			return ok && len(flow.Subflows) == 2
		})
		chat(t, c, string(bytes.Repeat([]byte("synbond "), 100)))
		hangUp(t, c)
	}
}

// failures connects to ports that answer with errors.
func failures(t *testing.T, p *pair) {
	unlimited(t, p.CPE, p.HAG, p.Server)
	rejectSYNs(t, p.Server, nftables.ChainHookInput)
	for _, f := range families {
		for _, r := range rejections {
			attempt(t, p.Client, netip.AddrPortFrom(f.server, r.port))
		}
		attempt(t, p.Client, netip.AddrPortFrom(f.server, 9)) // closed
	}
}

// noAnswer connects to a server that is deaf for longer than a box holds a SYN,
// and to one that answers then.
func noAnswer(t *testing.T, p *pair) {
	deaf := loss{"all SYNs", p.Server, nftables.ChainHookInput, destPort, syn, true}
	if err := deaf.install(9); err != nil {
		t.Fatal(err)
	}
	c, err := p.Client.Dial(within(t, 22*time.Second), "tcp", "", netip.AddrPortFrom(netlab.Server6, 9).String())
	if err == nil {
		c.Close()
		t.Error("a deaf server answers")
	}
	converse(t, p.Client, "tcp", echoServer(t, p.Network, "tcp", netlab.Server6))
}

// lossy drops one segment of each handshake.
func lossy(t *testing.T, p *pair) {
	for i, l := range []loss{
		{"the HAG's SYN", p.Server, nftables.ChainHookInput, destPort, syn, false},
		{"the CPE's SYN+ACK", p.Client, nftables.ChainHookInput, sourcePort, synACK, false},
		{"the CPE's SYN", p.HAG, nftables.ChainHookPrerouting, destPort, syn, false},
	} {
		server := echoServer(t, p.Network, "tcp", families[i%2].server)
		if err := l.install(server.Port()); err != nil {
			t.Fatal(err)
		}
		converse(t, p.Client, "tcp", server)
	}
}

// early sends data with the SYN.
func early(t *testing.T, p *pair) {
	const word = "early bird"
	for _, f := range families {
		fd := fastOpen(t, p.Client, echoServer(t, p.Network, "tcp", f.server), word)
		hears(t, fd, word)
		finish(t, fd)
	}
}

// extended puts IPv6 extension headers into all packets of a connection.
func extended(t *testing.T, p *pair) {
	// The next header and the length are the kernel's, the rest is PadN (RFC 8200, section 4.2).
	padding := string([]byte{0, 0, 1, 4, 0, 0, 0, 0})
	fd := socket(t, p.Client, echoServer(t, p.Network, "tcp", netlab.Server6), func(fd int, to unix.Sockaddr) error {
		for _, header := range []int{unix.IPV6_HOPOPTS, unix.IPV6_DSTOPTS} {
			if err := unix.SetsockoptString(fd, unix.SOL_IPV6, header, padding); err != nil {
				return err
			}
		}
		return unix.Connect(fd, to)
	})
	if _, err := unix.Write(fd, []byte("word")); err != nil {
		t.Fatal(err)
	}
	hears(t, fd, "word")
	finish(t, fd)
}

// finish closes the sending half of a socket.
func finish(t *testing.T, fd int) {
	t.Helper()
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		t.Error(err)
	}
}

// endToEnd connects client and server with MPTCP, and joins from another address.
func endToEnd(t *testing.T, p *pair) {
	second := netip.MustParseAddr("2001:db8:1::3")
	if err := p.Client.AddAddress(netlab.ClientInterface, netip.PrefixFrom(second, 64)); err != nil {
		t.Fatal(err)
	}
	set(t, p.Client, "1", "net.mptcp.pm_type")
	manager := pathManagerOf(t, p.Client)
	server := echoServer(t, p.Network, "mptcp", netlab.Server6)
	c, err := p.Client.Dial(within(t, 10*time.Second), "mptcp", netlab.Client6.String(), server.String())
	if err != nil {
		t.Fatal(err)
	}
	chat(t, c, "hello")
	manager.join(t, mptcp.Address{AddrPort: netip.AddrPortFrom(second, 0), ID: 1}, mptcp.Address{AddrPort: server})
	time.Sleep(200 * time.Millisecond) // for the join
	chat(t, c, "still there")
	hangUp(t, c)
}

// endings ends connections in all ways.
func endings(t *testing.T, p *pair) {
	l := listenAt(t, p.Server, netlab.Server6)
	serve(l, func(c net.Conn) { // repeats all once it has read all
		all, _ := io.ReadAll(c) // the client's reset is none of its business
		c.Write(all)            //nolint:errcheck // nor is this
	})
	c := dial(t, p.Client, addrOf(l))
	if _, err := io.WriteString(c, "half-close"); err != nil {
		t.Fatal(err)
	}
	hangUp(t, c)

	c = dial(t, p.Client, addrOf(l))
	if _, err := io.WriteString(c, "reset by the client"); err != nil {
		t.Fatal(err)
	}
	reset(t, c)

	rude := listenAt(t, p.Server, netlab.Server6)
	serve(rude, func(c net.Conn) {
		io.ReadFull(c, make([]byte, 1)) //nolint:errcheck // it is reset in any case
		c.(*net.TCPConn).SetLinger(0)   //nolint:errcheck // the capture shows it
	})
	c = dial(t, p.Client, addrOf(rude))
	if _, err := io.WriteString(c, "reset by the server"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the server has not reset")
	}

	flood(t, p.Client, netlab.Client6, addrOf(l), 1) // its kernel resets the answer
	polite := listenAt(t, p.Server, netlab.Server6)
	serve(polite, func(net.Conn) {}) // closes first, so that the client's port is free
	for range 3 {
		c, err := dialFrom(p.Client, netip.AddrPortFrom(netlab.Client6, 40123), addrOf(polite))
		if err != nil {
			t.Fatal(err)
		}
		hangUp(t, c)
	}
}
