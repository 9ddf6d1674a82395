//go:build linux

package tests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/socks"
	"github.com/synbond/synbond/internal/users"
)

// bob is another user of the tests' gateways.
var bob = socks.Login{User: "bob", Password: socks.Secret("another password")}

// writeGatewayConfig writes a configuration file with the users alice and bob.
func writeGatewayConfig(t *testing.T, file, text string) {
	t.Helper()
	var lines []string
	for _, l := range []socks.Login{alice, bob} {
		line, err := users.Line(l.User, l.Password)
		netlabtest.Check(t, err)
		lines = append(lines, line)
	}
	passwords := filepath.Join(filepath.Dir(file), "users")
	netlabtest.Check(t, os.WriteFile(passwords, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	netlabtest.Check(t, os.WriteFile(file, fmt.Appendf(nil, "%s\n[gateway]\nusers = %q\n", text, passwords), 0o600))
}

// user returns the totals of a user.
func user(t *testing.T, b *netlab.Box, name string) api.UserTotals {
	t.Helper()
	d, err := b.Flows(t.Context())
	netlabtest.Check(t, err)
	return d.Totals.Gateway.Users[name]
}

// endless has bytes without an end.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

// A user whose quota is used up is refused, others are not; neither a restart nor another
// connection gives it back, but a larger quota does at once.
func TestQuotaOfAUser(t *testing.T) {
	n := netlabtest.TwoLines(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.toml")
	const limited = "[[user]]\nname = \"alice\"\nquota = \"1MB\"\nquota_period = \"day\"\n"
	writeGatewayConfig(t, file, limited)
	start := func() *gateway {
		b, err := n.StartGateway(synbond(), dir, "--config", file)
		netlabtest.Check(t, err)
		return &gateway{Network: n, Box: b, t: t}
	}
	g := start()
	server := echoServer(t, n, "tcp", netlab.Server4)
	c, err := g.ask("mptcp", g.at(false), alice, server.String())
	netlabtest.Check(t, err)
	go io.Copy(c, endless{})                         //nolint:errcheck // it is reset in the middle
	if n, err := io.Copy(io.Discard, c); n < 1<<19 { // the writer may have got the error
		t.Errorf("%d bytes have come back, error %v", n, err)
	}
	refused := func() {
		t.Helper()
		if _, err := g.ask("tcp", g.at(false), alice, server.String()); !errors.Is(err, socks.NotAllowed) {
			t.Errorf("error %v, want %v", err, socks.NotAllowed)
		}
		c, err := g.ask("tcp", g.at(false), bob, server.String())
		netlabtest.Check(t, err)
		chat(t, c, "others are served")
	}
	refused()
	d, err := g.Flows(t.Context())
	netlabtest.Check(t, err)
	if !slices.ContainsFunc(d.Flows, func(f api.Flow) bool { return f.State == "closed" && f.Reason == "user-quota" }) ||
		!slices.ContainsFunc(d.Flows, func(f api.Flow) bool { return f.State == "rejected" && f.Reason == "user-quota" }) {
		t.Errorf("%+v", d.Flows)
	}
	netlabtest.Check(t, g.Stop())
	g = start()
	refused()
	if q := user(t, g.Box, "alice").Quota; q == nil || q.Limit != 1e6 || q.Used < q.Limit {
		t.Errorf("quota after a restart: %+v", q)
	}
	writeGatewayConfig(t, file, strings.Replace(limited, "1MB", "1GB", 1))
	netlabtest.Check(t, g.Reload())
	eventually(t, "a larger quota applies", func() bool {
		_, err := g.ask("tcp", g.at(false), alice, server.String())
		return err == nil
	})
	netlabtest.Check(t, g.Stop())
	if log := strings.Join(g.Log(), "\n"); !strings.Contains(log, "applied=user") {
		t.Errorf("log: %s", log)
	}
}

// The rate of a user holds for all connections together; no byte is lost or changed.
func TestRateOfAUser(t *testing.T) {
	n := netlabtest.TwoLines(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.toml")
	writeGatewayConfig(t, file, "[[user]]\nname = \"*\"\nrate = \"40mbit\"\n")
	g := startGateway(t, n, synbond(), "--config", file)
	server := echoServer(t, n, "tcp", netlab.Server4)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<15)
	done := make(chan error)
	for _, network := range []string{"tcp", "mptcp"} {
		for range 2 {
			c, err := g.ask(network, g.at(false), alice, server.String())
			netlabtest.Check(t, err)
			go func() { c.Write(sent); c.(*net.TCPConn).CloseWrite() }() //nolint:errcheck // the reader sees it
			go func() {
				got, err := io.ReadAll(c)
				if err == nil && !bytes.Equal(got, sent) {
					err = fmt.Errorf("%d bytes come back of %d, or others", len(got), len(sent))
				}
				done <- err
			}()
		}
	}
	for range 4 {
		netlabtest.Check(t, <-done)
	}
	u := user(t, g.Box, userName)
	if u.RateLimit != 40e6 || u.BytesUp != 4*uint64(len(sent)) || u.BytesDown != u.BytesUp {
		t.Errorf("%+v", u)
	}
	if u := user(t, g.Box, ""); u.RateLimit != 0 {
		t.Errorf("without a user: %+v", u)
	}
	out, err := g.HAG.Dial(within(t, 20*time.Second), "tcp", "", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 9100).String())
	netlabtest.Check(t, err)
	defer out.Close()
	_, err = io.WriteString(out, "GET /metrics HTTP/1.0\r\n\r\n")
	netlabtest.Check(t, err)
	text, err := io.ReadAll(out)
	netlabtest.Check(t, err)
	if want := fmt.Sprintf(`synbond_user_bytes_total{direction="up",user="alice"} %d`, 4*len(sent)); !bytes.Contains(text, []byte(want)) && !bytes.Contains(text, fmt.Appendf(nil, `synbond_user_bytes_total{direction="up",user="alice"} %g`, float64(4*len(sent)))) {
		t.Errorf("no %s", want)
	}
}
