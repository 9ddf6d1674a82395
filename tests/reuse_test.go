//go:build linux

package tests

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// TestPortsUsedAgainWithinTimeWait has a client use its port again as soon as its connection
// is closed, which its own kernel allows as it keeps no TIME-WAIT: while both connections are
// relayed, and when the second one passes. A SYN that is sent once is answered once.
func TestPortsUsedAgainWithinTimeWait(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "ports that are used again", "sysctl", "sh")
	const relay, pass = "", "action = \"pass\"\n"
	n := netlabtest.Build(t, twoLines)
	admin(t, n.Client, "sysctl -qw net.ipv4.tcp_max_tw_buckets=0")
	file := configFile(t, relay)
	p := start(t, n, "--config", file)
	port := uint16(20000)
	for _, f := range families {
		to := greetUntil(t, p, f.server)
		for _, who := range []string{"client", "server"} {
			for _, c := range []struct{ name, first, second string }{
				{"relayed twice", relay, relay}, {"relayed, then passed", relay, pass}, {"passed, then relayed", pass, relay},
			} {
				t.Run(c.name+", "+f.name+", the "+who+" closes first", func(t *testing.T) {
					port++
					from := netip.AddrPortFrom(f.client, port)
					p.setAction(t, file, c.first, to)
					p.exchange(t, from, to, who)
					p.setAction(t, file, c.second, to)
					seen := tap(t, p.Network)
					p.exchange(t, from, to, who)
					if got, want := kinds(t, seen.client), map[string]int{"plain": 1, "plain answer": 1}; !maps.Equal(got, want) {
						t.Errorf("at the client: %v, want %v", got, want)
					}
				})
			}
		}
	}
}

// greetUntil serves a word, and closes when it has sent it, or when the client has closed: as
// the client's first byte says.
func greetUntil(t *testing.T, p *pair, at netip.Addr) netip.AddrPort {
	t.Helper()
	l := listenAt(t, p.Server, at)
	serve(l, func(c net.Conn) {
		who := make([]byte, 1)
		if _, err := io.ReadFull(c, who); err != nil {
			return
		}
		io.WriteString(c, "hello") //nolint:errcheck // the client will notice
		if who[0] == 'c' {
			io.Copy(io.Discard, c) //nolint:errcheck // until it closes
		}
	})
	return addrOf(l)
}

// setAction has the CPE take another default action, and waits until new flows have it.
func (p *pair) setAction(t *testing.T, file, text string, to netip.AddrPort) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.cpe.Reload(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the action holds", func() bool {
		c := dial(t, p.Client, to)
		defer c.Close()
		f, ok := flowFrom(t, p.cpe, c)
		return ok && (f.State == "passed") == (text != "")
	})
}

// exchange has a client connect from an address and port, and hear the server's word.
func (p *pair) exchange(t *testing.T, from, to netip.AddrPort, first string) {
	t.Helper()
	var got []byte
	err := p.Client.Do(func() error {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from), Timeout: 5 * time.Second}
		conn, err := d.Dial("tcp", to.String())
		if err != nil {
			return err
		}
		defer conn.Close()
		c := conn.(*net.TCPConn)
		if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		if _, err := io.WriteString(c, first[:1]); err != nil {
			return err
		}
		got = make([]byte, 5)
		if _, err := io.ReadFull(c, got); err != nil {
			return err
		}
		if first == "client" {
			err = c.CloseWrite()
		}
		_, err2 := io.ReadAll(c)
		return errors.Join(err, err2)
	})
	if err != nil || string(got) != "hello" {
		t.Errorf("from %s: %q, %v", from, got, err)
	}
}
