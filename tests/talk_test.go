//go:build linux

package tests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

func TestConversationsWorkAsWithoutBoxes(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			t.Run("the server speaks first", func(t *testing.T) {
				l := listenAt(t, p.Server, f.server)
				serve(l, func(c net.Conn) { fmt.Fprintf(c, "welcome, %s", c.RemoteAddr()) })
				c := dial(t, p.Client, addrOf(l))
				got, err := io.ReadAll(c)
				if want := "welcome, " + c.LocalAddr().String(); err != nil || string(got) != want {
					t.Errorf("heard %q, %v, want %q", got, err, want)
				}
			})
			t.Run("each byte waits for the one before", func(t *testing.T) {
				l := listenAt(t, p.Server, f.server)
				serve(l, echo)
				c := dial(t, p.Client, addrOf(l))
				b := make([]byte, 1)
				for i := range 1000 {
					want := byte(i)
					b[0] = want
					if _, err := c.Write(b); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(c, b); err != nil || b[0] != want {
						t.Fatalf("byte %d: %d came back, %v", want, b[0], err)
					}
				}
			})
			t.Run("an end that has said all still listens", func(t *testing.T) {
				l := listenAt(t, p.Server, f.server)
				serve(l, func(c net.Conn) {
					all, _ := io.ReadAll(c) // a shortened stream differs
					time.Sleep(50 * time.Millisecond)
					c.Write(all) //nolint:errcheck // the client sees it
				})
				c := dial(t, p.Client, addrOf(l))
				sent := bytes.Repeat([]byte("synbond "), 100_000)
				if _, err := c.Write(sent); err != nil {
					t.Fatal(err)
				}
				if err := c.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%d bytes of %d came back, %v", len(got), len(sent), err)
				}
			})
			t.Run("a reset of one end resets the other", func(t *testing.T) {
				l := listenAt(t, p.Server, f.server)
				end := make(chan error, 1)
				serve(l, func(c net.Conn) {
					c.Write([]byte("x")) //nolint:errcheck // the client reads it
					_, err := io.Copy(io.Discard, c)
					end <- err
				})
				c := dial(t, p.Client, addrOf(l))
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatal(err)
				}
				reset(t, c)
				if err := <-end; !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the server read %v, want a reset", err)
				}
			})
		})
	}
}

// reset closes a connection with RST.
func reset(t *testing.T, c net.Conn) {
	t.Helper()
	if err := errors.Join(c.(*net.TCPConn).SetLinger(0), c.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestManyConnectionsAtOnce(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	servers := []netlab.Dialer{
		traffic(t, p.Server, p.Client, netlab.Server6),
		traffic(t, p.Server, p.Client, netlab.Server4),
		traffic(t, p.Client, p.Server, netlab.Client6),
	}
	ctx := within(t, 30*time.Second)
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			d := netlab.Direction(i % 2)
			if _, err := netlab.Transfer(ctx, servers[i%len(servers)], d, 100_000); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		if d := dump(t, b).Totals; d.Entered["relaying"] != 200 || d.Queue.Dropped+d.Queue.UserDropped+d.Queue.Stray > 0 {
			t.Errorf("%s: %+v", b.Role, d)
		}
	}
}

func TestUnrelatedTrafficIsLeftAlone(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	both := []*netlab.Box{p.cpe, p.hag}
	for _, tt := range []struct {
		name           string
		server, client *netlab.Host
		network        string
		at             netip.Addr
		by             []*netlab.Box
	}{
		{"the CPE's own service", p.CPE, p.Client, "tcp", netlab.CPELan6, both},
		{"the HAG's own service", p.HAG, p.Server, "tcp", netlab.HAGWan6, both},
		{"the CPE's own connection", p.Server, p.CPE, "tcp", netlab.Server6, both},
		{"the HAG's own connection", p.Client, p.HAG, "tcp", netlab.Client6, both},
		// A HAG cannot tell the SYN of such a client from a CPE's.
		{"a client's own MPTCP", p.Server, p.Client, "mptcp", netlab.Server6, both[:1]},
		{"a client's own MPTCP, IPv4", p.Server, p.Client, "mptcp", netlab.Server4, both[:1]},
	} {
		l := listen(t, tt.server, tt.network, netip.AddrPortFrom(tt.at, 0))
		serve(l, echo)
		c, err := tt.client.Dial(within(t, 5*time.Second), tt.network, "", l.Addr().String())
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if m, err := c.(*net.TCPConn).MultipathTCP(); m != (tt.network == "mptcp") {
			t.Errorf("%s: MPTCP at the client: %v, %v", tt.name, m, err)
		}
		for _, b := range tt.by {
			if f, seen := flowTo(t, b, addrOf(l)); seen && f.Action != "pass" {
				t.Errorf("%s: %s has it as %+v", tt.name, b.Role, f)
			}
		}
		c.Close()
	}
	// UDP passes.
	c, err := p.Client.Dial(t.Context(), "udp", "", netip.AddrPortFrom(netlab.Server6, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second)) //nolint:errcheck // of a new connection
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("UDP to a closed port: %v, want the server's refusal", err)
	}
}

func TestFirewallThatDropsInvalidPacketsDropsNone(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	if err := errors.Join(n.CPE.AddFirewall(), n.HAG.AddFirewall()); err != nil {
		t.Fatal(err)
	}
	p := start(t, n)
	for _, f := range families {
		for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
			server := traffic(t, p.Server, p.Client, f.server)
			if _, err := netlab.Transfer(within(t, 10*time.Second), server, d, 1<<20); err != nil {
				t.Error(err)
			}
			server = traffic(t, p.Client, p.Server, f.client)
			if _, err := netlab.Transfer(within(t, 10*time.Second), server, d, 1<<20); err != nil {
				t.Error(err)
			}
		}
		if _, errno := attempt(t, n.Client, netip.AddrPortFrom(f.server, 9)); errno != syscall.ECONNREFUSED {
			t.Errorf("%s closed port: %v", f.name, errno)
		}
		l := listenAt(t, n.Server, f.server)
		serve(l, echo)
		reset(t, dial(t, n.Client, addrOf(l)))
	}
	for _, h := range []*netlab.Host{n.CPE, n.HAG} {
		if drops, err := h.FirewallDrops(); err != nil || drops > 0 {
			t.Errorf("%s dropped %d packets, %v", h.Name, drops, err)
		}
	}
}

func TestOwnSource4DialsFromTheCPEsAddress(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines), "--own-source4")
	for addr, want := range map[netip.Addr]netip.Addr{
		netlab.Server6: netlab.Client6,
		netlab.Server4: p.Lines[0].CPE4,
	} {
		server := traffic(t, p.Server, p.Client, addr)
		r, err := netlab.Transfer(within(t, 10*time.Second), server, netlab.Down, 1<<20)
		if err != nil || r.PeerSeen.Addr() != want {
			t.Errorf("%s saw %s, want %s; %v", addr, r.PeerSeen, want, err)
		}
	}
	if _, errno := attempt(t, p.Client, netip.AddrPortFrom(netlab.Server4, 9)); errno != syscall.ECONNREFUSED {
		t.Errorf("closed port: %v", errno)
	}
}
