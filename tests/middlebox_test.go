//go:build linux

package tests

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// Middleboxes on the lines refuse subflows, take options away, or change bytes. A line that
// does so is left alone, and no connection hangs.

// Rules of a line's router in its forward chain.
const (
	stripsOptions = "tcp flags & syn == 0 reset tcp option mptcp"
	stripsAnswers = "tcp flags & (syn|ack) == (syn|ack) tcp option mptcp subtype 1 reset tcp option mptcp"
	resetsJoins   = "tcp flags & (syn|ack) == syn tcp option mptcp subtype 1 reject with tcp reset"
	rejectsJoins  = "tcp flags & (syn|ack) == syn tcp option mptcp subtype 1 reject with icmpx admin-prohibited"
	dropsJoins    = "tcp flags & (syn|ack) == syn tcp option mptcp subtype 1 drop"
	countsJoins   = "tcp flags & (syn|ack) == syn tcp option mptcp subtype 1 counter"
)

// meddle gives a line's router a rule, and returns a function that takes it away.
func meddle(t *testing.T, p *pair, line, rule string) (undo func()) {
	t.Helper()
	h := p.Line(line).Router()
	admin(t, h, "nft 'add table inet meddler; add chain inet meddler x { type filter hook forward priority -10; }; add rule inet meddler x "+
		countsJoins+"; add rule inet meddler x "+rule+"'")
	return func() { t.Helper(); admin(t, h, "nft delete table inet meddler") }
}

// joins returns the number of SYNs with MP_JOIN that a router with a rule has seen.
func joins(t *testing.T, h *netlab.Host) int {
	t.Helper()
	cmd := h.Command("sh", "-c", "nft list table inet meddler | sed -n 's/.*counter packets \\([0-9]*\\).*/\\1/p'")
	var out strings.Builder
	cmd.Stdout = &out
	if err := h.Run(cmd); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range strings.TrimSpace(out.String()) {
		n = 10*n + int(c-'0')
	}
	return n
}

// meddled starts both boxes between lines with middleboxes.
func meddled(t *testing.T, cpeFlags ...string) *pair {
	t.Helper()
	tooltest.Need(t, "middleboxes", "nft", "sh", "sed")
	return start(t, netlabtest.Build(t, twoLines), cpeFlags...)
}

func TestLineThatRefusesSubflowsIsLeftAlone(t *testing.T) {
	long(t)
	t.Parallel()
	for _, c := range []struct{ name, rule, why string }{
		{"resets joins", resetsJoins, "reset"},
		{"rejects joins", rejectsJoins, ""}, // the error depends on the address family
		{"drops joins", dropsJoins, "no answer"},
		{"strips options", stripsOptions, "reset after the handshake"},
		{"strips options of answers", stripsAnswers, "the answer is not the HAG's"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := meddled(t, "--encapsulation", "off")
			sees(t, p.cpe, "lte", "is up", isUp)
			undo := meddle(t, p, "lte", c.rule)
			var conns []net.Conn
			for _, f := range families {
				for range 4 {
					conns = append(conns, chatter(t, p.Network, f))
				}
			}
			sees(t, p.cpe, "lte", "refuses subflows", func(s *api.PathState) bool {
				return s.State == "up" && strings.HasPrefix(s.Reason, "subflows are refused: ") && strings.HasSuffix(s.Reason, c.why)
			})
			if got := findings(t, p.cpe); !slices.Contains(got, "refuses-subflows") {
				t.Errorf("findings %q", got)
			}
			router := p.Line("lte").Router()
			before := joins(t, router)
			for range 5 {
				for _, f := range families {
					conns = append(conns, chatter(t, p.Network, f))
				}
				time.Sleep(300 * time.Millisecond) // longer than a connection waits for its subflows
			}
			// Those that are unanswered are repeated.
			if n := joins(t, router) - before; n > 6 && c.rule != dropsJoins {
				t.Errorf("%d attempts by 10 connections", n)
			}
			for _, conn := range conns {
				chat(t, conn, "still there?")
			}
			undo()
			if c.rule == dropsJoins {
				return // the kernel repeats the first SYNs for a minute or two
			}
			eventually(t, "the line takes subflows again", func() bool {
				conns = append(conns, chatter(t, p.Network, families[0]))
				return pathOf(t, p.cpe, "lte").Subflows > 4 && !slices.Contains(findings(t, p.cpe), "refuses-subflows")
			})
		})
	}
}

func TestOptionsStrippedOnALineCostItsSubflowsOnly(t *testing.T) {
	long(t)
	t.Parallel()
	for _, c := range []struct {
		name  string
		lines []string
		late  bool // in the midst of the transfer
	}{
		{"on the first line", []string{"dsl"}, false},
		{"on the second line", []string{"lte"}, false},
		{"on both lines", []string{"dsl", "lte"}, false},
		{"on the first line, later", []string{"dsl"}, true},
		{"on the second line, later", []string{"lte"}, true},
		{"on both lines, later", []string{"dsl", "lte"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := meddled(t)
			for _, name := range []string{"dsl", "lte"} {
				sees(t, p.cpe, name, "is up", isUp)
				if err := p.Line(name).SetRate(20e6); err != nil {
					t.Fatal(err)
				}
			}
			for _, f := range families {
				for _, direction := range []netlab.Direction{netlab.Down, netlab.Up} {
					var undo []func()
					strip := func() {
						for _, l := range c.lines {
							undo = append(undo, meddle(t, p, l, stripsOptions))
						}
					}
					if !c.late {
						strip()
					}
					done := make(chan error, 1)
					go func() {
						_, err := netlab.Transfer(within(t, 30*time.Second), traffic(t, p.Server, p.Client, f.server), direction, 4<<20)
						done <- err
					}()
					if c.late {
						time.Sleep(400 * time.Millisecond) // a transfer takes longer
						strip()
					}
					if err := <-done; err != nil {
						t.Errorf("%s %s: %v", f.name, direction, err)
					}
					for _, u := range undo {
						u()
					}
				}
			}
		})
	}
}

// TestLineThatRefusesSubflowsCarriesThemInUDP has a line refuse joins, which then travel where no
// middlebox reads them.
func TestLineThatRefusesSubflowsCarriesThemInUDP(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]string{"resets joins": resetsJoins, "strips options": stripsOptions} {
		t.Run(name, func(t *testing.T) {
			p := meddled(t)
			sees(t, p.cpe, "lte", "is up", isUp)
			for _, l := range p.Lines {
				if err := l.SetRate(20e6); err != nil {
					t.Fatal(err)
				}
			}
			undo := meddle(t, p, "lte", rule)
			eventually(t, "the line is named", func() bool {
				chatter(t, p.Network, families[0]) // lives on, else it would say nothing
				return slices.Contains(findings(t, p.cpe), "encapsulates")
			})
			for _, f := range families {
				for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
					if _, err := netlab.Transfer(within(t, 30*time.Second), traffic(t, p.Server, p.Client, f.server), d, 4<<20); err != nil {
						t.Fatalf("%s %s: %v", f.name, d, err)
					}
				}
				if n := encapsulated(t, p, f); n < 1<<20 { // the way is chosen anew from time to time
					t.Errorf("%s: %d bytes are encapsulated, want about half of %d", f.name, n, 8<<20)
				}
			}
			if at := pathOf(t, p.cpe, "lte").Encapsulation; at == nil || at.State != "ready" {
				t.Errorf("the line's encapsulated way is %+v", at)
			}
			undo()
			eventually(t, "the line takes plain subflows again", func() bool {
				chatter(t, p.Network, families[0])
				return !slices.Contains(findings(t, p.cpe), "encapsulates")
			})
			p.down(t)
			for _, h := range []*netlab.Host{p.CPE, p.HAG} {
				admin(t, h, "! grep synbond- /proc/net/dev")
			}
		})
	}
}

// encapsulated returns the bytes that encapsulated subflows of connections to a server have carried.
func encapsulated(t *testing.T, p *pair, f family) (n uint64) {
	t.Helper()
	for _, flow := range dump(t, p.cpe).Flows {
		for _, s := range flow.Subflows {
			if flow.Server.Addr() == f.server && s.Encapsulated {
				n += s.BytesSent + s.BytesReceived
			}
		}
	}
	return n
}

func TestFirstLineThatStripsOptionsIsNamed(t *testing.T) {
	t.Parallel()
	p := meddled(t)
	undo := meddle(t, p, "dsl", stripsOptions)
	few := func(f family) {
		for range 3 {
			chatter(t, p.Network, f).Close()
		}
	}
	eventually(t, "the line is named", func() bool {
		few(families[0])
		return slices.Contains(findings(t, p.cpe), "removes-options")
	})
	undo()
	eventually(t, "the line is named no longer", func() bool {
		few(families[1])
		return !slices.Contains(findings(t, p.cpe), "removes-options")
	})
}

// endsWithReset sends and reads until a connection ends, and fails the test unless it ends
// with a reset within a few seconds.
func endsWithReset(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(c, zeros{})
		sent <- err
	}()
	_, err := io.Copy(io.Discard, c)
	if err = errors.Join(err, <-sent); !errors.Is(err, syscall.ECONNRESET) { // one of them gets the error
		t.Errorf("the connection ends with %v, want a reset", err)
	}
}

// ended waits until a box shows the flow of a connection as ended for that reason.
func ended(t *testing.T, b *netlab.Box, c net.Conn, reason string) {
	t.Helper()
	var f api.Flow
	eventually(t, "the flow ends with "+reason, func() bool {
		f, _ = flowFrom(t, b, c)
		return f.State == "closed" && f.Reason == reason
	})
	if t.Failed() {
		t.Logf("flow %+v", f)
	}
	if n := dump(t, b).Totals.Reasons[reason]; n == 0 {
		t.Errorf("no flow is counted that ended with %s", reason)
	}
}

// TestConnectionThatNoLineCarriesIsReset takes the options away on both lines in the midst
// of connections that may not go on in UDP: no subflow lives on, none can be opened, and a fallback
// is too late.
func TestConnectionThatNoLineCarriesIsReset(t *testing.T) {
	t.Parallel()
	p := meddled(t, "--encapsulation", "off")
	for _, f := range families {
		c := chatter(t, p.Network, f)
		sees(t, p.cpe, "lte", "has its subflow", has(1))
		undo := []func(){meddle(t, p, "dsl", stripsOptions), meddle(t, p, "lte", stripsOptions)}
		endsWithReset(t, c)
		ended(t, p.cpe, c, "no-subflow")
		if f, _ := flowFrom(t, p.cpe, chatter(t, p.Network, f)); f.MPTCP {
			t.Errorf("a new flow has not fallen back to TCP: %+v", f)
		}
		for _, u := range undo {
			u()
		}
	}
}

// zeros is an endless reader.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestFlowsOfAHAGThatHasRestartedAreReset restarts a HAG whose resets are all lost, as those
// of a machine that reboots.
func TestFlowsOfAHAGThatHasRestartedAreReset(t *testing.T) {
	t.Parallel()
	p := meddled(t)
	var conns []net.Conn
	for _, f := range families {
		conns = append(conns, chatter(t, p.Network, f))
	}
	sees(t, p.cpe, "lte", "has its subflows", has(len(conns)))
	undo := []func(){meddle(t, p, "dsl", "meta l4proto tcp drop"), meddle(t, p, "lte", "meta l4proto tcp drop")}
	err := p.hag.Kill()
	if err == nil {
		time.Sleep(300 * time.Millisecond) // for the resets to be lost
		p.hag, err = p.StartHAG(synbond(), p.dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		endsWithReset(t, c)
		ended(t, p.cpe, c, "hag-restarted")
	}
	for _, u := range undo {
		u()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	eventually(t, "new flows are relayed", func() bool {
		f, _ := flowFrom(t, p.cpe, chatter(t, p.Network, families[0]))
		return f.State == "relaying" && f.MPTCP && ctx.Err() == nil
	})
}

// TestHAGsHalfEndsAfterACPEWasWithoutPower takes the power of a CPE: its sockets vanish
// without a packet. A new run at its addresses makes the HAG ask what lives on there.
func TestHAGsHalfEndsAfterACPEWasWithoutPower(t *testing.T) {
	t.Parallel()
	p := meddled(t)
	tooltest.Need(t, "sockets that vanish", "ss")
	var conns []net.Conn
	for _, f := range families {
		conns = append(conns, chatter(t, p.Network, f))
	}
	sees(t, p.cpe, "lte", "has its subflows", has(len(conns)))
	undo := []func(){meddle(t, p, "dsl", "meta l4proto tcp drop"), meddle(t, p, "lte", "meta l4proto tcp drop")}
	if err := p.cpe.Kill(); err != nil {
		t.Fatal(err)
	}
	admin(t, p.CPE, "ss -K -t >/dev/null")
	for _, u := range undo {
		u()
	}
	var err error
	if p.cpe, err = p.StartCPE(synbond(), p.dir, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		eventually(t, "the HAG's half of "+c.LocalAddr().String()+" has no subflow", func() bool {
			f, ok := flowFrom(t, p.hag, c)
			return ok && len(f.Subflows) == 0
		})
	}
}

// TestSlowReaderGetsAllWhenTheBoxesHaveFinished lets a client that has half-closed read
// late: the boxes have then closed their subflows, and one holds what is left.
func TestSlowReaderGetsAllWhenTheBoxesHaveFinished(t *testing.T) {
	t.Parallel()
	p := start(t, netlabtest.Build(t, twoLines))
	const size = 1 << 20
	for _, f := range families {
		l := listenAt(t, p.Server, f.server)
		serve(l, func(c net.Conn) {
			io.Copy(io.Discard, c)                                  //nolint:errcheck // the client will notice
			c.Write(bytes.Repeat([]byte("slow"), size/len("slow"))) //nolint:errcheck // likewise
		})
		c := dial(t, p.Client, addrOf(l)).(*net.TCPConn)
		if err := errors.Join(c.SetReadBuffer(8<<10), c.CloseWrite()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Second) // longer than a connection may be without a subflow
		if n, err := io.Copy(io.Discard, c); n != size || err != nil {
			t.Errorf("%s: %d bytes of %d, %v", f.name, n, size, err)
		}
	}
}
