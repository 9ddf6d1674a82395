//go:build linux

package host

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/paths"
)

// machine opens the machine of a lab's host.
func machine(t *testing.T, h *netlab.Host) *Machine {
	t.Helper()
	var m *Machine
	check(t, h.Do(func() (err error) { m, err = OpenMachine(); return err }))
	t.Cleanup(func() { check(t, m.Close()) })
	return m
}

// cpePaths are the two lines of the lab.
var cpePaths = []paths.Path{{Name: "dsl", Interface: "dsl"}, {Name: "mobile", Interface: "lte"}}

func TestPathOfASubflowFollowsFromTheKernelsAddressesAndRoutes(t *testing.T) {
	n := build(t)
	lte := n.Lines[1]
	join := at(lte.HAG6, 7100)
	for _, c := range []struct {
		name          string
		host          *netlab.Host
		own           []netip.AddrPort // join addresses of a HAG
		local, remote netip.AddrPort
		want          string
	}{
		{"from a path's own IPv6 address", n.CPE, nil, at(lte.CPE6, 999), join, "mobile"},
		{"from a path's own IPv4 address", n.CPE, nil, at(lte.CPE4, 999), at(lte.HAG4, 7100), "mobile"},
		{"from the client's address", n.CPE, nil, at(netlab.Client6, 999), at(netlab.Server6, 443), "dsl"},
		{"from the client's IPv4 address", n.CPE, nil, at(netlab.Client4, 999), at(netlab.Server4, 443), "dsl"},
		{"a join that the HAG accepted", n.HAG, []netip.AddrPort{join}, join, at(lte.CPE6, 999), "mobile"},
		{"a first subflow at the HAG", n.HAG, []netip.AddrPort{join}, at(netlab.Server6, 443), at(netlab.Client6, 999), "dsl"},
		{"by an interface without a path", n.CPE, nil, at(netlab.CPELan6, 1), at(netlab.Client6, 1), ""},
	} {
		s := paths.NewSet(machine(t, c.host), cpePaths, c.own...)
		check(t, c.host.Do(func() error { // where routes are looked up
			got := s.Of(c.local, c.remote, 0)
			if got == nil && c.want != "" || got != nil && got.Name != c.want {
				t.Errorf("%s: path %+v, want %q", c.name, got, c.want)
			}
			return nil
		}))
	}
}

func TestMachineFollowsChangesOfAddressesAndInterfaces(t *testing.T) {
	n := build(t)
	m := machine(t, n.CPE)
	ctx, cancel := context.WithCancel(t.Context())
	done := netlabtest.Inside(t, n.CPE, func() error { return m.Watch(ctx, false) })
	added := netip.MustParseAddr("2001:db8:77::1")
	// The watch may begin after the change: then it reads what it missed.
	check(t, n.CPE.AddAddress("lte", netip.PrefixFrom(added, 64)))
	eventually(t, "the new address is not known", func() bool { return slices.Equal(m.Owners(added), []int{m.Link("lte").Index}) })
	check(t, netlab.Connect(n.CPE, "new0", n.Client, "new0"))
	eventually(t, "the new interface is not known", func() bool { return m.Link("new0").Index != 0 })
	if index := m.Link("new0").Index; !m.Exists(index) || m.Exists(index+1000) {
		t.Error("interfaces that exist are not told from those that do not")
	}
	cancel()
	check(t, <-done)
}

func TestMachineAnnouncesChangesOfRoutesOnRequest(t *testing.T) {
	for _, withRoutes := range []bool{true, false} {
		n := build(t)
		m := machine(t, n.CPE)
		ctx, cancel := context.WithCancel(t.Context())
		first := m.Changed()
		done := netlabtest.Inside(t, n.CPE, func() error { return m.Watch(ctx, withRoutes) })
		<-first // the watch has begun
		changed := m.Changed()
		check(t, n.CPE.AddRoute(netlab.Route{To: netip.MustParsePrefix("2001:db8:88::/64"), Dev: "lte"}))
		wait := 5 * time.Second
		if !withRoutes {
			wait = 100 * time.Millisecond
		}
		got := true
		select {
		case <-changed:
		case <-time.After(wait):
			got = false
		}
		if got != withRoutes {
			t.Errorf("with routes %v: a new route is announced is %v", withRoutes, got)
		}
		cancel()
		check(t, <-done)
	}
}

func TestCountersGrowWithTraffic(t *testing.T) {
	n := build(t)
	m := machine(t, n.CPE)
	index := m.Link("lte").Index
	before, err := m.Counters(index)
	check(t, err)
	gateway := netip.PrefixFrom(n.Lines[1].CPE6, 64).Masked().Addr().Next()
	c, err := n.CPE.Dial(t.Context(), "udp", "", at(gateway, 9).String())
	check(t, err)
	defer c.Close()
	_, err = c.Write(make([]byte, 1000))
	check(t, err)
	eventually(t, "the counters do not grow", func() bool {
		now, err := m.Counters(index)
		check(t, err)
		return now.SentPackets > before.SentPackets && now.SentBytes >= before.SentBytes+1000
	})
	if _, err := m.Counters(index + 1000); err == nil {
		t.Error("an interface that does not exist has counters")
	}
}
