package socks

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"
)

var alice = Login{"alice", Secret("secret")}

func newClient(t *testing.T, d Destination, l Login, early bool) *Client {
	t.Helper()
	c, err := NewClient(d, l, early)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// converse gives a client the server's messages in pieces of that size, and returns all that
// the client has sent.
func converse(c *Client, messages []byte, size int) (out []byte, want Want) {
	out = c.Start(nil)
	for len(messages) > 0 && want != Failed {
		n := min(size, len(messages), c.Room())
		if c.Step() == Over {
			break
		}
		out, want = c.Receive(out, bytes.Clone(messages[:n]))
		messages = messages[n:]
	}
	return out, want
}

func TestClientAsks(t *testing.T) {
	name := Destination{Name: "example.com", Port: 443}
	request := cat(connect, named("example.com"), port(443))
	for _, c := range []struct {
		name    string
		to      Destination
		login   Login
		early   bool
		start   []byte // sent at once
		answers []byte
		all     []byte // sent in the end
	}{
		{"step by step", name, Login{}, false, greeting(0), cat([]byte{5, 0}, reply(0)), cat(greeting(0), request)},
		{"early", name, Login{}, true, cat(greeting(0), request), cat([]byte{5, 0}, reply(0)), cat(greeting(0), request)},
		{"with a user, step by step", name, alice, false, greeting(2, 0), cat([]byte{5, 2, 1, 0}, reply(0)), cat(greeting(2, 0), login("alice", "secret"), request)},
		{"with a user, early", name, alice, true, cat(greeting(2), login("alice", "secret"), request), cat([]byte{5, 2, 1, 0}, reply(0)), cat(greeting(2), login("alice", "secret"), request)},
		{"with a user that the server does not want", name, alice, false, greeting(2, 0), cat([]byte{5, 0}, reply(0)), cat(greeting(2, 0), request)},
		{"a server that repeats the version of SOCKS before the status", name, alice, false, greeting(2, 0), cat([]byte{5, 2, 5, 0}, reply(0)), cat(greeting(2, 0), login("alice", "secret"), request)},
		{"IPv4", AddrDestination(example), Login{}, false, greeting(0), cat([]byte{5, 0}, reply(0)), cat(greeting(0), connect, ipv4(192, 0, 2, 7), port(443))},
		{"IPv4-mapped", AddrDestination(netip.MustParseAddrPort("[::ffff:192.0.2.7]:443")), Login{}, false, greeting(0), cat([]byte{5, 0}, reply(0)), cat(greeting(0), connect, ipv4(192, 0, 2, 7), port(443))},
		{"IPv6", AddrDestination(netip.MustParseAddrPort("[2001:db8::9]:80")), Login{}, true, cat(greeting(0), connect, ipv6(9), port(80)), cat([]byte{5, 0}, reply(0)), cat(greeting(0), connect, ipv6(9), port(80))},
	} {
		for _, size := range []int{1, 3, 1000} {
			client := newClient(t, c.to, c.login, c.early)
			if start := client.Start(nil); !bytes.Equal(start, c.start) {
				t.Errorf("%s: begins with % x, want % x", c.name, start, c.start)
			}
			messages := c.answers
			if size > len(messages) {
				messages = cat(messages, []byte("SSH-2.0"))
			}
			out, want := converse(client, messages, size)
			if want != Done || client.Err() != nil || !bytes.Equal(out, c.all) {
				t.Errorf("%s, in pieces of %d: %v, %v, sent % x, want % x", c.name, size, want, client.Err(), out, c.all)
			}
			if rest := client.Rest(); string(rest) != string(messages[len(c.answers):]) {
				t.Errorf("%s: the stream begins with %q", c.name, rest)
			}
			if client.Closed() != Done || client.StepByStep() {
				t.Errorf("%s: the end of the stream is a failure", c.name)
			}
		}
	}
}

func TestClientReadsTheBoundAddress(t *testing.T) {
	for bound, answer := range map[string][]byte{
		"192.0.2.1:5000":     {5, 0, 0, 1, 192, 0, 2, 1, 0x13, 0x88},
		"[2001:db8::9]:5000": cat([]byte{5, 0, 0}, ipv6(9), port(5000)),
		"invalid AddrPort":   cat([]byte{5, 0, 0}, named("gateway"), port(5000)),
		"0.0.0.0:0":          reply(0),
	} {
		c := newClient(t, AddrDestination(example), Login{}, true)
		if _, want := converse(c, cat([]byte{5, 0}, answer), 1000); want != Done || c.Bound().String() != bound {
			t.Errorf("%v, %v, want %s", want, c.Bound(), bound)
		}
	}
}

func TestClientFails(t *testing.T) {
	for _, c := range []struct {
		name     string
		login    Login
		messages []byte
		err      error
		// again: a client whose messages were early had better try again without.
		again bool
	}{
		{"HTTP", alice, []byte("HTTP/1.1 400 Bad Request\r\n"), NotSOCKS, false},
		{"SOCKS 4", alice, []byte{0, 0x5b}, NotSOCKS, false},
		{"a banner", alice, []byte("SSH-2.0-OpenSSH"), NotSOCKS, false},
		{"no acceptable method", alice, []byte{5, 0xff}, NoMethod, true},
		{"GSSAPI", alice, []byte{5, 1}, OtherMethod, true},
		{"a user where the client has none", Login{}, []byte{5, 2}, OtherMethod, false},
		{"no acceptable method for a client without a user", Login{}, []byte{5, 0xff}, NoMethod, false},
		{"a wrong password", alice, []byte{5, 2, 1, 1}, WrongLogin, false},
		{"a wrong version of the reply", alice, []byte{5, 2, 1, 0, 1}, BadVersion, true},
		{"a success of an unknown address type", alice, []byte{5, 2, 1, 0, 5, 0, 0, 9}, BadAddressType, true},
		{"general failure", alice, cat([]byte{5, 2, 1, 0}, reply(1)), GeneralFailure, false},
		{"not allowed", alice, cat([]byte{5, 2, 1, 0}, reply(2)), NotAllowed, false},
		{"network unreachable", alice, cat([]byte{5, 2, 1, 0}, reply(3)), NetworkUnreachable, false},
		{"host unreachable", alice, cat([]byte{5, 2, 1, 0}, reply(4)), HostUnreachable, false},
		{"connection refused", Login{}, cat([]byte{5, 0}, reply(5)), ConnectionRefused, false},
		{"TTL expired", alice, cat([]byte{5, 2, 1, 0}, reply(6)), TTLExpired, false},
		{"command not supported", alice, cat([]byte{5, 2, 1, 0}, reply(7)), CommandNotSupported, false},
		{"address type not supported", alice, cat([]byte{5, 2, 1, 0}, reply(8)), AddrTypeNotSupported, false},
		{"an unassigned reply", alice, cat([]byte{5, 2, 1, 0}, reply(0x2a)), Reply(0x2a), false},
		{"a failure cut off behind its code", alice, []byte{5, 2, 1, 0, 5, 5}, ConnectionRefused, false},
	} {
		for _, size := range []int{1, 1000} {
			for _, early := range []bool{false, true} {
				client := newClient(t, AddrDestination(example), c.login, early)
				_, want := converse(client, c.messages, size)
				if want != Failed || client.Err() != c.err || client.StepByStep() != (early && c.again) {
					t.Errorf("%s, early %v: %v, %v, again %v", c.name, early, want, client.Err(), client.StepByStep())
				}
				if client.Room() != 0 || client.Rest() != nil {
					t.Errorf("%s: takes and gives more bytes", c.name)
				}
			}
		}
	}
}

func TestClientFailsAtTheEndOfEachPrefix(t *testing.T) {
	whole := cat([]byte{5, 2, 1, 0}, []byte{5, 0, 0}, named("gateway"), port(5000))
	for n := range whole {
		for _, early := range []bool{false, true} {
			for name, end := range map[error]func(*Client) Want{Truncated: (*Client).Closed, TimedOut: (*Client).TimedOut} {
				c := newClient(t, AddrDestination(example), alice, early)
				if _, want := converse(c, whole[:n], 1000); want != WantBytes {
					t.Fatalf("%d bytes: %v", n, want)
				}
				if want := end(c); want != Failed || c.Err() != name || c.StepByStep() != early {
					t.Errorf("%d bytes, %v: %v, %v, again %v", n, name, want, c.Err(), c.StepByStep())
				}
			}
		}
	}
}

func TestClientRefusesWhatItCannotSend(t *testing.T) {
	to := AddrDestination(example)
	for _, c := range []struct {
		name string
		to   Destination
		l    Login
		want error // nil: any
	}{
		{"no destination", Destination{Port: 443}, alice, BadName},
		{"a name of 256 bytes", Destination{Name: long(256), Port: 443}, alice, BadName},
		{"a name in upper case", Destination{Name: "EXAMPLE.com", Port: 443}, alice, BadName},
		{"port 0", Destination{Name: "example.com"}, alice, BadPort},
		{"no password", to, Login{User: "alice"}, EmptyLogin},
		{"no user", to, Login{Password: Secret("secret")}, EmptyLogin},
		{"a user of 256 bytes", to, Login{strings.Repeat("u", 256), Secret("secret")}, nil},
		{"a password of 256 bytes", to, Login{"alice", Secret(strings.Repeat("p", 256))}, nil},
	} {
		_, err := NewClient(c.to, c.l, true)
		if err == nil || c.want != nil && !errors.Is(err, c.want) || strings.Contains(err.Error(), "ppp") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestClientKeepsNoMoreThanItsBound(t *testing.T) {
	c := newClient(t, AddrDestination(example), Login{}, true)
	if _, want := c.Receive(nil, bytes.Repeat([]byte{5, 0}, MaxPending/2+1)); want != Failed || c.Err() != TooMuch {
		t.Errorf("%v, %v", want, c.Err())
	}
}

func TestClientKeepsThePasswordOfItsCaller(t *testing.T) {
	l := Login{"alice", Secret("secret")}
	c := newClient(t, AddrDestination(example), l, false)
	converse(c, []byte{5, 2, 1, 1}, 1)
	if string(l.Password) != "secret" {
		t.Errorf("the password is %q now", []byte(l.Password))
	}
	text, err := json.Marshal(l)
	if err != nil || strings.Contains(string(text), "secret") || strings.Contains(string(text), "c2VjcmV0") {
		t.Errorf("%s, %v", text, err)
	}
}

// The failure of a dial through a server is treated like that of a dial.
func TestReplyWrapsTheErrorOfConnect(t *testing.T) {
	for r, errno := range map[Reply]error{
		NotAllowed: syscall.EACCES, NetworkUnreachable: syscall.ENETUNREACH, HostUnreachable: syscall.EHOSTUNREACH,
		ConnectionRefused: syscall.ECONNREFUSED, TTLExpired: syscall.ETIMEDOUT,
		GeneralFailure: nil, CommandNotSupported: nil, AddrTypeNotSupported: nil, Reply(0x2a): nil,
	} {
		if got := errors.Unwrap(r); got != errno {
			t.Errorf("%v: %v", r, got)
		}
		if ReplyTo(r) != r || ReplyTo(errno) != r && errno != nil {
			t.Errorf("%v becomes %v and %v on the way back", r, ReplyTo(r), ReplyTo(errno))
		}
		if r.Error() == "" {
			t.Errorf("%d has no words", r)
		}
	}
}

func TestReasonsHaveNamesAndMeanings(t *testing.T) {
	labels := make(map[string]bool)
	for r := range NumReasons {
		if l := r.Label(); l == "" || labels[l] || strings.ContainsAny(l, " _") || r.Error() == "" {
			t.Errorf("reason %d: label %q, %q", r, l, r.Error())
		}
		labels[r.Label()] = true
	}
	if NumReasons.Label() != "invalid" || NumReasons.Error() != "invalid" {
		t.Error("a value beyond the last one has a name")
	}
}
