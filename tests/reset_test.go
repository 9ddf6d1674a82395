//go:build linux

package tests

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// shapedLines are two lines of 5 Mbit/s, where bytes are long under way.
var shapedLines = netlab.Topology{Lines: []netlab.LineConfig{
	{Name: "dsl", Rate: 5_000_000, Buffer: 256 << 10},
	{Name: "lte", Rate: 5_000_000, Buffer: 256 << 10},
}}

// endByReset closes a connection without a FIN.
func endByReset(c net.Conn) error {
	return errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close())
}

// mptcpCount is a counter of MPTCP in a host's kernel (net/mptcp/mib.c).
func mptcpCount(t *testing.T, h *netlab.Host, name string) int {
	t.Helper()
	var text []byte
	err := h.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		words, ok := strings.CutPrefix(line, "MPTcpExt: ")
		if !ok {
			continue
		}
		values := strings.Fields(words)
		for i, known := range names {
			if known == name {
				n, _ := strconv.Atoi(values[i]) // the kernel writes numbers
				return n
			}
		}
		names = values
	}
	t.Fatalf("the kernel has no counter %s", name)
	return 0
}

// ending is how a connection ends after size bytes, at the host that is to see it.
type ending struct {
	name string
	size int
	// resetter plays the host that resets, other the one that reads.
	resetter func(c net.Conn, bytes []byte) error
	other    func(c net.Conn) ([]byte, error)
}

var lastBytes = []ending{
	{"14 kB, then a reset", 14_000, func(c net.Conn, b []byte) error {
		_, err := c.Write(b)
		return errors.Join(err, endByReset(c))
	}, func(c net.Conn) ([]byte, error) { return io.ReadAll(c) }},
	{"an answer beside an unfinished upload", 14_000, func(c net.Conn, b []byte) error {
		_, err := c.Write(b)
		return errors.Join(err, c.Close()) // a reset, because of the bytes unread
	}, func(c net.Conn) ([]byte, error) {
		_, _ = c.Write(make([]byte, 300_000)) // may fail by the reset, and then takes its error
		return io.ReadAll(c)
	}},
}

// TestBytesBeforeAResetArrive lets each host reset connections over fast and slow lines: the
// other gets every byte, then the reset, and the boxes pass it on as such.
func TestBytesBeforeAResetArrive(t *testing.T) {
	for name, lines := range map[string]netlab.Topology{"fast lines": twoLines, "5 Mbit/s": shapedLines} {
		t.Run(name, func(t *testing.T) {
			p := start(t, netlabtest.Build(t, lines))
			for _, f := range families {
				for _, e := range lastBytes {
					t.Run(f.name+", server, "+e.name, func(t *testing.T) { p.endsByServer(t, f, e) })
				}
				t.Run(f.name+", client, "+lastBytes[0].name, func(t *testing.T) { p.endsByClient(t, f, lastBytes[0]) })
			}
			for _, h := range []*netlab.Host{p.HAG, p.CPE} {
				if n := mptcpCount(t, h, "MPFastcloseTx"); n == 0 {
					t.Errorf("%s has passed on no reset", h.Name)
				}
			}
		})
	}
}

// resets is how many connections each host resets in a test.
const resets = 25

func (p *pair) endsByServer(t *testing.T, f family, e ending) {
	want := bytes.Repeat([]byte("x"), e.size)
	l := listenAt(t, p.Server, f.server)
	serve(l, func(c net.Conn) {
		if _, err := io.ReadFull(c, make([]byte, 1)); err == nil {
			_ = e.resetter(c, want) // what the client gets says enough
		}
	})
	for range resets {
		c := dial(t, p.Client, addrOf(l))
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		got, err := e.other(c)
		if !bytes.Equal(got, want) || err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("%d bytes of %d, then %v", len(got), len(want), err)
		}
	}
}

func (p *pair) endsByClient(t *testing.T, f family, e ending) {
	want := bytes.Repeat([]byte("x"), e.size)
	l := listenAt(t, p.Server, f.server)
	type outcome struct {
		n   int
		err error
	}
	seen := make(chan outcome, resets)
	serve(l, func(c net.Conn) {
		got, err := e.other(c)
		seen <- outcome{len(got), err}
	})
	for range resets {
		if err := e.resetter(dial(t, p.Client, addrOf(l)), want); err != nil {
			t.Fatal(err)
		}
	}
	deadline := within(t, 20*time.Second)
	for range resets {
		select {
		case o := <-seen:
			if o.n != e.size || !errors.Is(o.err, unix.ECONNRESET) {
				t.Errorf("%d bytes of %d, then %v; want a connection reset", o.n, e.size, o.err)
			}
		case <-deadline.Done():
			t.Fatal("a connection does not reach the server")
		}
	}
}
