//go:build linux

package tests

import (
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// TestWhatIsSentWithoutASubflowArrives has hosts send their last bytes, and some a FIN, while
// all lines are down and the boxes have no subflow left. The kernel starts nothing when a
// subflow comes (net/mptcp/protocol.c: __mptcp_push_pending, mptcp_finish_join), and takes
// none after a FIN.
func TestWhatIsSentWithoutASubflowArrives(t *testing.T) {
	t.Parallel()
	p := start(t, netlabtest.Build(t, twoLines))
	for _, name := range []string{"dsl", "lte"} {
		sees(t, p.cpe, name, "is up", isUp)
	}
	var all []lastWords
	for _, f := range families {
		for _, c := range []lastWords{
			{name: "bytes of the server"},
			{name: "bytes and FIN of the server", fin: true},
			{name: "bytes of the client", up: true},
			{name: "bytes and FIN of the client", up: true, fin: true},
		} {
			c.name = f.name + ": " + c.name
			c.begin(t, p, f)
			all = append(all, c)
		}
	}
	p.cut(t)
	for _, c := range all {
		c.write(t)
	}
	time.Sleep(100 * time.Millisecond) // until the boxes have the bytes
	p.silence(t, false)
	for _, c := range all {
		t.Run(c.name, c.ends)
	}
}

// lastWords is a connection with a host that sends its last bytes.
type lastWords struct {
	name     string
	up, fin  bool // from the client; a FIN follows
	from, to *net.TCPConn
}

// begin connects a client and a server, each of which hears of the other.
func (c *lastWords) begin(t *testing.T, p *pair, f family) {
	t.Helper()
	l := listenAt(t, p.Server, f.server)
	c.to = dial(t, p.Client, addrOf(l)).(*net.TCPConn)
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if c.from = s.(*net.TCPConn); c.up {
		c.from, c.to = c.to, c.from
	}
	for _, way := range [][2]net.Conn{{c.from, c.to}, {c.to, c.from}} {
		if _, err := io.WriteString(way[0], "x"); err != nil {
			t.Fatal(err)
		}
		expectBytes(t, way[1], "x", false)
	}
}

// write sends the last bytes.
func (c *lastWords) write(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(c.from, "last words"); err != nil {
		t.Fatal(err)
	}
	if !c.fin {
		return
	}
	if err := c.from.CloseWrite(); err != nil {
		t.Fatal(err)
	}
}

// ends checks that the last bytes arrive, and what answers them.
func (c *lastWords) ends(t *testing.T) {
	expectBytes(t, c.to, "last words", c.fin)
	if _, err := io.WriteString(c.to, "answer"); err != nil {
		t.Fatal(err)
	}
	c.to.Close()
	expectBytes(t, c.from, "answer", true)
}

// expectBytes reads these bytes, and the end if it is to follow.
func expectBytes(t *testing.T, c net.Conn, want string, end bool) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v; want %q", got, err, want)
	}
	if end {
		if n, err := c.Read(got); n != 0 || err != io.EOF {
			t.Fatalf("after all bytes read gives %d bytes, %v; want the end", n, err)
		}
	}
}

// silence has all lines lose everything, or no longer.
func (p *pair) silence(t *testing.T, on bool) {
	t.Helper()
	for _, l := range p.Lines {
		if err := l.Down(on); err != nil {
			t.Error(err)
		}
	}
}

// cut silences all lines, and ends all subflows at both boxes. The HAG, which can open none,
// has none then; the CPE tries to.
func (p *pair) cut(t *testing.T) {
	t.Helper()
	p.silence(t, true)
	for _, h := range []*netlab.Host{p.CPE, p.HAG} {
		err := h.Do(func() error {
			_, err := host.EndSockets(host.SubflowStates, func(all []host.Socket) []host.Socket {
				return slices.DeleteFunc(all, func(s host.Socket) bool { return s.Token == 0 })
			})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the HAG has no subflow left", func() bool {
		return !slices.ContainsFunc(dump(t, p.hag).Flows, func(f api.Flow) bool { return f.State == "relaying" && len(f.Subflows) > 0 })
	})
}
