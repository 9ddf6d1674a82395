//go:build linux

package tests

import (
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/vishvananda/netlink"
)

// smallMTU is the smallest MTU of IPv6.
const smallMTU = 1280

// narrow is a segment of two routers with a small MTU between them:
//
//	a ── first ─ 1280 ─ second ── b
type narrow struct{ first, second *netlab.Host }

// Networks of a narrow segment, by family: before, between and behind the routers.
var narrowNets = [][3]netip.Prefix{
	{netip.MustParsePrefix("2001:db8:a::/64"), netip.MustParsePrefix("2001:db8:b::/64"), netip.MustParsePrefix("2001:db8:c::/64")},
	{netip.MustParsePrefix("192.0.2.0/28"), netip.MustParsePrefix("192.0.2.16/28"), netip.MustParsePrefix("192.0.2.32/28")},
}

// Host numbers of a narrow segment's ends, and of the routers.
const endNumber, firstNumber, secondNumber = 2, 1, 3

// number returns the address of a network with a host number.
func number(p netip.Prefix, host byte) netip.Prefix {
	return netip.PrefixFrom(nth(p, p.Addr().AsSlice()[p.Addr().BitLen()/8-1]+host), p.Bits())
}

// narrowWay makes a narrow segment from a, with the client behind it, to b, with the
// server behind it. Its interface on both is "narrow". The caller adds the routes of a
// and b over the segment.
func narrowWay(t *testing.T, a, b *netlab.Host) narrow {
	t.Helper()
	w := narrow{first: netlabtest.NewHost(t, "first"), second: netlabtest.NewHost(t, "second")}
	routerOf(t, w.first)
	routerOf(t, w.second)
	unlimited(t, w.first, w.second)
	for _, l := range []struct {
		from     *netlab.Host
		fromName string
		to       *netlab.Host
		toName   string
	}{{w.first, "near", a, "narrow"}, {w.first, "far", w.second, "near"}, {w.second, "far", b, "narrow"}} {
		if err := netlab.Connect(l.from, l.fromName, l.to, l.toName); err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range families {
		w.address(t, a, b, narrowNets[i])
		w.route(t, f.client, narrowNets[i])
	}
	for h, ifname := range map[*netlab.Host]string{w.first: "far", w.second: "near"} {
		err := h.Netlink(func(nl *netlink.Handle) error {
			l, err := nl.LinkByName(ifname)
			if err != nil {
				return err
			}
			return nl.LinkSetMTU(l, smallMTU)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// address gives the ends a and b and the routers their addresses in one family.
func (w narrow) address(t *testing.T, a, b *netlab.Host, nets [3]netip.Prefix) {
	t.Helper()
	for _, at := range []struct {
		host   *netlab.Host
		ifname string
		net    netip.Prefix
		number byte
	}{
		{a, "narrow", nets[0], endNumber},
		{w.first, "near", nets[0], firstNumber},
		{w.first, "far", nets[1], firstNumber},
		{w.second, "near", nets[1], secondNumber},
		{w.second, "far", nets[2], secondNumber},
		{b, "narrow", nets[2], endNumber},
	} {
		if err := at.host.AddAddress(at.ifname, number(at.net, at.number)); err != nil {
			t.Fatal(err)
		}
		route(t, at.host, netlab.Route{To: at.net, Dev: at.ifname})
	}
}

// route adds the routers' routes to the client and to everything else in one family.
func (w narrow) route(t *testing.T, client netip.Addr, nets [3]netip.Prefix) {
	t.Helper()
	near, anywhere := around(client)
	viaFirst, viaSecond := number(nets[1], firstNumber).Addr(), number(nets[1], secondNumber).Addr()
	route(t, w.first,
		netlab.Route{To: near, Via: number(nets[0], endNumber).Addr(), Dev: "near"},
		netlab.Route{To: anywhere, Via: viaSecond, Dev: "far"})
	route(t, w.second,
		netlab.Route{To: near, Via: viaFirst, Dev: "near"},
		netlab.Route{To: nets[0], Via: viaFirst, Dev: "near"},
		netlab.Route{To: anywhere, Via: number(nets[2], endNumber).Addr(), Dev: "far"})
}

// around returns a client's network, and the default prefix of its family.
func around(client netip.Addr) (near, anywhere netip.Prefix) {
	bits := 64
	if client.Is4() {
		bits = 28
	}
	return netip.PrefixFrom(client, bits).Masked(), netip.PrefixFrom(client, 0).Masked()
}

// tooBig returns the number of errors "packet too big" and "fragmentation needed" that
// a router has sent.
func tooBig(t *testing.T, h *netlab.Host) (sent int) {
	t.Helper()
	err := h.Do(func() error {
		for _, at := range []struct{ file, line string }{
			{"snmp6", "Icmp6OutPktTooBigs"}, {"snmp", "IcmpMsg: OutType3"},
		} {
			b, err := os.ReadFile("/proc/thread-self/net/" + at.file)
			if err != nil {
				return err
			}
			sent += counter(string(b), at.line)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

// counter reads a counter of /proc/net/snmp6 or, as "GROUP: NAME", of /proc/net/snmp,
// where a line of names precedes one of values. A counter that is missing is 0.
func counter(text, name string) (value int) {
	group, column, grouped := strings.Cut(name, ": ")
	var names []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case !grouped && len(words) == 2 && words[0] == name:
			value, _ = strconv.Atoi(words[1])
		case grouped && len(words) > 0 && words[0] == group+":" && names == nil:
			names = words
		case grouped && len(words) > 0 && words[0] == group+":":
			if i := slices.Index(names, column); i > 0 && i < len(words) {
				value, _ = strconv.Atoi(words[i])
			}
		}
	}
	return value
}

// TestSmallMTUIsFoundOut adds a narrow segment whose routers report packets as too
// big. A box must receive the errors about its own packets, though these have
// addresses of other hosts. Each network is used until one error has arrived: a box
// that knows the MTU announces it to its peer by the MSS of the next SYN.
func TestSmallMTUIsFoundOut(t *testing.T) {
	for _, c := range []struct {
		name string
		// lay lays the narrow way, and returns the server's host.
		lay                  func(*testing.T, *netlab.Network) (narrow, *netlab.Host)
		plain, first, second string // interfaces of the HAG
		direct               bool   // connections go the narrow way also without boxes
	}{
		{"between HAG and server", narrowBehindHAG, "narrow", "dsl", "lte", true},
		// Alone: another line would carry what is lost on this one.
		{"on the only line", narrowFirst, netlab.HAGWanInterface, "narrow", "", true},
		{"on the second line", narrowSecond, netlab.HAGWanInterface, "dsl", "narrow", false},
	} {
		for i, f := range families {
			for _, d := range []netlab.Direction{netlab.Up, netlab.Down} {
				for _, boxes := range []bool{false, true} {
					name := "without boxes"
					if boxes {
						name = "with boxes"
					}
					t.Run(strings.Join([]string{c.name, f.name, d.String(), name}, ", "), func(t *testing.T) {
						n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Rate: 50e6}, {Name: "lte", Rate: 50e6}}})
						w, server := c.lay(t, n)
						if boxes {
							firewalls(t, n)
							startWith(t, n, c.plain, c.first, c.second)
						}
						at := f.server
						if server != n.Server {
							at = number(narrowNets[i][2], endNumber).Addr()
						}
						routers := []*netlab.Host{w.first}
						if d == netlab.Down {
							routers[0] = w.second
						}
						if boxes && !c.direct { // the CPE's probes may be the first to find it out
							routers = []*netlab.Host{w.first, w.second}
						}
						size := int64(2_000_000)
						if !c.direct { // a transfer may be over before its second subflow is there
							size *= 4
						}
						dialer := traffic(t, server, n.Client, at)
						transfer := func() bool {
							r, err := netlab.Transfer(within(t, 10*time.Second), dialer, d, size)
							if err != nil || r.Bytes != size {
								t.Errorf("%d bytes arrived, %v", r.Bytes, err)
							}
							return err != nil || slices.ContainsFunc(routers, func(h *netlab.Host) bool { return tooBig(t, h) > 0 })
						}
						if boxes || c.direct {
							eventually(t, "a packet too big for the narrow way", transfer)
						} else {
							transfer()
						}
					})
				}
			}
		}
	}
}

// startWith starts both boxes with the HAG's plain interface and one or two paths. The
// second path may be empty.
func startWith(t *testing.T, n *netlab.Network, plain, first, second string) {
	t.Helper()
	hag := []string{"--plain", plain, "--path", first}
	cpe := []string{"--plain", netlab.CPELanInterface, "--path", first}
	for _, a := range []netip.Addr{n.Lines[1].HAG6, n.Lines[1].HAG4} {
		at := netip.AddrPortFrom(a, netlab.JoinPort).String()
		hag = append(hag, "--join", at)
		if second != "" {
			second += ",join=" + at
		}
	}
	if second != "" {
		name, _, _ := strings.Cut(second, ",")
		hag = append(hag, "--path", name)
		cpe = append(cpe, "--path", second)
	}
	alone(t, n.HAG, "hag", hag...)
	alone(t, n.CPE, "cpe", cpe...)
}

// narrowBehindHAG adds a narrow segment from the HAG to another server.
func narrowBehindHAG(t *testing.T, n *netlab.Network) (narrow, *netlab.Host) {
	server := netlabtest.NewHost(t, "another server")
	w := narrowWay(t, n.HAG, server)
	for i, f := range families {
		_, anywhere := around(f.client)
		route(t, n.HAG, netlab.Route{To: narrowNets[i][2], Via: number(narrowNets[i][0], firstNumber).Addr(), Dev: "narrow"})
		route(t, server, netlab.Route{To: anywhere, Via: number(narrowNets[i][2], secondNumber).Addr(), Dev: "narrow"})
	}
	return w, server
}

// narrowFirst adds a narrow segment from CPE to HAG, as the first path.
func narrowFirst(t *testing.T, n *netlab.Network) (narrow, *netlab.Host) {
	return narrowLine(t, n, 1, true), n.Server
}

// narrowSecond adds a narrow segment from CPE to HAG, as the path of joins.
func narrowSecond(t *testing.T, n *netlab.Network) (narrow, *netlab.Host) {
	return narrowLine(t, n, 1000, false), n.Server
}

// narrowLine adds a narrow segment from CPE to HAG, with a default route of the CPE
// with a metric. If preferred, the HAG reaches the client over it.
func narrowLine(t *testing.T, n *netlab.Network, metric int, preferred bool) narrow {
	w := narrowWay(t, n.CPE, n.HAG)
	for i, f := range families {
		client, anywhere := around(f.client)
		route(t, n.CPE, netlab.Route{To: anywhere, Via: number(narrowNets[i][0], firstNumber).Addr(), Dev: "narrow", Metric: metric})
		back := netlab.Route{To: narrowNets[i][0], Via: number(narrowNets[i][2], secondNumber).Addr(), Dev: "narrow"}
		route(t, n.HAG, back)
		if preferred {
			back.To = client
			route(t, n.HAG, back)
		}
	}
	return w
}
