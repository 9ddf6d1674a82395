//go:build linux

package tests

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// echoUDP answers datagrams at a port of a host.
func echoUDP(t *testing.T, h *netlab.Host, at netip.AddrPort) {
	t.Helper()
	var c net.PacketConn
	err := h.Do(func() (err error) {
		c, err = net.ListenPacket("udp", at.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(b[:n], from) // the client will notice
		}
	}()
}

// askUDP sends a datagram and returns "answered", or the error of the socket.
func askUDP(t *testing.T, h *netlab.Host, to netip.AddrPort) string {
	t.Helper()
	var c net.Conn
	err := h.Do(func() (err error) {
		c, err = net.Dial("udp", to.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 20 { // a neighbour may have to be found first
		_, err = c.Write([]byte("hello"))
		if err == nil {
			_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
			_, err = c.Read(make([]byte, 100))
		}
		var errno syscall.Errno
		switch {
		case err == nil:
			return "answered"
		case errors.As(err, &errno):
			return errno.Error()
		}
	}
	return err.Error()
}

// QUIC is refused where a rule or a path says so, by an error that the client gets, and
// nothing else is.
func TestQUICIsRefusedWhereItIsConfigured(t *testing.T) {
	t.Parallel()
	refused := syscall.ECONNREFUSED.Error()
	for _, c := range []struct {
		name, config string
		paths        map[string]string // words of --path
		want         [2]string         // over IPv6, IPv4
	}{
		{"by default", "", nil, [2]string{"answered", "answered"}},
		{"by the path", "", map[string]string{"dsl": "quic=reject"}, [2]string{refused, refused}},
		{"by another path", "", map[string]string{"lte": "quic=reject"}, [2]string{"answered", "answered"}},
		{"by a rule", "[[rule]]\naction = \"relay\"\nquic = \"reject\"\n", nil, [2]string{refused, refused}},
		{"by a rule for one client", "[[rule]]\nfrom = [\"" + netlab.Client6.String() + "\"]\naction = \"relay\"\nquic = \"reject\"\n", nil, [2]string{refused, "answered"}},
		{"by a rule for one server", "[[rule]]\nto = [\"203.0.113.0/24\"]\naction = \"relay\"\nquic = \"reject\"\n", nil, [2]string{"answered", refused}},
		{"by the path, except for a rule", "[[rule]]\nto = [\"203.0.113.0/24\"]\naction = \"relay\"\nquic = \"pass\"\n", map[string]string{"dsl": "quic=reject"}, [2]string{refused, "answered"}},
		{"by a second rule, but the first applies", "[[rule]]\nto = [\"203.0.113.0/24\"]\naction = \"pass\"\n[[rule]]\naction = \"relay\"\nquic = \"reject\"\n", nil, [2]string{refused, "answered"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := netlabtest.Build(t, twoLines)
			hag, err := n.StartHAG(synbond(), scratch(t))
			if err != nil {
				t.Fatal(err)
			}
			cpe, err := n.StartCPE(synbond(), scratch(t), c.paths, "--config", configFile(t, c.config))
			p := &pair{Network: n, cpe: cpe, hag: hag}
			t.Cleanup(func() { p.down(t) })
			if err != nil {
				p.cpe = nil
				t.Fatal(err)
			}
			for i, f := range families {
				for port, want := range map[uint16]string{443: c.want[i], 4433: "answered"} {
					to := netip.AddrPortFrom(f.server, port)
					echoUDP(t, n.Server, to)
					if got := askUDP(t, n.Client, to); got != want {
						t.Errorf("%s, port %d: %s, want %s", f.name, port, got, want)
					}
				}
				l := listen(t, n.Server, "tcp", netip.AddrPortFrom(f.server, 443))
				serve(l, echo)
				chat(t, dial(t, n.Client, addrOf(l)), "over TCP")
			}
		})
	}
}
