//go:build linux

package tests

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// TestHAGOfAnotherVersionIsReportedAndFlowsRun simulates a HAG that refuses probes as
// one of version 9 would: magic, version, type, box and sequence keep their places.
func TestHAGOfAnotherVersionIsReportedAndFlowsRun(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	const version, kind, refusal = 4, 5, 3
	for _, addr := range []netip.Addr{n.Line("lte").HAG6, n.Line("lte").HAG4} {
		var c *net.UDPConn
		err := n.HAG.Do(func() (err error) {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, netlab.JoinPort)))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			for probe := make([]byte, 64); ; {
				_, from, err := c.ReadFromUDPAddrPort(probe)
				if err != nil {
					return
				}
				probe[version], probe[kind] = 9, refusal
				c.WriteToUDPAddrPort(probe, from)
			}
		}()
	}
	p := &pair{Network: n, dir: scratch(t)}
	t.Cleanup(func() { p.down(t) })
	var err error
	if p.cpe, err = n.StartCPE(synbond(), p.dir, nil); err != nil {
		t.Fatal(err)
	}
	const why = "it speaks version 9 of their protocol, this box version 1"
	for _, name := range []string{"dsl", "lte"} {
		sees(t, p.cpe, name, "is refused, but up", func(p *api.PathState) bool {
			return p.State == "up" && strings.Contains(p.Reason, why)
		})
	}
	for _, f := range families {
		c := chatter(t, n, f)
		if flow, _ := flowFrom(t, p.cpe, c); flow.State != "relaying" {
			t.Errorf("%s: a flow is %+v", f.name, flow)
		}
	}
	cpe := p.cpe
	p.down(t)
	for _, name := range []string{"dsl", "lte"} {
		toldOnce(t, cpe, "path="+name, why)
	}
}

// toldOnce checks that the log of an ended box has one line with these words.
func toldOnce(t *testing.T, b *netlab.Box, words ...string) {
	t.Helper()
	lines := slices.DeleteFunc(slices.Clone(b.Log()), func(line string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) })
	})
	if len(lines) != 1 {
		t.Errorf("%d lines of the %s have %q: %q", len(lines), b.Role, words, b.Log())
	}
}

// TestPathWithoutARouteToTheJoinAddressIsUsedOnceThereIsOne starts a CPE whose
// second line lacks its routes.
func TestPathWithoutARouteToTheJoinAddressIsUsedOnceThereIsOne(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	routes := routesBy(t, n.CPE, "lte")
	change := func(to func(*netlink.Route) error) {
		t.Helper()
		err := n.CPE.Do(func() (err error) {
			for _, r := range routes {
				err = errors.Join(err, to(&r))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	change(netlink.RouteDel)
	p := start(t, n)
	const why = "no route to the join address"
	sees(t, p.cpe, "lte", "is down", func(p *api.PathState) bool { return isDown(p) && p.Reason == why })
	c := chatter(t, n, families[0])
	if f, _ := flowFrom(t, p.cpe, c); f.State != "relaying" || len(f.Subflows) != 1 || f.Subflows[0].Path != "dsl" {
		t.Errorf("a flow is %+v", f)
	}
	change(netlink.RouteAdd)
	sees(t, p.cpe, "lte", "is up, with a subflow", func(p *api.PathState) bool { return isUp(p) && p.Subflows == 1 })
	chat(t, c, "hello again")
	cpe := p.cpe
	p.down(t)
	toldOnce(t, cpe, "path=lte", fmt.Sprintf("reason=%q", why)) // between the families one may lack its route
}

// routesBy lists the routes over gateways on an interface.
func routesBy(t *testing.T, h *netlab.Host, ifname string) (routes []netlink.Route) {
	t.Helper()
	err := h.Do(func() error {
		link, err := netlink.LinkByName(ifname)
		if err != nil {
			return err
		}
		filter := &netlink.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_UNSPEC}
		routes, err = netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(routes, func(r netlink.Route) bool { return r.Gw == nil })
}
