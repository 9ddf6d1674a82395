//go:build linux

package tests

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// otherServers are SOCKS servers of other people, with the way to start them at the gateway's
// addresses: with the tests' user, or without users.
var otherServers = []struct {
	program string
	user    bool
	args    func(t *testing.T, n *netlab.Network) []string
}{
	{"microsocks", false, func(_ *testing.T, n *netlab.Network) []string { return nil }},
	{"microsocks", true, func(_ *testing.T, n *netlab.Network) []string { return []string{"-u", userName, "-P", userPassword} }},
	{"danted", false, func(t *testing.T, n *netlab.Network) []string {
		config := filepath.Join(t.TempDir(), "danted.conf")
		netlabtest.Check(t, os.WriteFile(config, fmt.Appendf(nil, "logoutput: stderr\ninternal: 0.0.0.0 port = %d\nexternal: %s\nsocksmethod: none\nclientmethod: none\n"+
			"client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\nsocks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n", netlab.SOCKSPort, netlab.HAGWanInterface), 0o644))
		return []string{"-f", config, "-p", filepath.Join(filepath.Dir(config), "pid")}
	}},
}

// startOther runs another SOCKS server in the place of the gateway until the test ends.
func startOther(t *testing.T, n *netlab.Network, program string, args ...string) {
	t.Helper()
	if program == "microsocks" {
		args = append(args, "-p", fmt.Sprint(netlab.SOCKSPort))
	}
	cmd := n.HAG.Command(program, args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr.Setpgid = true
	netlabtest.Check(t, n.HAG.Start(cmd))
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) //nolint:errcheck // danted has processes of its own
		cmd.Wait()                                      //nolint:errcheck // it is killed
		if t.Failed() {
			t.Log(log.String())
		}
	})
	eventually(t, program+" listens", func() bool {
		c, err := n.CPE.Dial(t.Context(), "tcp", "", n.GatewayAt(false).String())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func TestLANGatewayWithOtherSOCKSServers(t *testing.T) {
	for _, s := range otherServers {
		t.Run(fmt.Sprintf("%s, user %v", s.program, s.user), func(t *testing.T) {
			tooltest.Need(t, "a LAN gateway with "+s.program, s.program)
			n := netlabtest.TwoLines(t)
			startOther(t, n, s.program, s.args(t, n)...)
			upstream := "socks5://" + n.GatewayAt(false).String()
			if s.user {
				upstream = upstreamAt(n, false)
			}
			lan := startLANGateway(t, n, []string{upstream})
			server := echoServer(t, n, "tcp", netlab.Server4)
			for i := range 4 {
				c := dial(t, n.Client, server)
				sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
				go c.Write(sent) //nolint:errcheck // the reader sees it
				got := make([]byte, len(sent))
				_, err := io.ReadFull(c, got) // microsocks knows no half-closed connections
				if netlabtest.Check(t, err); !bytes.Equal(got, sent) {
					t.Errorf("connection %d: %d bytes come back of %d, or others", i, len(got), len(sent))
				}
				flow, known := flowFrom(t, lan.Box, c)
				if !known || flow.Action != "relay" || flow.Reason != "" && flow.Reason != "fin" {
					t.Errorf("connection %d: %+v", i, flow)
				}
				t.Logf("connection %d: set up in %v", i, time.Duration(flow.SetupUS)*time.Microsecond)
			}
			for name, c := range map[string]struct {
				to   netip.AddrPort
				want syscall.Errno
			}{
				"a refused port": {netip.AddrPortFrom(netlab.Server4, 1), syscall.ECONNREFUSED},
				"no route":       {netip.MustParseAddrPort("192.0.2.1:80"), syscall.ENETUNREACH},
			} {
				if took, errno := attempt(t, n.Client, c.to); errno != c.want {
					t.Errorf("%s: %v after %v, want %v", name, errno, took, c.want)
				}
			}
			p, err := lan.Paths(t.Context())
			netlabtest.Check(t, err)
			t.Logf("%+v", p.Upstreams)
		})
	}
}
