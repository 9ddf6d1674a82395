//go:build linux

package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
	"github.com/synbond/synbond/internal/tooltest"
)

func TestGatewayCarriesWhatClientsAskFor(t *testing.T) {
	g := newGateway(t)
	for _, f := range families {
		server := echoServer(t, g.Network, "tcp", f.server)
		for _, network := range []string{"tcp", "mptcp"} {
			t.Run(f.name+" "+network, func(t *testing.T) {
				c, err := g.ask(network, g.at(f.server.Is6()), alice, server.String())
				netlabtest.Check(t, err)
				sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
				go func() { c.Write(sent); c.(*net.TCPConn).CloseWrite() }() //nolint:errcheck // the reader sees it
				got, err := io.ReadAll(c)
				if netlabtest.Check(t, err); !bytes.Equal(got, sent) {
					t.Errorf("%d bytes come back of %d, or others", len(got), len(sent))
				}
				flow := g.flow(t, c.LocalAddr().String())
				if flow.Server != server || flow.User != userName || flow.MPTCP != (network == "mptcp") || flow.At != g.at(f.server.Is6()) {
					t.Errorf("%+v", flow)
				}
			})
		}
	}
	d, err := g.Flows(t.Context())
	netlabtest.Check(t, err)
	if u := d.Totals.Gateway.Users[userName]; u.Flows+uint64(u.Live) != 4 || u.BytesUp < 4<<20 {
		t.Errorf("the user has %+v", u)
	}
	if n := d.Totals.Gateway.Logins; n["remembered"] == 0 || n["right"] != 4 {
		t.Errorf("logins: %v", n)
	}
}

// flow returns the flow of a client.
func (g *gateway) flow(t *testing.T, client string) (found api.Flow) {
	t.Helper()
	eventually(t, "a flow of "+client, func() bool {
		d, err := g.Flows(t.Context())
		netlabtest.Check(t, err)
		for _, f := range d.Flows {
			if f.Client.String() == client {
				found = f
				return true
			}
		}
		return false
	})
	return found
}

func TestServerSeesTheGateway(t *testing.T) {
	g := newGateway(t)
	l := listen(t, g.Server, "tcp", netip.AddrPortFrom(netlab.Server4, 0))
	go netlab.ServeTraffic(l) //nolint:errcheck // ends with the listener
	seen, err := netlab.PeerSeen(t.Context(), func(context.Context) (net.Conn, error) {
		return g.ask("mptcp", g.at(false), alice, l.Addr().String())
	})
	if netlabtest.Check(t, err); seen.Addr() != netlab.HAGWan4 {
		t.Errorf("the server sees %v", seen)
	}
}

func TestReplySaysWhyThereIsNoConnection(t *testing.T) {
	tooltest.Need(t, "names of a gateway", "unshare", "mount")
	hosts := filepath.Join(t.TempDir(), "hosts")
	netlabtest.Check(t, os.WriteFile(hosts, []byte(
		"127.0.0.1 localhost inside.example\nfd00::1 inside.example\n"+
			"203.0.113.1 itself.example\n127.0.0.1 mixed.example\n"+netlab.Server4.String()+" mixed.example www.example\n"+netlab.Server6.String()+" www.example\n"), 0o644))
	n := netlabtest.TwoLines(t)
	g := startGateway(t, n, mounted(hosts, "/etc/hosts"), "--users", usersFile(t), "--log-level", "debug")
	web4 := echoServer(t, n, "tcp", netlab.Server4)
	nobody := socks.Login{User: "mallory", Password: socks.Secret(userPassword)}
	wrong := socks.Login{User: userName, Password: socks.Secret("x")}
	for _, c := range []struct {
		to    string
		login socks.Login
		want  error
	}{
		{fmt.Sprintf("www.example:%d", web4.Port()), alice, nil}, // refused over IPv6, answered over IPv4
		{fmt.Sprintf("WWW.Example.:%d", web4.Port()), alice, nil},
		{fmt.Sprintf("mixed.example:%d", web4.Port()), alice, nil},
		{netip.AddrPortFrom(netlab.Server4, 1).String(), alice, socks.ConnectionRefused},
		{"www.example:1", alice, socks.ConnectionRefused},
		{"192.0.2.1:80", alice, socks.NetworkUnreachable},
		{"127.0.0.1:80", alice, socks.NotAllowed},
		{"[::1]:80", alice, socks.NotAllowed},
		{"10.0.0.1:80", alice, socks.NotAllowed},
		{g.at(false).String(), alice, socks.NotAllowed},
		{netip.AddrPortFrom(netlab.HAGWan4, 80).String(), alice, socks.NotAllowed},
		{"inside.example:80", alice, socks.NotAllowed},
		{"itself.example:80", alice, socks.NotAllowed},
		{"localhost:80", alice, socks.NotAllowed},
		{"no.such.name.example:80", alice, socks.HostUnreachable},
		{web4.String(), nobody, socks.WrongLogin},
		{web4.String(), wrong, socks.WrongLogin},
		{web4.String(), socks.Login{}, socks.NoMethod},
	} {
		t.Run(c.to+" "+c.login.User, func(t *testing.T) {
			if _, err := g.ask("tcp", g.at(false), c.login, c.to); !errors.Is(err, c.want) && !(c.want == socks.NoMethod && errors.Is(err, socks.OtherMethod)) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

// What no client of ours would send gets the right answer, or none.
func TestGatewayAnswersOddClients(t *testing.T) {
	g := startGateway(t, netlabtest.TwoLines(t), synbond(), "--open")
	const greeted = "\x05\x00"
	refused := func(reply byte) string { return greeted + string([]byte{5, reply, 0, 1, 0, 0, 0, 0, 0, 0}) }
	for _, c := range []struct{ name, send, want, counter string }{
		{"port 0", "\x05\x01\x00\x05\x01\x00\x01\xcb\x00\x71\x02\x00\x00", refused(1), "bad-port"},
		{"BIND", "\x05\x01\x00\x05\x02\x00\x01\xcb\x00\x71\x02\x00\x50", refused(7), "bad-command"},
		{"UDP ASSOCIATE", "\x05\x01\x00\x05\x03\x00\x01\xcb\x00\x71\x02\x00\x50", refused(7), "bad-command"},
		{"another type of address", "\x05\x01\x00\x05\x01\x00\x02\xcb\x00\x71\x02\x00\x50", refused(8), "bad-address-type"},
		{"a name of 255 bytes", "\x05\x01\x00\x05\x01\x00\x03\xff" + strings.Repeat("a", 255) + "\x00\x50", refused(1), "bad-name"},
		{"no method", "\x05\x01\x80", "\x05\xff", "no-method"},
		{"SOCKS 4", "\x04\x01\x00\x50\xcb\x00\x71\x02\x00", "", "socks4"},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", "", "not-socks"},
		{"half a greeting", "\x05\x02\x00", "", "truncated"},
		{"half a request", "\x05\x01\x00\x05\x01", greeted, "truncated"},
		{"a forbidden destination with data behind it", "\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50" + strings.Repeat("x", 1<<16), refused(2), "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, network := range []string{"tcp", "mptcp"} {
				before := g.left(t, c.counter)
				conn, err := g.CPE.Dial(within(t, 20*time.Second), network, "", g.at(false).String())
				netlabtest.Check(t, err)
				defer conn.Close()
				netlabtest.Check(t, conn.SetDeadline(time.Now().Add(20*time.Second)))
				_, err = io.WriteString(conn, c.send)
				netlabtest.Check(t, err)
				netlabtest.Check(t, conn.(*net.TCPConn).CloseWrite())
				if got, err := io.ReadAll(conn); string(got) != c.want || err != nil {
					t.Errorf("%s: answer %x, error %v; want %x", network, got, err, c.want)
				}
				eventually(t, "one more "+c.counter, func() bool { return g.left(t, c.counter) == before+1 })
			}
		})
	}
}

// left returns the number of clients that have left for a reason.
func (g *gateway) left(t *testing.T, reason string) uint64 {
	t.Helper()
	d, err := g.Flows(t.Context())
	netlabtest.Check(t, err)
	return d.Totals.Gateway.Prefaces[reason]
}

func TestGatewayServesCurl(t *testing.T) {
	tooltest.Need(t, "curl with a gateway", "curl", "unshare", "mount")
	hosts := filepath.Join(t.TempDir(), "hosts")
	netlabtest.Check(t, os.WriteFile(hosts, fmt.Appendf(nil, "%s www.example\n%s www.example\n", netlab.Server6, netlab.Server4), 0o644))
	g := startGateway(t, netlabtest.TwoLines(t), mounted(hosts, "/etc/hosts"), "--users", usersFile(t))
	body := strings.Repeat("all is well\n", 1<<15)
	for _, at := range []netip.Addr{netlab.Server4, netlab.Server6} {
		l := listen(t, g.Server, "tcp", netip.AddrPortFrom(at, 80))
		s := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }), ReadHeaderTimeout: time.Second}
		go s.Serve(l) //nolint:errcheck // ends with the listener
	}
	for _, c := range []struct{ option, url string }{
		{"--socks5", "http://" + netlab.Server4.String() + "/"},
		{"--socks5", "http://[" + netlab.Server6.String() + "]/"},
		{"--socks5-hostname", "http://www.example/"},
	} {
		cmd := g.CPE.Command("curl", "-sS", "-m", "20", c.option, g.at(true).String(), "--proxy-user", userName+":"+userPassword, c.url)
		var out, errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := g.CPE.Run(cmd); err != nil || out.String() != body {
			t.Errorf("%s %s: %d bytes, %v, %s", c.option, c.url, out.Len(), err, errs.String())
		}
	}
}

func TestPhoneBondsItsRadiosThroughTheGateway(t *testing.T) {
	tooltest.Need(t, "a phone's endpoints", "ip")
	for _, joins := range []bool{false, true} {
		t.Run(fmt.Sprintf("join %v", joins), func(t *testing.T) {
			n := netlabtest.TwoLines(t)
			flags := []string{"--users", usersFile(t)}
			if joins {
				flags = append(flags, "--join", netip.AddrPortFrom(n.Lines[1].HAG4, netlab.JoinPort).String())
			}
			g := startGateway(t, n, synbond(), flags...)
			netlabtest.Check(t, n.BePhone())
			netlabtest.Check(t, n.SwitchRadio(n.Lines[1], true))
			server := echoServer(t, n, "tcp", netlab.Server4)
			c, err := g.ask("mptcp", g.at(false), alice, server.String())
			netlabtest.Check(t, err)
			chat(t, c, "hello")
			at := g.at(false)
			if joins {
				at = netip.AddrPortFrom(n.Lines[1].HAG4, netlab.JoinPort)
			}
			eventually(t, "a further subflow", func() bool {
				chat(t, c, "more")
				all := g.flow(t, c.LocalAddr().String()).Subflows
				return len(all) >= 2 && slices.ContainsFunc(all[1:], func(s api.Subflow) bool { return s.Local == at })
			})
		})
	}
}

// TestPasswordsAreNowhere looks for a password in what a gateway shows and writes.
func TestPasswordsAreNowhere(t *testing.T) {
	g := newGateway(t)
	server := echoServer(t, g.Network, "tcp", netlab.Server4)
	c, err := g.ask("mptcp", g.at(false), alice, server.String())
	netlabtest.Check(t, err)
	chat(t, c, "hello")
	_, err = g.ask("tcp", g.at(false), socks.Login{User: userName, Password: socks.Secret(userPassword + "?")}, server.String())
	if !errors.Is(err, socks.WrongLogin) {
		t.Errorf("error %v", err)
	}
	for _, resource := range []string{api.FlowsRequest(true), api.PathsResource, api.FindingsResource} {
		b, err := api.Client{Socket: g.Control}.Get(t.Context(), resource)
		if netlabtest.Check(t, err); bytes.Contains(b, []byte(userPassword)) {
			t.Errorf("%s has a password", resource)
		}
	}
	metrics, err := g.HAG.Dial(within(t, 20*time.Second), "tcp", "", "127.0.0.1:9100")
	netlabtest.Check(t, err)
	defer metrics.Close()
	_, err = io.WriteString(metrics, "GET /metrics HTTP/1.0\r\n\r\n")
	netlabtest.Check(t, err)
	b, err := io.ReadAll(metrics)
	if netlabtest.Check(t, err); bytes.Contains(b, []byte(userPassword)) || !bytes.Contains(b, []byte(`synbond_user_closed_flows_total{user="`)) && !bytes.Contains(b, []byte(`synbond_logins_total{result="wrong"} 1`)) {
		t.Errorf("metrics:\n%s", b)
	}
}

// A phone at home reaches its gateway through a CPE: with TCP it is bonded there like any
// other host, with MPTCP its connection stays end to end.
func TestGatewayBehindACPE(t *testing.T) {
	n := netlabtest.TwoLines(t)
	dir := t.TempDir()
	cpe, hag, err := n.StartPair(synbond(), dir)
	netlabtest.Check(t, err)
	defer func() { netlabtest.Check(t, errors.Join(cpe.Stop(), hag.Stop())) }()
	at := netip.AddrPortFrom(netlab.Server4, netlab.SOCKSPort)
	b, err := synbond().StartBox(n.Server, dir, "gateway", "--open", "--socks", at.String())
	netlabtest.Check(t, err)
	defer func() { netlabtest.Check(t, b.Stop()) }()
	l := listen(t, n.HAG, "tcp", netip.AddrPortFrom(netlab.HAGWan4, 0))
	serve(l, echo)
	for _, c := range []struct {
		network, action, reason string
	}{{"tcp", "relay", ""}, {"mptcp", "pass", "end-to-end"}} {
		conn, err := netlab.SOCKS{Host: n.Client, Network: c.network, Gateway: at}.Dial(within(t, 20*time.Second), l.Addr().String())
		netlabtest.Check(t, err)
		defer conn.Close()
		chat(t, conn, "hello")
		client := conn.LocalAddr().String()
		flowAt := func(b *netlab.Box) (found api.Flow) {
			d, err := b.Flows(t.Context())
			netlabtest.Check(t, err)
			for _, f := range d.Flows {
				if f.Client.String() == client {
					found = f
				}
			}
			return found
		}
		if f := flowAt(cpe); f.Action != c.action || f.Reason != c.reason || f.MPTCP != (c.action == "relay") {
			t.Errorf("%s, at the CPE: %+v", c.network, f)
		}
		if f := flowAt(b); f.Server.String() != l.Addr().String() || f.MPTCP != (c.network == "mptcp") {
			t.Errorf("%s, at the gateway: %+v", c.network, f)
		}
	}
}
