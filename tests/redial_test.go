//go:build linux

package tests

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// farLines have delays long enough for a line to fail while a SYN is under way.
var farLines = netlab.Topology{Lines: []netlab.LineConfig{
	{Name: "dsl", Delay: 50 * time.Millisecond}, {Name: "lte", Delay: 50 * time.Millisecond},
}}

// TestSYNUnderWayIsDecidedOnAgainWhenItsLineFails makes lines fail so that the CPE has
// not noticed yet when a client connects. Its SYN is treated like a later one.
func TestSYNUnderWayIsDecidedOnAgainWhenItsLineFails(t *testing.T) {
	silence := func(lines ...*netlab.Line) (err error) {
		for _, l := range lines {
			err = errors.Join(err, l.Down(true))
		}
		return err
	}
	dsl := func(n *netlab.Network) error { return silence(n.Line("dsl")) }
	for _, c := range []struct {
		name, does    string
		fail          func(*netlab.Network) error
		state, reason string // of the flows afterwards
		from          bool   // dialed from lte
	}{
		{"own-source", "own-source", dsl, "relaying", "first-path-down", true},
		{"pass", "pass", dsl, "passed", "first-path-down", false},
		{"all lines fall", "own-source", func(n *netlab.Network) error { return silence(n.Lines...) }, "passed", "hag-down", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := start(t, netlabtest.Build(t, farLines), "--first-path-down", c.does)
			for _, name := range []string{"dsl", "lte"} {
				sees(t, p.cpe, name, "is up", isUp)
			}
			if err := c.fail(p.Network); err != nil {
				t.Fatal(err)
			}
			var servers []net.Listener
			connected := make([]chan net.Conn, len(families))
			for i, f := range families {
				l, ctx := listenAt(t, p.Server, f.server), within(t, 15*time.Second)
				serve(l, echo)
				servers, connected[i] = append(servers, l), make(chan net.Conn, 1)
				go func() {
					conn, _ := p.Client.Dial(ctx, "tcp", "", l.Addr().String()) // a SYN that passes has no route
					connected[i] <- conn
				}()
			}
			for i, f := range families {
				var flow api.Flow
				eventually(t, f.name+": the flow is "+c.state+", "+c.reason, func() bool {
					flow, _ = flowTo(t, p.cpe, addrOf(servers[i]))
					return flow.State == c.state && flow.Reason == c.reason
				})
				lte := []netip.Addr{p.Line("lte").CPE6, p.Line("lte").CPE4}[i]
				if from := flow.DialedFrom.Addr() == lte; from != c.from {
					t.Errorf("%s: it was dialed from %s: %+v", f.name, flow.DialedFrom, flow)
				}
				if !c.from {
					continue
				}
				conn := <-connected[i]
				if conn == nil {
					t.Fatalf("%s: the client is not connected", f.name)
				}
				defer conn.Close()
				chat(t, conn, "hello")
			}
		})
	}
}
