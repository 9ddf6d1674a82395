//go:build linux

package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// lanGateway is a CPE whose connections go through SOCKS servers.
type lanGateway struct {
	*netlab.Network
	*netlab.Box
}

// startLANGateway starts a LAN gateway with the user of the tests' gateways.
func startLANGateway(t *testing.T, n *netlab.Network, upstreams []string, flags ...string) *lanGateway {
	t.Helper()
	all := []string{"--log-level", "debug", "--metrics", "127.0.0.1:9101"}
	if strings.Contains(strings.Join(upstreams, " "), "@") {
		file := filepath.Join(t.TempDir(), "password")
		netlabtest.Check(t, os.WriteFile(file, []byte(userPassword+"\n"), 0o600))
		all = append(all, "--password-file", file)
	}
	b, err := n.StartLANGateway(synbond(), scratch(t), upstreams, nil, append(all, flags...)...)
	netlabtest.Check(t, err)
	t.Cleanup(func() {
		if err := b.Stop(); err != nil {
			t.Errorf("%v; log: %s", err, strings.Join(b.Log(), "\n"))
		}
		if t.Failed() {
			t.Log(strings.Join(b.Log(), "\n"))
		}
		for _, line := range b.Log() {
			if strings.Contains(line, userPassword) {
				t.Errorf("the log has a password: %s", line)
			}
		}
	})
	return &lanGateway{n, b}
}

// upstreamAt returns the network's gateway as an upstream, with the tests' user.
func upstreamAt(n *netlab.Network, is6 bool) string {
	return "socks5://" + userName + "@" + n.GatewayAt(is6).String()
}
