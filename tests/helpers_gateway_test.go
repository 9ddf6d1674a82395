//go:build linux

package tests

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/socks"
	"github.com/synbond/synbond/internal/users"
)

// The user of the tests' gateways.
const (
	userName     = "alice"
	userPassword = "correct horse battery"
)

// socksPort is the port of the tests' gateways.
const socksPort = 1080

// gateway is a SOCKS gateway in the place of a HAG, and a phone in the place of a CPE: its
// radios are the lines.
type gateway struct {
	*netlab.Network
	*netlab.Box
	t *testing.T
}

// newGateway starts a gateway at the first line's address of the HAG, with a user.
func newGateway(t *testing.T, flags ...string) *gateway {
	t.Helper()
	n := netlabtest.TwoLines(t)
	file := usersFile(t)
	return startGateway(t, n, synbond(), append([]string{"--users", file, "--log-level", "debug"}, flags...)...)
}

// startGateway starts a gateway with these flags.
func startGateway(t *testing.T, n *netlab.Network, p netlab.Program, flags ...string) *gateway {
	t.Helper()
	g := &gateway{Network: n, t: t}
	all := []string{"--congestion-control", n.Multipath, "--metrics", "127.0.0.1:9100"}
	for _, at := range []netip.Addr{n.Lines[0].HAG6, n.Lines[0].HAG4} {
		all = append(all, "--socks", netip.AddrPortFrom(at, socksPort).String())
	}
	b, err := p.StartBox(n.HAG, t.TempDir(), "gateway", append(all, flags...)...)
	netlabtest.Check(t, err)
	g.Box = b
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Errorf("%v; log: %s", err, strings.Join(b.Log(), "\n"))
		}
		for _, line := range b.Log() {
			if strings.Contains(line, userPassword) {
				t.Errorf("the log has a password: %s", line)
			}
		}
	})
	return g
}

// usersFile writes a users' file.
func usersFile(t *testing.T) string {
	t.Helper()
	line, err := users.Line(userName, []byte(userPassword))
	netlabtest.Check(t, err)
	file := filepath.Join(t.TempDir(), "users")
	netlabtest.Check(t, os.WriteFile(file, []byte(line+"\n"), 0o600))
	return file
}

// at returns the gateway's address for an address family.
func (g *gateway) at(is6 bool) netip.AddrPort {
	if is6 {
		return netip.AddrPortFrom(g.Lines[0].HAG6, socksPort)
	}
	return netip.AddrPortFrom(g.Lines[0].HAG4, socksPort)
}

// ask connects from the phone to the gateway and asks for a destination, with tcp or mptcp.
// The error is that of the gateway's reply, if there is one.
func (g *gateway) ask(network string, via netip.AddrPort, login socks.Login, to string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	c, err := g.CPE.Dial(ctx, network, "", via.String())
	if err != nil {
		return nil, err
	}
	if err := askBy(c, login, to); err != nil {
		c.Close()
		return nil, err
	}
	g.t.Cleanup(func() { c.Close() })
	return c, nil
}

// askBy asks for a destination on a connection, with all messages at once.
func askBy(c net.Conn, login socks.Login, to string) error {
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return err
	}
	var number uint16
	if _, err := fmt.Sscan(port, &number); err != nil {
		return err
	}
	d, err := socks.NewDestination(host, number)
	if err != nil {
		return err
	}
	client, err := socks.NewClient(d, login, true)
	if err != nil {
		return err
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write(client.Start(nil)); err != nil {
		return err
	}
	var b [1]byte // no more than the messages
	for {
		if _, err := io.ReadFull(c, b[:]); err != nil {
			return fmt.Errorf("the gateway's answer: %w", err)
		}
		switch out, want := client.Receive(nil, b[:]); {
		case want == socks.Failed:
			return client.Err()
		case want == socks.Done:
			return c.SetDeadline(time.Time{})
		case len(out) > 0:
			if _, err := c.Write(out); err != nil {
				return err
			}
		}
	}
}

// alice is the login of the tests' user.
var alice = socks.Login{User: userName, Password: socks.Secret(userPassword)}

// mounted returns synbond as a program that sees another file in the place of one.
func mounted(file, over string) netlab.Program {
	script := fmt.Sprintf("mount --bind %s %s && exec %s \"$@\"", file, over, "/proc/self/exe")
	exe, err := os.Executable()
	if err == nil {
		script = strings.ReplaceAll(script, "/proc/self/exe", exe)
	}
	return netlab.Program{Path: "unshare", Args: []string{"-m", "sh", "-c", script, "sh"}, Env: []string{roleVar + "=synbond"}}
}
