//go:build linux

package tests

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// TestClientThatHalfClosesAtOnceGetsAllLines downloads like an HTTP/1.0 client that sends its
// FIN right after the request.
func TestClientThatHalfClosesAtOnceGetsAllLines(t *testing.T) {
	t.Parallel()
	const size = 6 << 20
	p := start(t, netlabtest.Build(t, slowLines))
	for _, f := range families {
		for _, waits := range []bool{false, true} { // the server waits for the FIN before it answers
			l := listenAt(t, p.Server, f.server)
			serve(l, func(c net.Conn) {
				if waits {
					io.Copy(io.Discard, c)
				} else {
					c.Read(make([]byte, 64))
				}
				c.Write(make([]byte, size))
			})
			before := carried(p.Network)
			c := dial(t, p.Client, addrOf(l))
			c.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := c.Write([]byte("GET\r\n")); err != nil {
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			n, err := io.Copy(io.Discard, c)
			if err != nil || n != size {
				t.Fatalf("%s, server waits %v: %d bytes, error %v", f.name, waits, n, err)
			}
			lte := carried(p.Network)[1] - before[1]
			t.Logf("%s, server waits %v: lte carried %d bytes", f.name, waits, lte)
			if !waits && lte < size/4 {
				t.Errorf("%s: lte carried %d of %d bytes", f.name, lte, size)
			}
		}
	}
}

func TestUrgentDataArrivesInLine(t *testing.T) {
	t.Parallel()
	p := start(t, netlabtest.Build(t, twoLines))
	for _, f := range families {
		l := listenAt(t, p.Server, f.server)
		serve(l, echo)
		c := dial(t, p.Client, addrOf(l))
		c.SetDeadline(time.Now().Add(20 * time.Second))
		raw, err := c.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 3)
		for range 3 {
			if _, err := c.Write([]byte("a")); err != nil {
				t.Fatal(err)
			}
			if err := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }); err != nil {
				t.Fatal(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte("b")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "a!b" {
				t.Fatalf("%s: %q, error %v", f.name, got, err)
			}
		}
	}
}
