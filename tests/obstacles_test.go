//go:build linux

package tests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// Networks that block MPTCP, and places of a box by which answers do not come: only the
// first connections are to notice.

// middlebox gives a router rules on forwarded packets until the returned function ends it.
func middlebox(t *testing.T, h *netlab.Host, rule string) (end func()) {
	t.Helper()
	admin(t, h, "nft 'add table inet middlebox; add chain inet middlebox f { type filter hook forward priority 0; }; add rule inet middlebox f "+rule+"'")
	return func() { admin(t, h, "nft delete table inet middlebox") }
}

// connectTo connects the client and returns what the server says, or the error in short.
func connectTo(t *testing.T, n *netlab.Network, to netip.AddrPort) string {
	t.Helper()
	return connectFrom(t, n.Client, to)
}

func connectFrom(t *testing.T, h *netlab.Host, to netip.AddrPort) string {
	t.Helper()
	c, err := h.Dial(within(t, 8*time.Second), "tcp", "", to.String())
	var errno syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	case errors.As(err, &errno):
		return errno.Error()
	case err != nil:
		return err.Error()
	}
	defer c.Close()
	word, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(word)
}

// wantFlow fails the test unless the box has a flow like that to a server.
func wantFlow(t *testing.T, b *netlab.Box, to netip.AddrPort, what string, want func(api.Flow) bool) {
	t.Helper()
	all := dump(t, b).Flows
	if !slices.ContainsFunc(all, func(f api.Flow) bool { return f.Server == to && want(f) }) {
		t.Errorf("%s: %s has %+v", what, b.Role, all)
	}
}

func isPassed(reason string) func(api.Flow) bool {
	return func(f api.Flow) bool { return f.State == "passed" && f.Reason == reason }
}

func isBonded(f api.Flow) bool { return f.MPTCP }

// capableSYNs matches SYNs with an MPTCP option.
const capableSYNs = "tcp flags & (syn | ack) == syn tcp option 30 exists "

func TestPathThatBlocksMPTCP(t *testing.T) {
	t.Parallel()
	for _, f := range families {
		for how, rule := range map[string]string{
			"dropped": capableSYNs + "drop", "reset": capableSYNs + "reject with tcp reset",
			"prohibited":      capableSYNs + "reject with icmpx admin-prohibited",
			"unreachable":     capableSYNs + "reject with icmpx host-unreachable",
			"answers dropped": "tcp flags & (syn | ack) == (syn | ack) tcp option 30 exists drop",
		} {
			t.Run(how+" "+f.name, func(t *testing.T) {
				if how != "dropped" && how != "reset" {
					long(t)
				}
				tooltest.Need(t, "a path that blocks MPTCP", "nft", "sh")
				n := netlabtest.Build(t, twoLines)
				end := middlebox(t, n.Line("dsl").Router(), rule)
				p := start(t, n)
				at := netip.AddrPortFrom(f.server, 0)
				first, second := greet(t, p.Server, at, "hello"), greet(t, p.Server, at, "hello")
				for i, to := range []netip.AddrPort{first, first, second} {
					if got := connectTo(t, p.Network, to); got != "hello" {
						t.Errorf("connection %d: %q", i+1, got)
					}
					if i > 0 {
						wantFlow(t, p.cpe, to, fmt.Sprintf("connection %d", i+1), isPassed("mptcp-blocked"))
					}
				}
				if n := dump(t, p.cpe).Totals.Reasons["mptcp-blocked"]; n < 3 { // a repeat of a SYN counts again
					t.Errorf("the reason is counted %d times, want 3 or more; flows %+v", n, dump(t, p.cpe).Flows)
				}
				closed := refusing(t, p.Server, f.server)
				if got := connectTo(t, p.Network, closed); got != syscall.ECONNREFUSED.Error() {
					t.Errorf("a closed port: %q; the CPE has %+v, the HAG %+v", got, dump(t, p.cpe).Flows, dump(t, p.hag).Flows)
				}
				p.wantObstacle(t, f.server, "mptcp-blocked")
				end()
				eventually(t, "connections are bonded again", func() bool {
					connectTo(t, p.Network, first)
					f, _ := flowTo(t, p.cpe, first)
					return f.MPTCP
				})
				lines := 0
				for _, l := range p.cpe.Log() {
					if strings.Contains(l, "MP_CAPABLE") {
						lines++
					}
				}
				if lines != 2 {
					t.Errorf("%d lines of the log about MP_CAPABLE, want one at the beginning and one at the end: %q", lines, p.cpe.Log())
				}
			})
		}
	}
}

// wantObstacle fails the test unless the CPE has a server's network as an obstacle.
func (p *pair) wantObstacle(t *testing.T, server netip.Addr, reason string) {
	t.Helper()
	for _, o := range dump(t, p.cpe).Obstacles {
		if o.Prefix.Contains(server) && o.Prefix.Bits() < server.BitLen() && o.Path == "dsl" && o.Reason == reason {
			return
		}
	}
	t.Errorf("obstacles %+v, want one on dsl for %s", dump(t, p.cpe).Obstacles, server)
}

// refusing returns an address of a host with a port that is closed.
func refusing(t *testing.T, h *netlab.Host, at netip.Addr) netip.AddrPort {
	t.Helper()
	l := listen(t, h, "tcp", netip.AddrPortFrom(at, 0))
	defer l.Close()
	return addrOf(l)
}

// TestHAGWhosePathBlocksMPTCP has servers of the Internet connect to the customer's host.
func TestHAGWhosePathBlocksMPTCP(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "a path that blocks MPTCP", "nft", "sh")
	for how, rule := range map[string]string{"dropped": "drop", "reset": "reject with tcp reset"} {
		t.Run(how, func(t *testing.T) {
			n := netlabtest.Build(t, twoLines)
			middlebox(t, n.Line("dsl").Router(), capableSYNs+rule)
			p := start(t, n)
			for _, f := range families {
				to := greet(t, p.Client, netip.AddrPortFrom(f.client, 0), "hello")
				for i := range 2 {
					if got := connectFrom(t, p.Server, to); got != "hello" {
						t.Errorf("%s, connection %d: %q", f.name, i+1, got)
					}
				}
				wantFlow(t, p.hag, to, f.name, isPassed("mptcp-blocked"))
			}
		})
	}
}

// TestPathThatBeginsToBlockMPTCP has connections to a server work with MPTCP before.
func TestPathThatBeginsToBlockMPTCP(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "a path that blocks MPTCP", "nft", "sh")
	for how, rule := range map[string]string{"dropped": "drop", "reset": "reject with tcp reset"} {
		t.Run(how, func(t *testing.T) {
			p := start(t, netlabtest.Build(t, twoLines))
			for _, f := range families {
				to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
				p.wantGreeting(t, to, "hello", true)
				end := middlebox(t, p.Line("dsl").Router(), capableSYNs+rule)
				for i := range 2 {
					if got := connectTo(t, p.Network, to); got != "hello" {
						t.Errorf("%s, connection %d: %q", f.name, i+1, got)
					}
				}
				wantFlow(t, p.cpe, to, f.name, isPassed("mptcp-blocked"))
				end()
			}
		})
	}
}

// TestPathThatStripsMPTCPIsNoObstacle has a line take MP_CAPABLE out of SYNs, or of their answers:
// that costs no time, and is named.
func TestPathThatStripsMPTCPIsNoObstacle(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "a path that strips MPTCP", "nft", "sh")
	for name, rule := range map[string]string{
		"SYNs": capableSYNs + "reset tcp option 30", "SYN+ACKs": "tcp flags & (syn | ack) == (syn | ack) reset tcp option 30",
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, netlabtest.Build(t, twoLines))
			sees(t, p.cpe, "dsl", "is up", isUp)
			end := middlebox(t, p.Line("dsl").Router(), rule)
			to := make([]netip.AddrPort, len(families))
			for i, f := range families {
				to[i] = greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
				for range 2 {
					if got := connectTo(t, p.Network, to[i]); got != "hello" {
						t.Errorf("%s: %q", f.name, got)
					}
				}
			}
			if all := dump(t, p.cpe).Obstacles; len(all) > 0 {
				t.Errorf("obstacles %+v", all)
			}
			named := func() bool {
				return slices.ContainsFunc(pathsOf(t, p.cpe).Findings, func(f api.Finding) bool { return f.ID == "not-bonded" && f.Path == "dsl" })
			}
			eventually(t, "the line is named", named)
			end()
			p.wantGreeting(t, to[0], "hello", true)
			eventually(t, "the line is named no longer", func() bool { return !named() })
		})
	}
}

// TestPrefixThatBlocksMPTCP has a firewall block MPTCP before one of two networks, and
// beyond that before the whole path.
func TestPrefixThatBlocksMPTCP(t *testing.T) {
	t.Parallel()
	tooltest.Need(t, "a prefix that blocks MPTCP", "nft", "ip", "sh")
	n := netlabtest.Build(t, twoLines)
	dsl := n.Line("dsl").Router()
	var others []netip.Addr
	for i := range 4 {
		a := netip.AddrFrom4([4]byte{198, 18, byte(i), 1})
		others = append(others, a)
		admin(t, n.Server, "ip addr add "+a.String()+"/32 dev lo")
	}
	admin(t, n.Server, "ip link set lo up")
	admin(t, n.HAG, "ip route add 198.18.0.0/16 via "+netlab.Server4.String())
	end := middlebox(t, dsl, "ip daddr 198.18.0.0/24 "+capableSYNs+"drop")
	p := start(t, n)
	blocked, free := greet(t, p.Server, netip.AddrPortFrom(others[0], 0), "hello"), greet(t, p.Server, netip.AddrPortFrom(others[1], 0), "hello")
	for range 2 {
		for _, to := range []netip.AddrPort{blocked, free} {
			if got := connectTo(t, p.Network, to); got != "hello" {
				t.Errorf("%s: %q", to, got)
			}
		}
	}
	wantFlow(t, p.cpe, blocked, "the network that is blocked", isPassed("mptcp-blocked"))
	wantFlow(t, p.cpe, free, "another network", isBonded)
	end()
	p.down(t)
	p.up(t) // with an empty memory
	middlebox(t, dsl, capableSYNs+"drop")
	for _, a := range others {
		if got := connectTo(t, p.Network, greet(t, p.Server, netip.AddrPortFrom(a, 0), "hello")); got != "hello" {
			t.Errorf("%s: %q", a, got)
		}
	}
	all, err := p.cpe.Paths(within(t, 5*time.Second))
	if err != nil || len(all.Paths) == 0 || !slices.Equal(all.Paths[0].Blocked, []string{"IPv4"}) {
		t.Errorf("paths %+v, %v, want the first blocked for IPv4", all, err)
	}
	to := greet(t, p.Server, netip.AddrPortFrom(netlab.Server4, 0), "hello")
	if got := connectTo(t, p.Network, to); got != "hello" {
		t.Errorf("a network that was never asked: %q", got)
	}
	wantFlow(t, p.cpe, to, "a network that was never asked", isPassed("mptcp-blocked"))
}

// TestAnswersThatGoAroundABox has the server answer by a way of its own: around the HAG to
// the CPE, or around both boxes to the client.
func TestAnswersThatGoAroundABox(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		around func(*netlab.Network) *netlab.Host // where the other way leads
		flags  []string                           // of the CPE
		reason string
	}{
		{"around the HAG", func(n *netlab.Network) *netlab.Host { return n.CPE }, []string{"--path", "short"}, "mptcp-blocked"},
		{"around the HAG, by no path", func(n *netlab.Network) *netlab.Host { return n.CPE }, nil, "unanswered"},
		{"around both boxes", func(n *netlab.Network) *netlab.Host { return n.Client }, nil, "unanswered"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tooltest.Need(t, "answers around a box", "ip", "sysctl", "sh")
			n := netlabtest.Build(t, twoLines)
			end := c.around(n)
			if err := netlab.Connect(n.Server, "short", end, "short"); err != nil {
				t.Fatal(err)
			}
			for h, host := range map[*netlab.Host]string{n.Server: "1", end: "2"} {
				admin(t, h, "ip link set short up", "ip addr add 192.0.2.25"+host+"/24 dev short", "ip addr add fd99::"+host+"/64 dev short nodad",
					"sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.short.rp_filter=0")
			}
			admin(t, n.Server, "ip route add "+netlab.Client4.String()+" via 192.0.2.252", "ip -6 route add "+netlab.Client6.String()+" via fd99::2")
			p := start(t, n, c.flags...)
			for _, f := range families {
				to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
				for i := range 3 {
					if got := connectTo(t, p.Network, to); got != "hello" {
						t.Errorf("%s, connection %d: %q", f.name, i+1, got)
					}
				}
				wantFlow(t, p.cpe, to, f.name+", the third connection", isPassed(c.reason))
			}
		})
	}
}

// TestPortsOfTheMachinesListeners has a program of each router listen on the port from which
// the client connects, and another on the server's port.
func TestPortsOfTheMachinesListeners(t *testing.T) {
	t.Parallel()
	p := start(t, netlabtest.Build(t, twoLines))
	for name, h := range p.routers() {
		for _, f := range families {
			t.Run(name+" "+f.name, func(t *testing.T) {
				taken := addrOf(listen(t, h, "tcp", netip.MustParseAddrPort("[::]:0")))
				to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
				same := listen(t, h, "tcp", netip.AddrPortFrom(netip.IPv6Unspecified(), to.Port()))
				serve(same, func(c net.Conn) { io.WriteString(c, "router") }) //nolint:errcheck // the client will notice
				var got []byte
				err := p.Client.Do(func() error {
					d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.client, taken.Port())), Timeout: 5 * time.Second}
					c, err := d.Dial("tcp", to.String())
					if err != nil {
						return err
					}
					defer c.Close()
					got, err = io.ReadAll(c)
					return err
				})
				if err != nil || string(got) != "hello" {
					t.Errorf("%q, %v", got, err)
				}
				for _, b := range []*netlab.Box{p.cpe, p.hag} {
					wantFlow(t, b, to, "the flow", isBonded)
				}
			})
		}
	}
}

// TestTransparentListenersOfOthers has a transparent proxy of each router listen on the
// server's port, which gets none of the connections that nobody sends to it.
func TestTransparentListenersOfOthers(t *testing.T) {
	t.Parallel()
	for _, action := range []string{"relay", "pass"} {
		t.Run(action, func(t *testing.T) {
			p := start(t, netlabtest.Build(t, twoLines), "--action", action)
			for name, h := range p.routers() {
				for _, f := range families {
					to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
					l := transparent(t, h, netip.AddrPortFrom(netip.IPv6Unspecified(), to.Port()))
					serve(l, func(c net.Conn) { io.WriteString(c, "proxy") }) //nolint:errcheck // the client will notice
					if got := connectTo(t, p.Network, to); got != "hello" {
						t.Errorf("%s, %s: %q", name, f.name, got)
					}
				}
			}
		})
	}
}

// transparent listens with IP_TRANSPARENT, as proxies do to which packets are sent by TPROXY.
func transparent(t *testing.T, h *netlab.Host, at netip.AddrPort) (l net.Listener) {
	t.Helper()
	cfg := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1) }), err)
	}}
	err := h.Do(func() (err error) {
		l, err = cfg.Listen(t.Context(), "tcp", at.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
