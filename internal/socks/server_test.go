package socks

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
)

var (
	open    = Admission{Anonymous: true}
	closed  = Admission{Users: true}
	both    = Admission{Anonymous: true, Users: true}
	nobody  = Admission{}
	bound4  = netip.MustParseAddrPort("192.0.2.1:5000")
	bound6  = netip.MustParseAddrPort("[2001:db8::1]:5000")
	example = netip.MustParseAddrPort("192.0.2.7:443")
)

// drive answers what the server wants besides bytes: each check with right, and each dial
// with err, until the server wants bytes or is over.
func drive(s *Server, out []byte, want Want, right bool, err error) ([]byte, Want) {
	for {
		switch want {
		case WantCheck:
			out, want = s.Checked(out, right)
		case WantDial:
			if err != nil {
				out, want = s.Refused(out, err)
			} else {
				out, want = s.Dialed(out, bound4)
			}
		default:
			return out, want
		}
	}
}

// serve gives a server the client's bytes in pieces of that size.
func serve(t *testing.T, a Admission, sent []byte, size int, right bool, err error) (*Server, []byte, Want) {
	t.Helper()
	s := NewServer(a)
	var out []byte
	want := WantBytes
	for piece := range slices.Chunk(slices.Clone(sent), size) {
		if want == Failed || want == Done {
			break
		}
		out, want = s.Receive(out, piece)
		out, want = drive(s, out, want, right, err)
	}
	return s, out, want
}

func TestServerTakesRequestsInPiecesOfAnySize(t *testing.T) {
	for _, c := range []struct {
		name      string
		admission Admission
		sent      []byte
		answers   []byte
		user      string
		to        string
	}{
		{"IPv4", open, cat(greeting(0), connect, ipv4(192, 0, 2, 7), port(443)), []byte{5, 0}, "", "192.0.2.7:443"},
		{"IPv6", open, cat(greeting(0), connect, ipv6(9), port(80)), []byte{5, 0}, "", "[2001:db8::9]:80"},
		{"a name", open, cat(greeting(0), connect, named("Example.COM."), port(65535)), []byte{5, 0}, "", "example.com:65535"},
		{"a name of 253 bytes", open, cat(greeting(0), connect, named(long(253)), port(1)), []byte{5, 0}, "", long(253) + ":1"},
		{"a name that is an IPv4 address", open, cat(greeting(0), connect, named("192.0.2.7"), port(443)), []byte{5, 0}, "", "192.0.2.7:443"},
		{"a name that is an IPv6 address", open, cat(greeting(0), connect, named("2001:DB8::9"), port(443)), []byte{5, 0}, "", "[2001:db8::9]:443"},
		{"a name that is an address with a dot at its end", open, cat(greeting(0), connect, named("192.0.2.7."), port(443)), []byte{5, 0}, "", "192.0.2.7:443"},
		{"a name with digits", open, cat(greeting(0), connect, named("1.0xyz"), port(443)), []byte{5, 0}, "", "1.0xyz:443"},
		{"a name that is an IPv4-mapped address", open, cat(greeting(0), connect, named("::ffff:127.0.0.1"), port(443)), []byte{5, 0}, "", "127.0.0.1:443"},
		{"an IPv4-mapped address", open, cat(greeting(0), connect, []byte{4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1}, port(443)), []byte{5, 0}, "", "127.0.0.1:443"},
		{"a reserved byte that is not 0", open, cat(greeting(0), []byte{5, 1, 7}, ipv4(192, 0, 2, 7), port(443)), []byte{5, 0}, "", "192.0.2.7:443"},
		{"user and password", closed, cat(greeting(2), login("alice", "secret"), connect, ipv4(192, 0, 2, 7), port(443)), []byte{5, 2, 1, 0}, "alice", "192.0.2.7:443"},
		{"the longest user and password", closed, cat(greeting(2), login(strings.Repeat("u", 255), strings.Repeat("p", 255)), connect, ipv4(192, 0, 2, 7), port(443)),
			[]byte{5, 2, 1, 0}, strings.Repeat("u", 255), "192.0.2.7:443"},
		{"a user, where none is needed", both, cat(greeting(0, 2), login("alice", "secret"), connect, ipv4(192, 0, 2, 7), port(443)), []byte{5, 2, 1, 0}, "alice", "192.0.2.7:443"},
		{"no user, where none is needed", both, cat(greeting(1, 0), connect, ipv4(192, 0, 2, 7), port(443)), []byte{5, 0}, "", "192.0.2.7:443"},
		{"a user, where nobody has one", open, cat(greeting(2, 0), connect, ipv4(192, 0, 2, 7), port(443)), []byte{5, 0}, "", "192.0.2.7:443"},
		{"255 methods", open, cat([]byte{5, 255}, make([]byte, 255), connect, ipv4(192, 0, 2, 7), port(443)), []byte{5, 0}, "", "192.0.2.7:443"},
	} {
		answers := cat(c.answers, []byte{5, 0, 0, 1, 192, 0, 2, 1, 0x13, 0x88})
		for _, size := range []int{1, 2, 3, 7, 1000} {
			sent := cat(c.sent, []byte("GET / HTTP/1.1"))
			s, out, want := serve(t, c.admission, sent, len(sent), true, nil)
			if size < len(c.sent) {
				s, out, want = serve(t, c.admission, c.sent, size, true, nil)
			} else if rest := s.Rest(); string(rest) != "GET / HTTP/1.1" || s.Rest() != nil {
				t.Errorf("%s: the stream begins with %q", c.name, rest)
			}
			if want != Done || s.Err() != nil || !bytes.Equal(out, answers) {
				t.Errorf("%s, in pieces of %d: %v, %v, sent % x, want % x", c.name, size, want, s.Err(), out, answers)
			}
			if s.User() != c.user || s.Destination().String() != c.to {
				t.Errorf("%s, in pieces of %d: user %q, destination %v", c.name, size, s.User(), s.Destination())
			}
		}
	}
}

func TestServerRefusesMalformedInput(t *testing.T) {
	failure := []byte{1, 1}
	for _, c := range []struct {
		name      string
		admission Admission
		sent      []byte
		answers   []byte
		reason    Reason
	}{
		{"HTTP", open, []byte("GET http://example.com/ HTTP/1.1\r\n"), nil, NotSOCKS},
		{"TLS", open, []byte{0x16, 3, 1, 2, 0}, nil, NotSOCKS},
		{"SOCKS 4", open, cat([]byte{4, 1}, port(443), []byte{192, 0, 2, 7, 0}), nil, SOCKS4},
		{"no methods", both, greeting(), []byte{5, 0xff}, NoMethod},
		{"GSSAPI only", both, greeting(1), []byte{5, 0xff}, NoMethod},
		{"no user, where one is needed", closed, greeting(0), []byte{5, 0xff}, NoMethod},
		{"a user, where none is known", open, greeting(2), []byte{5, 0xff}, NoMethod},
		{"anybody, where nobody is admitted", nobody, greeting(0, 2), []byte{5, 0xff}, NoMethod},
		{"the wrong version of user and password", closed, cat(greeting(2), []byte{5}), cat([]byte{5, 2}, failure), BadAuthVersion},
		{"an empty user", closed, cat(greeting(2), login("", "secret")), cat([]byte{5, 2}, failure), EmptyLogin},
		{"an empty password", closed, cat(greeting(2), login("alice", "")), cat([]byte{5, 2}, failure), EmptyLogin},
		{"a wrong version behind the greeting", open, cat(greeting(0), []byte{4}), cat([]byte{5, 0}, reply(1)), BadVersion},
		{"BIND", open, cat(greeting(0), []byte{5, 2, 0}, ipv4(192, 0, 2, 7), port(443)), cat([]byte{5, 0}, reply(7)), BadCommand},
		{"UDP ASSOCIATE", open, cat(greeting(0), []byte{5, 3, 0}, ipv4(0, 0, 0, 0), port(0)), cat([]byte{5, 0}, reply(7)), BadCommand},
		{"an unknown command", open, cat(greeting(0), []byte{5, 0xf0, 0}, named("example.com"), port(443)), cat([]byte{5, 0}, reply(7)), BadCommand},
		{"an unknown address type", open, cat(greeting(0), connect, []byte{2}), cat([]byte{5, 0}, reply(8)), BadAddressType},
		{"port 0", open, cat(greeting(0), connect, ipv4(192, 0, 2, 7), port(0)), cat([]byte{5, 0}, reply(1)), BadPort},
		{"port 0 of a name", open, cat(greeting(0), connect, named("example.com"), port(0)), cat([]byte{5, 0}, reply(1)), BadPort},
		{"a name of 0 bytes", open, cat(greeting(0), connect, named(""), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a name of 256 bytes, whose length overflows", open, cat(greeting(0), connect, named(long(256)), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a name of 254 bytes", open, cat(greeting(0), connect, named(long(254)), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a name of 255 bytes", open, cat(greeting(0), connect, named(long(255)), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a name with NUL", open, cat(greeting(0), connect, named("example.com\x00.example.net"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a name with a port", open, cat(greeting(0), connect, named("example.com:80"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a link-local address with a zone", open, cat(greeting(0), connect, named("fe80::1%eth0"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"an address in brackets", open, cat(greeting(0), connect, named("[::1]"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a dot only", open, cat(greeting(0), connect, named("."), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"two numbers", open, cat(greeting(0), connect, named("127.1"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a number", open, cat(greeting(0), connect, named("2130706433"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"octal numbers", open, cat(greeting(0), connect, named("0177.0.0.01"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"hexadecimal numbers", open, cat(greeting(0), connect, named("0x7f.0x1"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"hexadecimal without digits", open, cat(greeting(0), connect, named("a.0x"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"an address with a zero before a number", open, cat(greeting(0), connect, named("127.0.0.01"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"an empty label", open, cat(greeting(0), connect, named("a..b"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a label of 64 bytes", open, cat(greeting(0), connect, named(strings.Repeat("a", 64)), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"letters beyond ASCII", open, cat(greeting(0), connect, named("bücher.example"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
		{"a line break", open, cat(greeting(0), connect, named("a\nb"), port(443)), cat([]byte{5, 0}, reply(1)), BadName},
	} {
		for _, size := range []int{1, 1000} {
			s, out, want := serve(t, c.admission, c.sent, size, true, nil)
			if want != Failed || s.Err() != c.reason || !bytes.Equal(out, c.answers) {
				t.Errorf("%s, in pieces of %d: %v, %v, sent % x, want % x", c.name, size, want, s.Err(), out, c.answers)
			}
			if s.Room() != 0 || s.Rest() != nil || s.Step() != Over {
				t.Errorf("%s: room for %d bytes, step %v", c.name, s.Room(), s.Step())
			}
		}
	}
}

// Every prefix of a preface waits, and fails only at the end of the stream.
func TestServerWaitsForTheRestOfEachPrefix(t *testing.T) {
	whole := cat(greeting(0, 2), login("alice", "secret"), connect, named("example.com"), port(443))
	for n := range whole {
		s, out, want := serve(t, closed, whole[:n], 1000, true, nil)
		if want != WantBytes || s.Err() != nil {
			t.Errorf("%d bytes: %v, %v", n, want, s.Err())
		}
		sent := len(out)
		if out, want = s.Closed(out); want != Failed || s.Err() != Truncated || len(out) != sent {
			t.Errorf("%d bytes, and the end: %v, %v, sent % x", n, want, s.Err(), out)
		}
	}
}

func TestServerGoesOnAfterTheEndOfAWholePreface(t *testing.T) {
	whole := cat(greeting(2), login("alice", "secret"), connect, ipv4(192, 0, 2, 7), port(443), []byte("data"))
	s := NewServer(closed)
	out, want := give(t, s, whole, len(whole))
	if want != WantCheck {
		t.Fatal(want)
	}
	if out, want = s.Closed(out); want != WantCheck {
		t.Fatalf("closed while the check is under way: %v", want)
	}
	if out, want = s.Checked(out, true); want != WantDial {
		t.Fatalf("checked: %v", want)
	}
	if _, want = s.Dialed(out, bound6); want != Done || string(s.Rest()) != "data" {
		t.Fatalf("dialed: %v, %v", want, s.Err())
	}
}

func TestServerFailsAfterTheCheckIfTheClientIsGone(t *testing.T) {
	s := NewServer(closed)
	out, _ := give(t, s, cat(greeting(2), login("alice", "secret"), connect), 1000)
	s.Closed(out)
	if _, want := s.Checked(nil, true); want != Failed || s.Err() != Truncated {
		t.Errorf("%v, %v", want, s.Err())
	}
}

func TestServerAsksForOneCheck(t *testing.T) {
	for _, right := range []bool{true, false} {
		s := NewServer(both)
		out, want := give(t, s, cat(greeting(2), login("alice", "secret")), 1)
		user, password := s.Login()
		if want != WantCheck || s.Step() != Checking || user != "alice" || string(password) != "secret" || s.User() != "" {
			t.Fatalf("%v, %q, %q", want, user, password)
		}
		if _, again := s.Login(); again != nil {
			t.Error("the password is handed over twice")
		}
		out, want = s.Checked(out, right)
		switch {
		case right && (want != WantBytes || s.User() != "alice" || !bytes.Equal(out, []byte{5, 2, 1, 0})):
			t.Errorf("right: %v, sent % x", want, out)
		case !right && (want != Failed || s.Err() != WrongLogin || s.User() != "" || !bytes.Equal(out, []byte{5, 2, 1, 1})):
			t.Errorf("wrong: %v, %v, sent % x", want, s.Err(), out)
		}
	}
}

func TestServerIgnoresAnswersThatItDoesNotWaitFor(t *testing.T) {
	s := NewServer(both)
	for _, answer := range []func() ([]byte, Want){
		func() ([]byte, Want) { return s.Checked(nil, true) },
		func() ([]byte, Want) { return s.Dialed(nil, bound4) },
		func() ([]byte, Want) { return s.Refused(nil, syscall.ECONNREFUSED) },
	} {
		if out, want := answer(); out != nil || want != WantBytes {
			t.Errorf("sent % x, %v", out, want)
		}
	}
	give(t, s, []byte("G"), 1)
	if out, want := s.Dialed(nil, bound4); out != nil || want != Failed || s.Err() != NotSOCKS {
		t.Errorf("failed, and dialed: sent % x, %v, %v", out, want, s.Err())
	}
	if out, want := s.TimedOut(nil); out != nil || want != Failed || s.Err() != NotSOCKS {
		t.Errorf("failed, and timed out: sent % x, %v, %v", out, want, s.Err())
	}
}

func TestServerSaysWhichAddressIsBound(t *testing.T) {
	for bound, answer := range map[netip.AddrPort][]byte{
		bound4: {5, 0, 0, 1, 192, 0, 2, 1, 0x13, 0x88},
		bound6: {5, 0, 0, 4, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x13, 0x88},
		{}:     reply(0),
		netip.MustParseAddrPort("[::ffff:192.0.2.1]:5000"): {5, 0, 0, 1, 192, 0, 2, 1, 0x13, 0x88},
	} {
		s := NewServer(open)
		give(t, s, cat(greeting(0), connect, ipv4(192, 0, 2, 7), port(443)), 1000)
		if out, want := s.Dialed(nil, bound); want != Done || !bytes.Equal(out, answer) {
			t.Errorf("%v: %v, sent % x", bound, want, out)
		}
	}
}

func TestReplySaysWhyTheDialFailed(t *testing.T) {
	for _, c := range []struct {
		err  error
		code byte
	}{
		{syscall.ECONNREFUSED, 5}, {syscall.EHOSTUNREACH, 4}, {syscall.EHOSTDOWN, 4}, {syscall.ENETUNREACH, 3}, {syscall.ENETDOWN, 3},
		{syscall.ETIMEDOUT, 6}, {syscall.EACCES, 2}, {syscall.EPERM, 2}, {syscall.EMFILE, 1}, {errors.New("something"), 1}, {nil, 1},
		{fmt.Errorf("dial: %w", syscall.ECONNREFUSED), 5}, {fmt.Errorf("rule 3: %w", NotAllowed), 2},
		{fmt.Errorf("example.com: %w", HostUnreachable), 4}, {NetworkUnreachable, 3}, {TTLExpired, 6}, {Reply(0x42), 0x42}, {Succeeded, 1},
	} {
		s := NewServer(open)
		give(t, s, cat(greeting(0), connect, ipv4(192, 0, 2, 7), port(443)), 1000)
		out, want := s.Refused(nil, c.err)
		if want != Failed || s.Err() == nil || c.err != nil && s.Err() != c.err || !bytes.Equal(out, reply(c.code)) {
			t.Errorf("%v: %v, %v, sent % x", c.err, want, s.Err(), out)
		}
	}
	if ReplyTo(nil) != Succeeded {
		t.Error("no error is no success")
	}
}

func TestServerTimesOutInEachStep(t *testing.T) {
	for _, c := range []struct {
		sent   []byte
		step   Step
		answer []byte
	}{
		{nil, Greeting, nil},
		{[]byte{5}, Greeting, nil},
		{greeting(2), Authentication, nil},
		{cat(greeting(2), login("alice", "secret")), Checking, []byte{1, 1}},
		{greeting(0), Request, nil},
		{cat(greeting(0), connect, ipv4(192, 0, 2, 7), port(443)), Dialing, reply(6)},
	} {
		s := NewServer(both)
		give(t, s, c.sent, 1000)
		if s.Step() != c.step {
			t.Errorf("% x: step %v, want %v", c.sent, s.Step(), c.step)
		}
		if out, want := s.TimedOut(nil); want != Failed || s.Err() != TimedOut || !bytes.Equal(out, c.answer) {
			t.Errorf("%v: %v, %v, sent % x", c.step, want, s.Err(), out)
		}
	}
}

func TestServerKeepsNoMoreThanItsBound(t *testing.T) {
	s := NewServer(open)
	preface := cat(greeting(0), connect, ipv4(192, 0, 2, 7), port(443))
	if _, want := give(t, s, preface, 1000); want != WantDial || s.Room() != MaxPending {
		t.Fatalf("%v, room for %d", want, s.Room())
	}
	for s.Room() > 0 {
		if _, want := s.Receive(nil, bytes.Repeat([]byte("x"), min(s.Room(), 100))); want != WantDial {
			t.Fatal(want)
		}
	}
	if cap(s.pending.bytes) > MaxPending {
		t.Errorf("a buffer of %d bytes", cap(s.pending.bytes))
	}
	if _, want := s.Receive(nil, []byte("x")); want != Failed || s.Err() != TooMuch {
		t.Errorf("one byte too many: %v, %v", want, s.Err())
	}
}

func TestServerWipesPasswords(t *testing.T) {
	const password = "correct horse battery staple"
	messages := cat(greeting(2), login("alice", password))
	for _, end := range []func(*Server){
		func(s *Server) { s.Checked(nil, true) }, func(s *Server) { s.Checked(nil, false) },
		func(s *Server) { s.TimedOut(nil) }, func(s *Server) { s.Receive(nil, make([]byte, 2*MaxPending)) },
	} {
		s := NewServer(closed)
		give(t, s, messages[:20], 1000) // half of the password
		half := s.pending.bytes
		give(t, s, messages[20:], 3)
		kept := s.password
		if string(kept) != password {
			t.Fatalf("the server has %q", kept)
		}
		end(s)
		if !bytes.Equal(half, make([]byte, len(half))) {
			t.Errorf("left in a buffer: %q", half)
		}
		if !bytes.Equal(kept, make([]byte, len(kept))) {
			t.Errorf("left of the password: %q", kept)
		}
	}
	s := NewServer(closed)
	give(t, s, messages[:20], 1000)
	half := s.pending.bytes
	s.Closed(nil)
	if !bytes.Equal(half, make([]byte, len(half))) {
		t.Errorf("left after the end: %q", half)
	}
}

func TestNoTextHasAPassword(t *testing.T) {
	const password = "secret"
	s := NewServer(closed)
	give(t, s, cat(greeting(2), login("alice", password)), 1000)
	l := Login{"alice", Secret(password)}
	c, err := NewClient(AddrDestination(example), l, true)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	for _, v := range []any{s, c, l, &l, l.Password, s.Err(), []any{s, c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			text += fmt.Sprintf(verb+"\n", v)
		}
	}
	for _, form := range []string{password, "73 65 63", "736563", "115 101 99", "0x73, 0x65"} {
		if strings.Contains(strings.ToLower(text), form) {
			t.Errorf("%q is in %s", form, text)
		}
	}
}
