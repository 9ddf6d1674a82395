package socks

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	socks5 "github.com/things-go/go-socks5"
	"golang.org/x/net/proxy"
)

// A client and a server talk to each other.
func TestClientAndServerAgree(t *testing.T) {
	destinations := []Destination{AddrDestination(example), {Name: "example.com", Port: 80}, {Addr: netip.MustParseAddr("2001:db8::7"), Port: 1}}
	for _, c := range []struct {
		name      string
		admission Admission
		login     Login
		early     bool
		dialErr   error
		want      error // of the client
	}{
		{"no user", open, Login{}, false, nil, nil},
		{"no user, early", open, Login{}, true, nil, nil},
		{"a user", closed, alice, false, nil, nil},
		{"a user, early", closed, alice, true, nil, nil},
		{"a user that is not needed", open, alice, false, nil, nil},
		{"a user that is not needed, early", open, alice, true, nil, NoMethod},
		{"no user where one is needed", closed, Login{}, false, nil, NoMethod},
		{"a wrong password", closed, Login{"alice", Secret("wrong")}, true, nil, WrongLogin},
		{"a server that refuses", both, alice, true, syscall.ECONNREFUSED, ConnectionRefused},
		{"a destination out of reach", both, alice, false, syscall.EHOSTUNREACH, HostUnreachable},
		{"a forbidden destination", both, Login{}, true, NotAllowed, NotAllowed},
	} {
		for _, to := range destinations {
			client, server := newClient(t, to, c.login, c.early), NewServer(c.admission)
			up, answers := client.Start(nil), []byte(nil)
			flights, want, over := 0, WantBytes, WantBytes
			for ; want == WantBytes && flights < 10; flights++ {
				answers, over = server.Receive(nil, up)
				for over == WantCheck || over == WantDial {
					if over == WantCheck {
						_, password := server.Login()
						answers, over = server.Checked(answers, string(password) == "secret")
					} else {
						answers, over = drive(server, answers, over, true, c.dialErr)
					}
				}
				up, want = client.Receive(nil, answers)
			}
			if client.Err() != c.want || (want == Done) != (c.want == nil) || (over == Done) != (c.want == nil) {
				t.Errorf("%s, %v: %v and %v, %v", c.name, to, want, over, client.Err())
			}
			if c.want == nil && (server.Destination() != to || client.Bound() != bound4) {
				t.Errorf("%s: destination %v, bound %v", c.name, server.Destination(), client.Bound())
			}
			if c.early && flights != 1 {
				t.Errorf("%s: %d flights", c.name, flights)
			}
		}
	}
}

// serveConn is a server on a connection, whose clients reach an echo.
func serveConn(conn net.Conn, a Admission) error {
	defer conn.Close()
	s := NewServer(a)
	b := make([]byte, 100)
	for want := WantBytes; want != Done; {
		n, err := conn.Read(b[:min(len(b), s.Room())])
		if err != nil {
			return err
		}
		var out []byte
		out, want = s.Receive(nil, b[:n])
		if want == WantCheck {
			_, password := s.Login()
			out, want = s.Checked(out, string(password) == "secret")
		}
		out, want = drive(s, out, want, true, nil)
		if len(out) > 0 {
			if _, err := conn.Write(out); err != nil {
				return err
			}
		}
		if want == Failed {
			return s.Err()
		}
	}
	_, err := io.Copy(conn, io.MultiReader(bytes.NewReader(s.Rest()), conn))
	return err
}

// echoes sends a word and awaits it.
func echoes(t *testing.T, conn net.Conn) {
	t.Helper()
	word := []byte("hello")
	if _, err := conn.Write(word); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, word) {
		t.Fatalf("%q, %v", got, err)
	}
}

// dialer has one connection.
type dialer struct{ conn net.Conn }

func (d dialer) Dial(string, string) (net.Conn, error) { return d.conn, nil }

func TestServerServesTheClientOfXNet(t *testing.T) {
	for _, auth := range []*proxy.Auth{nil, {User: "alice", Password: "secret"}} {
		for _, to := range []string{"192.0.2.7:443", "[2001:db8::7]:443", "example.com:443"} {
			near, far := net.Pipe()
			ended := make(chan error, 1)
			go func() { ended <- serveConn(far, both) }()
			d, err := proxy.SOCKS5("tcp", "gateway:1080", auth, dialer{near})
			if err != nil {
				t.Fatal(err)
			}
			conn, err := d.Dial("tcp", to)
			if err != nil {
				t.Fatalf("%s: %v", to, err)
			}
			echoes(t, conn)
			conn.Close()
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", to, err)
			}
		}
	}
}

// other is a blocking server by other people, whose clients reach an echo.
func other(auth bool) *socks5.Server {
	options := []socks5.Option{socks5.WithDial(func(_ context.Context, _, addr string) (net.Conn, error) {
		if addr == "192.0.2.8:1" {
			return nil, syscall.ECONNREFUSED
		}
		near, far := net.Pipe()
		go func() { io.Copy(far, far); far.Close() }()
		return echo{near}, nil
	})}
	if auth {
		options = append(options, socks5.WithCredential(socks5.StaticCredentials{"alice": "secret"}))
	}
	return socks5.NewServer(options...)
}

// echo is a connection that says that it is one of TCP.
type echo struct{ net.Conn }

func (echo) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(bound4) }

// addressed is a connection with an address, as the other server logs it.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(example) }
func (addressed) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(bound4) }

// connectBy runs a client on a connection.
func connectBy(c *Client, conn net.Conn) error {
	out, want := c.Start(nil), WantBytes
	b := make([]byte, 100)
	for want == WantBytes {
		if len(out) > 0 { // a pipe waits for a reader of no bytes, too
			if _, err := conn.Write(out); err != nil {
				return err
			}
		}
		n, err := conn.Read(b)
		if err != nil {
			c.Closed()
			return errors.Join(err, c.Err())
		}
		out, want = c.Receive(out[:0], b[:n])
	}
	return c.Err()
}

func TestClientIsServedByAnotherServer(t *testing.T) {
	for _, auth := range []bool{false, true} {
		l := Login{}
		if auth {
			l = alice
		}
		for _, early := range []bool{false, true} {
			for _, to := range []Destination{AddrDestination(example), {Addr: netip.MustParseAddr("2001:db8::7"), Port: 443}, {Addr: netip.MustParseAddr("192.0.2.8"), Port: 1}} {
				near, far := net.Pipe()
				go other(auth).ServeConn(addressed{far})
				c := newClient(t, to, l, early)
				err := connectBy(c, near)
				if to.Port == 1 {
					if err == nil || !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, GeneralFailure) && !errors.Is(err, HostUnreachable) {
						t.Errorf("refused, auth %v, early %v: %v", auth, early, err)
					}
					near.Close()
					continue
				}
				if err != nil || c.Bound() != bound4 {
					t.Fatalf("%v, auth %v, early %v: %v, bound %v", to, auth, early, err, c.Bound())
				}
				echoes(t, near)
				near.Close()
			}
		}
	}
}
