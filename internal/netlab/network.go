//go:build linux

package netlab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Topology describes a network for [Build].
type Topology struct {
	Lines []LineConfig // at least one; the routing tables prefer the first
	// ServerDelay is one way between HAG and server, by a router between them.
	ServerDelay time.Duration
	// CongestionControl is for TCP on all hosts; empty is cubic.
	CongestionControl string
	// Multipath is the congestion control that boxes are told to use for multipath
	// legs; empty is the same.
	Multipath string
}

// Network is a client and a server with two routers between them, which are
// joined by the lines:
//
//	Client eth0 ── lan CPE NAME ══ line ══ NAME HAG wan ── eth0 Server
//
// Addresses are those of the package's variables and of [Line]. The CPE has one
// default route per line, the first line's being preferred, and sends packets from a
// line's own address by that line. The HAG reaches the client's network
// by the first line, and each line's addresses by that line.
type Network struct {
	Client, CPE, HAG, Server *Host
	Lines                    []*Line
	// CongestionControl that connections of the four hosts use.
	CongestionControl string
	// Multipath is the congestion control that boxes are told to use for multipath legs.
	Multipath string
	// CPEPlain is the interface that a CPE's box is told to be its plain side.
	CPEPlain string

	wan       *Line // between HAG and server if there is a delay
	viaRoutes bool  // the congestion control is set by routes
}

// Build makes the network. The caller owes it a Close.
func Build(t Topology) (*Network, error) {
	if len(t.Lines) == 0 || len(t.Lines) > MaxLines {
		return nil, fmt.Errorf("build network: %d lines, want 1 to %d", len(t.Lines), MaxLines)
	}
	n := &Network{CPEPlain: CPELanInterface}
	if err := n.build(t); err != nil {
		return nil, errors.Join(fmt.Errorf("build network: %w", err), n.Close())
	}
	return n, nil
}

func (n *Network) build(t Topology) error {
	for name, h := range map[string]**Host{"client": &n.Client, "cpe": &n.CPE, "hag": &n.HAG, "server": &n.Server} {
		var err error
		if *h, err = NewHost(name); err != nil {
			return err
		}
	}
	if err := n.chooseCongestionControl(t.CongestionControl); err != nil {
		return err
	}
	n.Multipath = cmp.Or(t.Multipath, n.CongestionControl)
	if err := errors.Join(n.CPE.forward(), n.HAG.forward()); err != nil {
		return err
	}
	if err := n.connectClient(); err != nil {
		return err
	}
	if err := n.connectServer(t.ServerDelay); err != nil {
		return err
	}
	for i, cfg := range t.Lines {
		if err := n.addLine(i, cfg); err != nil {
			return err
		}
	}
	for _, h := range n.hosts() {
		if err := h.settle(); err != nil {
			return err
		}
	}
	return nil
}

// chooseCongestionControl sets the algorithm by sysctl where namespaces may choose it,
// else by routes if the kernel has it, else it sets reno, which every kernel has and
// every namespace may choose.
func (n *Network) chooseCongestionControl(want string) error {
	const sysctl, fallback = "net.ipv4.tcp_congestion_control", "reno"
	if want == "" {
		want = "cubic"
	}
	available, err := n.Client.ReadSysctl("net.ipv4.tcp_available_congestion_control")
	if err != nil {
		return err
	}
	n.CongestionControl = want
	if n.Client.Sysctl(sysctl, want) != nil {
		n.viaRoutes = slices.Contains(strings.Fields(available), want)
		if !n.viaRoutes {
			n.CongestionControl = fallback
		}
		want = fallback
	}
	for _, h := range n.hosts() {
		if err := h.Sysctl(sysctl, want); err != nil {
			return err
		}
	}
	return nil
}

// addRoute adds a route, with the network's congestion control unless the route uses
// a line: connections over lines end at the boxes, and a route would overrule the
// boxes' own choice.
func (n *Network) addRoute(h *Host, r Route) error {
	if n.viaRoutes && n.Line(r.Dev) == nil {
		r.CongestionControl = n.CongestionControl
	}
	return h.AddRoute(r)
}

// addAddrs gives an interface its addresses and the routes to their prefixes.
func (n *Network) addAddrs(h *Host, ifname string, addrs []netip.Prefix) error {
	for _, a := range addrs {
		if err := h.AddAddress(ifname, a); err != nil {
			return err
		}
		if err := n.addRoute(h, Route{To: a.Masked(), Dev: ifname}); err != nil {
			return err
		}
	}
	return nil
}

// addRoutes adds r for each prefix, by the next hop of its family.
func (n *Network) addRoutes(h *Host, to, via []netip.Prefix, r Route) error {
	for _, p := range to {
		for _, v := range via {
			if p.Addr().Is4() != v.Addr().Is4() {
				continue
			}
			r.To, r.Via = p, v.Addr()
			if err := n.addRoute(h, r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (n *Network) connectClient() error {
	client := on([]netip.Addr{Client6, Client4}, clientNets)
	gateway := on([]netip.Addr{CPELan6, CPELan4}, clientNets)
	if err := Connect(n.Client, ClientInterface, n.CPE, CPELanInterface); err != nil {
		return err
	}
	if err := n.addAddrs(n.Client, ClientInterface, client); err != nil {
		return err
	}
	if err := n.addAddrs(n.CPE, CPELanInterface, gateway); err != nil {
		return err
	}
	return n.addRoutes(n.Client, everything, gateway, Route{Dev: ClientInterface})
}

func (n *Network) connectServer(delay time.Duration) error {
	server := on([]netip.Addr{Server6, Server4}, serverNets)
	gateway := on([]netip.Addr{HAGWan6, HAGWan4}, serverNets)
	if delay > 0 {
		return n.connectServerByLine(delay)
	}
	if err := Connect(n.Server, ServerInterface, n.HAG, HAGWanInterface); err != nil {
		return err
	}
	if err := n.addAddrs(n.Server, ServerInterface, server); err != nil {
		return err
	}
	if err := n.addAddrs(n.HAG, HAGWanInterface, gateway); err != nil {
		return err
	}
	return n.addRoutes(n.Server, everything, gateway, Route{Dev: ServerInterface})
}

// connectServerByLine puts a line between HAG and server, whose addresses are
// the same as without it, in a network of two addresses at each end.
func (n *Network) connectServerByLine(delay time.Duration) error {
	pair := func(v6, v4 string) []netip.Prefix {
		return []netip.Prefix{netip.MustParsePrefix(v6), netip.MustParsePrefix(v4)}
	}
	hag := lineEnd{
		host: n.HAG, ifname: HAGWanInterface, beyond: everything,
		addrs:  pair("2001:db8:2::1/127", "203.0.113.1/31"),
		router: pair("2001:db8:2::/127", "203.0.113.0/31"),
	}
	server := lineEnd{
		host: n.Server, ifname: ServerInterface,
		addrs:  pair("2001:db8:2::2/127", "203.0.113.2/31"),
		router: pair("2001:db8:2::3/127", "203.0.113.3/31"),
	}
	var err error
	if n.wan, err = newLine(LineConfig{Name: "wan", Delay: delay}, hag, server); err != nil {
		return err
	}
	if err := errors.Join(n.linkRoutes(hag), n.linkRoutes(server)); err != nil {
		return err
	}
	return errors.Join(
		n.addRoutes(n.HAG, serverNets, hag.router, Route{Dev: HAGWanInterface}),
		n.addRoutes(n.Server, everything, server.router, Route{Dev: ServerInterface}),
	)
}

// linkRoutes adds a host's routes to the line's networks.
func (n *Network) linkRoutes(end lineEnd) error {
	for _, a := range end.addrs {
		if err := n.addRoute(end.host, Route{To: a.Masked(), Dev: end.ifname}); err != nil {
			return err
		}
	}
	return nil
}

// Numbers of the CPE's routing tables and rules for a line's own address, and the
// metric of its default route. Line i adds i to the numbers, and multiplies the
// metric by i+1. boxNumber and routerNumber are host numbers on a line.
const (
	lineTable    = 100
	lineRule     = 1000
	lineMetric   = 100
	boxNumber    = 2
	routerNumber = 1
)

func (n *Network) addLine(i int, cfg LineConfig) error {
	cpe := lineEnd{
		host: n.CPE, ifname: cfg.Name, beyond: clientNets,
		addrs: cpeAddrs(i, boxNumber), router: cpeAddrs(i, routerNumber),
	}
	hag := lineEnd{
		host: n.HAG, ifname: cfg.Name, beyond: everything,
		addrs: hagAddrs(i, boxNumber), router: hagAddrs(i, routerNumber),
	}
	l, err := newLine(cfg, cpe, hag)
	if err != nil {
		return err
	}
	l.CPE6, l.CPE4 = cpe.addrs[0].Addr(), cpe.addrs[1].Addr()
	l.HAG6, l.HAG4 = hag.addrs[0].Addr(), hag.addrs[1].Addr()
	n.Lines = append(n.Lines, l)
	if err := errors.Join(n.linkRoutes(cpe), n.linkRoutes(hag)); err != nil {
		return err
	}
	return errors.Join(n.routeCPE(i, cpe), n.routeHAG(i, hag))
}

// routeCPE adds a default route over line i, and one for packets from the line's own
// addresses.
func (n *Network) routeCPE(i int, end lineEnd) error {
	r := Route{Dev: end.ifname, Metric: lineMetric * (i + 1)}
	if err := n.addRoutes(n.CPE, everything, end.router, r); err != nil {
		return err
	}
	r = Route{Dev: end.ifname, Table: lineTable + i}
	if err := n.addRoutes(n.CPE, everything, end.router, r); err != nil {
		return err
	}
	for _, a := range end.addrs {
		if err := n.CPE.AddSourceRule(a.Addr(), lineTable+i, lineRule+i); err != nil {
			return err
		}
	}
	return nil
}

// routeHAG adds routes over line i to its own addresses, and over the first line to
// the client.
func (n *Network) routeHAG(i int, end lineEnd) error {
	to := make([]netip.Prefix, 0, 4)
	for _, a := range cpeAddrs(i, 0) {
		to = append(to, a.Masked())
	}
	if i == 0 {
		to = append(to, clientNets...)
	}
	return n.addRoutes(n.HAG, to, end.router, Route{Dev: end.ifname})
}

// Line returns the line of that name, nil if there is none.
func (n *Network) Line(name string) *Line {
	for _, l := range n.Lines {
		if l.Name == name {
			return l
		}
	}
	return nil
}

// RouteClient makes the HAG reach the client over a line.
func (n *Network) RouteClient(l *Line) error {
	return n.addRoutes(n.HAG, clientNets, l.hag.router, Route{Dev: l.Name})
}

func (n *Network) hosts() []*Host { return []*Host{n.Client, n.CPE, n.HAG, n.Server} }

// Close removes the network, and ends the programs started on its hosts.
func (n *Network) Close() error {
	var errs []error
	for _, l := range append(slices.Clone(n.Lines), n.wan) {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	for _, h := range n.hosts() {
		if h != nil {
			errs = append(errs, h.Close())
		}
	}
	return errors.Join(errs...)
}
