package socks

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/tooltest"
)

// gateway is a blocking server of our own on loopback, with the user alice.
func gateway(t *testing.T, a Admission) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go carry(conn, a)
		}
	}()
	return l.Addr()
}

// carry serves one client: it dials the destination, "localhost" included.
func carry(conn net.Conn, a Admission) {
	defer conn.Close()
	s := NewServer(a)
	b := make([]byte, 1000)
	var onward net.Conn
	for want := WantBytes; want != Done; {
		n, err := conn.Read(b[:min(len(b), s.Room())])
		if err != nil {
			return
		}
		var out []byte
		out, want = s.Receive(nil, b[:n])
		if want == WantCheck {
			user, password := s.Login()
			out, want = s.Checked(out, user == "alice" && string(password) == "secret")
		}
		if want == WantDial {
			if onward, err = net.Dial("tcp", s.Destination().String()); err != nil {
				out, want = s.Refused(out, err)
			} else {
				out, want = s.Dialed(out, onward.LocalAddr().(*net.TCPAddr).AddrPort())
			}
		}
		conn.Write(out)
		if want == Failed {
			return
		}
	}
	defer onward.Close()
	onward.Write(s.Rest())
	go io.Copy(onward, conn)
	io.Copy(conn, onward)
}

// page is a server with one page on loopback.
func page(t *testing.T) (port string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	t.Cleanup(s.Close)
	_, port, _ = net.SplitHostPort(s.Listener.Addr().String())
	return port
}

// freePort returns a port of loopback on which nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestCurlIsServed(t *testing.T) {
	tooltest.Need(t, "curl as a client of the SOCKS server", "curl")
	port, nobody := page(t), freePort(t)
	for _, c := range []struct {
		name      string
		admission Admission
		args      string // GW is the gateway
		url       string
		out       string
		says      string // of curl's failure
	}{
		{"an address", open, "--socks5 GW", "http://127.0.0.1:" + port, "hello", ""},
		{"a name", open, "--socks5-hostname GW", "http://localhost:" + port, "hello", ""},
		{"a user", closed, "--socks5-hostname GW --proxy-user alice:secret", "http://localhost:" + port, "hello", ""},
		{"a user, where none is needed", both, "--socks5 GW --proxy-user alice:secret", "http://127.0.0.1:" + port, "hello", ""},
		{"a wrong password", closed, "--socks5 GW --proxy-user alice:wrong", "http://127.0.0.1:" + port, "", "User was rejected by the SOCKS5 server"},
		{"no user", closed, "--socks5 GW", "http://127.0.0.1:" + port, "", "No authentication method was acceptable"},
		{"a refused port", open, "--socks5 GW", "http://127.0.0.1:" + nobody, "", "(5)"},
	} {
		args := strings.Fields(strings.ReplaceAll(c.args, "GW", gateway(t, c.admission).String()))
		cmd := exec.Command("curl", append(args, "--silent", "--show-error", "--noproxy", "none", "--max-time", "60", c.url)...)
		var errs strings.Builder
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if string(out) != c.out || (err == nil) != (c.says == "") || !strings.Contains(errs.String(), c.says) {
			t.Errorf("%s: %q, %v, %s", c.name, out, err, errs.String())
		}
	}
}

// start runs another server until the end of the test, and waits until it listens.
func start(t *testing.T, port, program string, args ...string) (addr string) {
	t.Helper()
	cmd := exec.Command(program, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	addr = "127.0.0.1:" + port
	for range 600 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return addr
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s does not listen at %s", program, addr)
	return ""
}

// through connects to a port of loopback through another server.
func through(t *testing.T, server, port string, l Login, early bool) (*Client, error) {
	t.Helper()
	conn, err := net.Dial("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var n uint16
	fmt.Sscan(port, &n)
	to, err := NewDestination("127.0.0.1", n)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, to, l, early)
	return c, connectBy(c, conn)
}

// A server that swallows early messages answers the greeting, and is silent then.
func TestClientIsServedByMicrosocks(t *testing.T) {
	tooltest.Need(t, "microsocks as a server of the SOCKS client", "microsocks")
	free, target, nobody := freePort(t), page(t), freePort(t)
	server := start(t, free, "microsocks", "-i", "127.0.0.1", "-p", free, "-u", "alice", "-P", "secret")
	for port, want := range map[string]error{target: nil, nobody: ConnectionRefused} {
		if _, err := through(t, server, port, alice, false); !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	if _, err := through(t, server, target, Login{"alice", Secret("wrong")}, false); !errors.Is(err, WrongLogin) {
		t.Error(err)
	}
	if _, err := through(t, server, target, Login{}, true); !errors.Is(err, NoMethod) {
		t.Error(err)
	}
}

func TestClientIsServedByDante(t *testing.T) {
	tooltest.Need(t, "dante as a server of the SOCKS client", "danted")
	free, target, nobody := freePort(t), page(t), freePort(t)
	config := filepath.Join(t.TempDir(), "danted.conf")
	text := "logoutput: stderr\ninternal: 127.0.0.1 port = " + free + "\nexternal: 127.0.0.1\nsocksmethod: none\nclientmethod: none\n" +
		"client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\nsocks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	server := start(t, free, "danted", "-f", config, "-p", filepath.Join(filepath.Dir(config), "pid"))
	for _, early := range []bool{false, true} {
		c, err := through(t, server, target, Login{}, early)
		if err != nil || !c.Bound().IsValid() || c.Bound().Port() == 0 {
			t.Errorf("early %v: %v, bound %v", early, err, c.Bound())
		}
		if _, err := through(t, server, nobody, Login{}, early); !errors.Is(err, ConnectionRefused) {
			t.Errorf("early %v: %v", early, err)
		}
	}
	// Early, the client offers its user only, and dante asks for none.
	if c, err := through(t, server, target, alice, true); !errors.Is(err, NoMethod) || !c.StepByStep() {
		t.Errorf("%v, again %v", err, c.StepByStep())
	}
	if _, err := through(t, server, target, alice, false); err != nil {
		t.Error(err)
	}
}
