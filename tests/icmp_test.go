//go:build linux

package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rejections are the answers of a firewall to SYNs, each on a port of its own.
var rejections = []struct {
	name   string
	port   uint16
	reject expr.Reject
}{
	{"no route", 1001, expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_NO_ROUTE}},
	{"host unreachable", 1002, expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_HOST_UNREACH}},
	{"prohibited", 1003, expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}},
	{"port unreachable", 1004, expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_PORT_UNREACH}},
	{"reset", 1005, expr.Reject{Type: unix.NFT_REJECT_TCP_RST}},
}

// rejectSYNs makes a host answer SYNs in one of its hooks with the rejections.
func rejectSYNs(t *testing.T, h *netlab.Host, hook *nftables.ChainHook) {
	t.Helper()
	equal := func(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }
	err := h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Name: "rejections", Family: nftables.TableFamilyINet})
		chain := c.AddChain(&nftables.Chain{
			Name: "hook" + strconv.Itoa(int(*hook)), Table: table,
			Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter,
		})
		for _, r := range rejections {
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{unix.IPPROTO_TCP}),
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: destPort, Len: 2},
				equal(binaryutil.BigEndian.PutUint16(r.port)),
				&r.reject,
			}})
		}
		return c.Flush()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// dead are the kinds of routes that reject packets.
var dead = []struct {
	name string
	kind int
}{
	{"unreachable", unix.RTN_UNREACHABLE},
	{"prohibit", unix.RTN_PROHIBIT},
	{"blackhole", unix.RTN_BLACKHOLE},
}

// Networks behind the server, which is then a router.
var (
	beyond6 = netip.MustParsePrefix("2001:db8:3::/64")
	beyond4 = netip.MustParsePrefix("192.0.2.0/24")
)

// nth returns the address of a network with that last byte.
func nth(p netip.Prefix, last byte) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] = last
	a, _ := netip.AddrFromSlice(b) // it has the length of an address
	return a
}

// target is a destination of a client's connect.
type target struct {
	name string
	to   netip.AddrPort
}

// set sets kernel parameters of a host to one value.
func set(t *testing.T, h *netlab.Host, value string, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := h.Sysctl(key, value); err != nil {
			t.Fatal(err)
		}
	}
}

// unlimited turns off the limits of ICMP errors on hosts. For IPv4 the rate must not
// be 0, which also forbids errors about routes.
func unlimited(t *testing.T, hosts ...*netlab.Host) {
	t.Helper()
	for _, h := range hosts {
		set(t, h, "0", "net.ipv4.icmp_ratemask", "net.ipv6.icmp.ratelimit")
	}
}

// routerOf makes a host a router.
func routerOf(t *testing.T, h *netlab.Host) {
	t.Helper()
	set(t, h, "1", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
}

// route adds routes to a host.
func route(t *testing.T, h *netlab.Host, routes ...netlab.Route) {
	t.Helper()
	for _, r := range routes {
		if err := h.AddRoute(r); err != nil {
			t.Fatal(err)
		}
	}
}

// obstruct adds obstacles to the network and returns a target behind each: firewalls
// on the server and on a router beyond the HAG (the same host), and dead routes on
// each router.
func obstruct(t *testing.T, n *netlab.Network) (all []target) {
	t.Helper()
	unlimited(t, n.CPE, n.HAG, n.Server)
	routerOf(t, n.Server)
	// Redirects and errors share one limit.
	set(t, n.Server, "0", "net.ipv4.conf.all.send_redirects", "net.ipv4.conf."+netlab.ServerInterface+".send_redirects")
	route(t, n.HAG,
		netlab.Route{To: beyond6, Via: netlab.Server6, Dev: netlab.HAGWanInterface},
		netlab.Route{To: beyond4, Via: netlab.Server4, Dev: netlab.HAGWanInterface})
	rejectSYNs(t, n.Server, nftables.ChainHookInput)
	rejectSYNs(t, n.Server, nftables.ChainHookForward)
	for _, f := range families {
		beyond := beyond6
		if f.server.Is4() {
			beyond = beyond4
		}
		add := func(name string, to netip.Addr, port uint16) {
			all = append(all, target{f.name + ", " + name, netip.AddrPortFrom(to, port)})
		}
		for _, r := range rejections {
			add(r.name+" by the server's firewall", f.server, r.port)
			add(r.name+" by a router's firewall", nth(beyond, 1), r.port)
		}
		add("closed port", f.server, 9)
		for i, at := range []struct {
			name string
			host *netlab.Host
		}{{"a router beyond the HAG", n.Server}, {"the HAG", n.HAG}, {"the CPE", n.CPE}} {
			for j, d := range dead {
				to := nth(beyond, byte(16*(i+1)+j))
				err := at.host.Netlink(func(nl *netlink.Handle) error {
					return nl.RouteAdd(&netlink.Route{Dst: hostNet(to), Type: d.kind})
				})
				if err != nil {
					t.Fatal(err)
				}
				add(d.name+" route of "+at.name, to, 80)
			}
		}
	}
	return all
}

// hostNet returns the network of one address.
func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// nothing is the outcome of a connect without an answer, for long enough to send the
// SYN twice.
const nothing = "no answer"

// outcomes connects to all targets at the same time, and returns the results.
func outcomes(t *testing.T, h *netlab.Host, targets []target, within time.Duration) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	got := make([]string, len(targets))
	var all sync.WaitGroup
	for i, tt := range targets {
		all.Go(func() {
			c, err := h.Dial(ctx, "tcp", "", tt.to.String())
			var errno syscall.Errno
			switch {
			case err == nil:
				got[i] = "connected"
				c.Close()
			case errors.As(err, &errno):
				got[i] = unix.ErrnoName(errno)
			case errors.Is(err, context.DeadlineExceeded):
				got[i] = nothing
			default:
				got[i] = err.Error()
			}
		})
	}
	all.Wait()
	return got
}

// setups are the configurations of boxes that treat SYNs differently.
var setups = []struct {
	name  string
	start func(*testing.T, *netlab.Network)
}{
	{"both boxes relay", func(t *testing.T, n *netlab.Network) { start(t, n) }},
	{"a CPE learns", func(t *testing.T, n *netlab.Network) {
		alone(t, n.CPE, "cpe", "--plain", netlab.CPELanInterface, "--path", "dsl", "--action", "learn")
	}},
	{"a HAG strips", func(t *testing.T, n *netlab.Network) {
		alone(t, n.HAG, "hag", "--plain", netlab.HAGWanInterface, "--path", "dsl", "--path", "lte", "--action", "strip",
			"--join", netip.AddrPortFrom(n.Lines[1].HAG6, netlab.JoinPort).String())
		alone(t, n.CPE, "cpe", "--plain", netlab.CPELanInterface, "--path", "dsl", "--path", "lte")
	}},
}

// firewalls makes CPE and HAG drop packets with the connection tracking state invalid.
func firewalls(t *testing.T, n *netlab.Network) {
	t.Helper()
	if err := errors.Join(n.CPE.AddFirewall(), n.HAG.AddFirewall()); err != nil {
		t.Fatal(err)
	}
}

// Times for the outcomes of connecting: a SYN is repeated once within shortTime, and twice
// within longTime. Boxes that dial twice cause two ICMP errors for a target, and hosts send
// six at once and one a second to a destination (net.ipv6.icmp.ratelimit).
const (
	shortTime = 1800 * time.Millisecond
	longTime  = 4500 * time.Millisecond
)

func TestErrorsReachTheClientAsWithoutBoxes(t *testing.T) {
	for _, s := range setups {
		t.Run(s.name, func(t *testing.T) {
			n := netlabtest.Build(t, twoLines)
			targets := obstruct(t, n)
			without := outcomes(t, n.Client, targets, longTime)
			firewalls(t, n)
			s.start(t, n)
			with := outcomes(t, n.Client, targets, longTime)
			for i, tt := range targets {
				t.Logf("%s: %s", tt.name, without[i])
				if dark := strings.Contains(tt.name, "blackhole"); dark != (without[i] == nothing) {
					t.Errorf("%s: %s, without boxes", tt.name, without[i])
				}
				if with[i] != without[i] {
					t.Errorf("%s: %s, without boxes %s", tt.name, with[i], without[i])
				}
			}
		})
	}
}

// TestRoutingLoopIsReportedOrSilent lets the HAG and the router beyond it send a SYN
// to each other until its hop limit is used up.
func TestRoutingLoopIsReportedOrSilent(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	obstruct(t, n)
	targets := []target{
		{"IPv6", netip.AddrPortFrom(nth(beyond6, 200), 80)},
		{"IPv4", netip.AddrPortFrom(nth(beyond4, 200), 80)},
	}
	without := outcomes(t, n.Client, targets, shortTime)
	if want := []string{"EHOSTUNREACH", "EHOSTUNREACH"}; !slices.Equal(without, want) {
		t.Fatalf("%v without boxes, want %v", without, want)
	}
	firewalls(t, n)
	start(t, n)
	with := outcomes(t, n.Client, targets, shortTime)
	// The error of the HAG's own kernel goes to the packet's source address, the
	// client's, and does not pass prerouting, where it would reach the HAG's socket. So
	// the box learns nothing, and the client gets no wrong error.
	for i, tt := range targets {
		if with[i] != without[i] && with[i] != nothing {
			t.Errorf("%s: %s, without boxes %s", tt.name, with[i], without[i])
		}
	}
}

// TestTracerouteFindsTheRouters sends SYNs with the hop limits of traceroute. The fourth hop
// is the server.
func TestTracerouteFindsTheRouters(t *testing.T) {
	p := neighbours(t)
	for _, f := range families {
		to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
		for hops, want := range map[int]string{1: "EHOSTUNREACH", 2: "EHOSTUNREACH", 3: "EHOSTUNREACH", 4: "connected"} {
			admin(t, p.Client, fmt.Sprintf("for f in /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv6/conf/*/hop_limit; do echo %d > $f; done", hops))
			if got := outcomes(t, p.Client, []target{{f.name, to}}, longTime)[0]; got != want {
				t.Errorf("%s, %d hops: %s, want %s", f.name, hops, got, want)
			}
		}
	}
}
