//go:build linux

package tests

import (
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
)

// crowdVar multiplies the clients of a crowd.
const crowdVar = "SYNBOND_TESTS_CROWD"

// crowd returns a number of clients, or as many more as the environment asks for.
func crowd(n int) int {
	times := 1
	fmt.Sscan(os.Getenv(crowdVar), &times) //nolint:errcheck // without it once
	return n * times
}

// resident returns the memory of the gateway's process in bytes.
func (g *gateway) resident(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", g.PID()))
	netlabtest.Check(t, err)
	return int(statusField(t, b, "VmRSS:")) << 10
}

func TestIdleClientsCostLittle(t *testing.T) {
	const most = 8 << 10 // bytes of process memory
	g := startGateway(t, netlabtest.TwoLines(t), synbond(), "--open")
	l := listen(t, g.Server, "tcp", netip.AddrPortFrom(netlab.Server4, 0))
	serve(l, func(c net.Conn) { io.Copy(io.Discard, c) }) // an echo takes a pipe for each
	var all []net.Conn
	grow := func(n int) {
		for range n {
			c, err := g.ask("tcp", g.at(false), socks.Login{}, l.Addr().String())
			netlabtest.Check(t, err)
			all = append(all, c)
		}
	}
	grow(200) // the process has what it needs for any
	before, n := g.resident(t), crowd(1000)
	grow(n)
	each := (g.resident(t) - before) / n
	if t.Logf("an idle client costs %d bytes, among %d", each, n); each > most {
		t.Errorf("want at most %d", most)
	}
	for _, c := range all {
		c.Close()
	}
	eventually(t, "all flows are over", func() bool {
		d, err := g.Flows(t.Context())
		netlabtest.Check(t, err)
		return d.Totals.Live["relaying"] == 0
	})
}

// Half greetings beyond the limit make room for others, one by one; so do malformed ones, at
// once. Others are served meanwhile, and nothing is left.
func TestCrowdOfHalfGreetingsLeavesRoom(t *testing.T) {
	n := netlabtest.TwoLines(t)
	file := filepath.Join(t.TempDir(), "gateway.toml")
	netlabtest.Check(t, os.WriteFile(file, []byte("[limits]\nhalf_open = 100\n[gateway]\nopen = true\n"), 0o644))
	g := startGateway(t, n, synbond(), "--config", file)
	server := echoServer(t, n, "tcp", netlab.Server4)
	var half []net.Conn
	for i := range crowd(300) {
		c, err := n.CPE.Dial(within(t, 20*time.Second), "tcp", "", g.at(false).String())
		netlabtest.Check(t, err)
		_, err = io.WriteString(c, []string{"\x05", "\x05\x01\x00\x05\x01"}[i%2])
		netlabtest.Check(t, err)
		half = append(half, c)
	}
	wrong := crowd(1000)
	for i := range wrong {
		c, err := n.CPE.Dial(within(t, 20*time.Second), "tcp", "", g.at(false).String())
		netlabtest.Check(t, err)
		_, err = io.WriteString(c, []string{"GET / HTTP/1.1\r\n\r\n", "\x04\x01", "\x05\x00", "\x05\x01\x80", "\xff"}[i%5])
		netlabtest.Check(t, err)
		c.Close()
	}
	c, err := g.ask("tcp", g.at(false), socks.Login{}, server.String())
	netlabtest.Check(t, err)
	chat(t, c, "served")
	for _, c := range half {
		c.Close()
	}
	eventually(t, "all are counted", func() bool {
		d, err := g.Flows(t.Context())
		netlabtest.Check(t, err)
		p, sum := d.Totals.Gateway.Prefaces, uint64(0)
		for _, n := range p {
			sum += n
		}
		return p["crowded"] > 0 && p["not-socks"]+p["socks4"]+p["no-method"] > uint64(wrong)/2 && sum <= uint64(len(half)+wrong)
	})
}

// Half a greeting has an end, and others do not wait for it.
func TestHalfAGreetingIsClosed(t *testing.T) {
	g := startGateway(t, netlabtest.TwoLines(t), synbond(), "--open")
	c, err := g.CPE.Dial(within(t, 20*time.Second), "mptcp", "", g.at(true).String())
	netlabtest.Check(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "\x05")
	netlabtest.Check(t, err)
	netlabtest.Check(t, c.SetDeadline(time.Now().Add(time.Minute)))
	if b, err := io.ReadAll(c); len(b) != 0 || err != nil {
		t.Errorf("%x, error %v", b, err)
	}
	if n := g.left(t, "timed-out"); n != 1 {
		t.Errorf("%d have timed out", n)
	}
}

// statusField returns a number of /proc/PID/status.
func statusField(t *testing.T, status []byte, name string) (n uint64) {
	t.Helper()
	for line := range strings.Lines(string(status)) {
		var label string
		if k, _ := fmt.Sscan(line, &label, &n); k == 2 && label == name {
			return n
		}
	}
	t.Fatalf("no %s", name)
	return 0
}
