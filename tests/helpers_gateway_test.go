//go:build linux

package tests

import (
	"context"
	"fmt"
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
	b, err := n.StartGateway(p, t.TempDir(), append([]string{"--metrics", "127.0.0.1:9100"}, flags...)...)
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
func (g *gateway) at(is6 bool) netip.AddrPort { return g.GatewayAt(is6) }

// ask connects from the phone to the gateway and asks for a destination, with tcp or mptcp.
// The error is that of the gateway's reply, if there is one.
func (g *gateway) ask(network string, via netip.AddrPort, login socks.Login, to string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(g.t.Context(), 20*time.Second)
	defer cancel()
	c, err := netlab.SOCKS{Host: g.CPE, Network: network, Gateway: via, Login: login}.Dial(ctx, to)
	if err == nil {
		g.t.Cleanup(func() { c.Close() })
	}
	return c, err
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
