//go:build linux

package tests

import (
	"io"
	"net"
	"slices"
	"testing"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// lastSteps are ways in which a connection over both lines ends: what the client and the
// server do once the server has the client's bytes.
var lastSteps = []struct {
	name           string
	client, server func(net.Conn)
}{
	{"both close", closeConn, closeConn},
	{"the client resets", func(c net.Conn) { _ = endByReset(c) }, waitForEnd},
	{"the server resets", waitForEnd, func(c net.Conn) { _ = endByReset(c) }},
	{"both reset", func(c net.Conn) { _ = endByReset(c) }, func(c net.Conn) { _ = endByReset(c) }},
	{"the client closes with bytes unread", closeConn, func(c net.Conn) {
		_, _ = c.Write(make([]byte, 100_000)) // may fail by the reset
		waitForEnd(c)
	}},
}

func closeConn(c net.Conn) { _ = c.Close() }

// waitForEnd reads until the peer has ended, and closes.
func waitForEnd(c net.Conn) {
	_, _ = io.Copy(io.Discard, c) // a reset is an end, too
	_ = c.Close()
}

// What a flow was is asked when it has ended: its token, and the subflows that it had.
func TestEndedFlowsKeepTheirTokenAndSubflows(t *testing.T) {
	t.Parallel()
	p := start(t, netlabtest.Build(t, twoLines))
	for _, f := range families {
		for _, e := range lastSteps {
			t.Run(f.name+", "+e.name, func(t *testing.T) {
				l := listenAt(t, p.Server, f.server)
				told := make(chan struct{})
				serve(l, func(c net.Conn) {
					if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
						return
					}
					_, _ = c.Write([]byte("hello"))
					<-told
					e.server(c)
				})
				c := dial(t, p.Client, addrOf(l))
				chat(t, c, "hello")
				live := map[*netlab.Box]api.Flow{}
				for _, b := range []*netlab.Box{p.cpe, p.hag} {
					eventually(t, b.Role+" has two subflows", func() bool {
						live[b], _ = flowFrom(t, b, c)
						return len(live[b].Subflows) == 2
					})
				}
				close(told)
				e.client(c)
				for b, was := range live {
					var is api.Flow
					eventually(t, b.Role+" sees the end", func() bool {
						is, _ = flowTo(t, b, was.Server)
						return is.State == "closed"
					})
					if is.Token != was.Token || is.Token == 0 || !is.MPTCP || !slices.Equal(ends(is), ends(was)) {
						t.Errorf("%s: ended as %+v, was %+v", b.Role, is, was)
					}
				}
			})
		}
	}
}

// A connection that was reset before anybody looked at it shows its token and its first subflow.
func TestEndedFlowsThatNobodyLookedAtHaveTheirToken(t *testing.T) {
	t.Parallel()
	p := start(t, netlabtest.Build(t, twoLines))
	for _, f := range families {
		for _, e := range lastSteps {
			l := listenAt(t, p.Server, f.server)
			serve(l, func(c net.Conn) {
				if _, err := io.ReadFull(c, make([]byte, 5)); err == nil {
					_, _ = c.Write([]byte("hello"))
					e.server(c)
				}
			})
			c := dial(t, p.Client, addrOf(l))
			chat(t, c, "hello")
			e.client(c)
			for _, b := range []*netlab.Box{p.cpe, p.hag} {
				var is api.Flow
				eventually(t, b.Role+" sees the end", func() bool {
					is, _ = flowTo(t, b, addrOf(l))
					return is.State == "closed"
				})
				if !is.MPTCP || is.Token == 0 || len(is.Subflows) == 0 || is.Subflows[0].Path != "dsl" {
					t.Errorf("%s, %s, %s: ended as %+v", f.name, e.name, b.Role, is)
				}
			}
		}
	}
}

// ends lists the ends of a flow's subflows, and their paths.
func ends(f api.Flow) (all []string) {
	for _, s := range f.Subflows {
		all = append(all, s.Path+" "+s.Local.String()+" "+s.Remote.String())
	}
	slices.Sort(all)
	return all
}
