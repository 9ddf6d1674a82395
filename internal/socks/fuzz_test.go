package socks

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// FuzzServer checks the invariants of a server on any bytes: it neither panics nor keeps
// more than its bound, fails with a Reason, and does the same in pieces as at once.
func FuzzServer(f *testing.F) {
	for _, c := range []*Client{
		{destination: AddrDestination(example), early: true},
		{destination: Destination{Name: "example.com", Port: 80}, login: alice, early: true},
	} {
		f.Add(append(c.Start(nil), "data"...), uint8(3), true, true, true)
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(1), true, false, false)
	f.Add(cat(greeting(2), login("alice", "secret"), []byte{5, 3, 0}, ipv6(1), port(0)), uint8(1), false, true, false)
	f.Fuzz(func(t *testing.T, sent []byte, size uint8, anonymous, users, right bool) {
		if len(sent) > MaxPending || size == 0 {
			return
		}
		a := Admission{anonymous, users}
		whole, out, want := serve(t, a, sent, max(1, len(sent)), right, nil)
		pieces, out2, want2 := serve(t, a, sent, int(size), right, nil)
		if !bytes.Equal(out, out2) || want != want2 || whole.Err() != pieces.Err() || whole.Destination() != pieces.Destination() || whole.User() != pieces.User() {
			t.Fatalf("at once: % x, %v, %v; in pieces: % x, %v, %v", out, want, whole.Err(), out2, want2, pieces.Err())
		}
		if (whole.Err() != nil) != (want == Failed) {
			t.Fatalf("%v, %v", want, whole.Err())
		}
		var reason Reason
		switch {
		case want == Failed && (!errors.As(whole.Err(), &reason) || reason == 0 || reason >= NumReasons):
			t.Fatalf("error %#v is no reason", whole.Err())
		case want == Done:
			checkRequest(t, whole, sent)
		}
		checkEnd(t, pieces)
	})
}

// checkRequest checks that a client of our own for the same destination would be served
// likewise, and that the rest are the last bytes of the client.
func checkRequest(t *testing.T, s *Server, sent []byte) {
	d := s.Destination()
	if d.validate() != nil || d.Addr.Is4In6() || d.Addr.Zone() != "" || d.Addr.IsValid() && d.Name != "" {
		t.Fatalf("destination %+v", d)
	}
	if again, err := NewDestination(d.Name, d.Port); d.Name != "" && (err != nil || again != d) {
		t.Fatalf("%+v becomes %+v, %v", d, again, err)
	}
	c := &Client{destination: d, early: true}
	other, _, want := serve(t, Admission{Anonymous: true}, c.Start(nil), 1000, true, nil)
	if want != Done || other.Destination() != d {
		t.Fatalf("%+v becomes %+v, %v", d, other.Destination(), other.Err())
	}
	if rest := s.Rest(); !bytes.HasSuffix(sent, rest) {
		t.Fatalf("rest %q of %q", rest, sent)
	}
}

// checkEnd checks that the end of the stream ends the preface, if it is under way.
func checkEnd(t *testing.T, s *Server) {
	before := s.Err()
	if _, want := s.Closed(nil); want != Failed && want != Done || before != nil && s.Err() != before {
		t.Fatalf("closed: %v, %v", want, s.Err())
	}
	if cap(s.pending.bytes) > MaxPending {
		t.Fatalf("a buffer of %d bytes", cap(s.pending.bytes))
	}
}

// FuzzClient checks the invariants of a client on any bytes of its server.
func FuzzClient(f *testing.F) {
	f.Add(cat([]byte{5, 0}, reply(0), []byte("data")), uint8(1), false, false)
	f.Add(cat([]byte{5, 2, 1, 0}, reply(5)), uint8(3), true, true)
	f.Add(cat([]byte{5, 2, 1, 0, 5, 0, 0}, named("gateway"), port(1)), uint8(9), true, false)
	f.Fuzz(func(t *testing.T, messages []byte, size uint8, user, early bool) {
		if len(messages) > MaxPending || size == 0 {
			return
		}
		l := Login{}
		if user {
			l = alice
		}
		whole, pieces := newClient(t, AddrDestination(example), l, early), newClient(t, AddrDestination(example), l, early)
		out, want := converse(whole, messages, max(1, len(messages)))
		out2, want2 := converse(pieces, messages, int(size))
		if !bytes.Equal(out, out2) && whole.Err() == nil || want != want2 || whole.Err() != pieces.Err() || whole.Bound() != pieces.Bound() {
			t.Fatalf("at once: % x, %v, %v; in pieces: % x, %v, %v", out, want, whole.Err(), out2, want2, pieces.Err())
		}
		var reason Reason
		var reply Reply
		if (want == Failed) != (whole.Err() != nil) || want == Failed && !errors.As(whole.Err(), &reason) && !errors.As(whole.Err(), &reply) {
			t.Fatalf("%v, %v", want, whole.Err())
		}
		if whole.StepByStep() && !early {
			t.Fatal("a client step by step is to try step by step")
		}
		if rest := whole.Rest(); !bytes.HasSuffix(messages, rest) {
			t.Fatalf("rest %q of %q", rest, messages)
		}
		if want := pieces.Closed(); want != Failed && want != Done {
			t.Fatal(want)
		}
	})
}

// FuzzDestination checks that what NewDestination accepts is an address or a host name.
func FuzzDestination(f *testing.F) {
	for _, host := range []string{"example.com", "EXAMPLE.com.", "192.0.2.1", "::ffff:1.2.3.4", "fe80::1%eth0", "", ".", "a..b", "127.1", "0x7f.1"} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		d, err := NewDestination(host, 1)
		if err != nil {
			return
		}
		if again, err := NewDestination(d.Name, 1); d.Name != "" && (again != d || err != nil) {
			t.Fatalf("%q: %+v, then %+v, %v", host, d, again, err)
		}
		if slices.ContainsFunc([]byte(d.Name), func(c byte) bool { return c <= ' ' || c >= 0x7f || c == ':' || c == '%' }) || len(d.Name) > maxName {
			t.Fatalf("%q is a name", d.Name)
		}
	})
}
