//go:build linux

package mptcp

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/nl"
	"github.com/synbond/synbond/internal/paths"
)

// nested encodes an address as the kernel takes it, without the nest's own header.
func nested(t *testing.T, a Address) []byte {
	t.Helper()
	for kind, v := range nl.Attributes(a.append(nil, attrAddr)) {
		if kind != attrAddr {
			t.Fatalf("an address is attribute %d", kind)
		}
		return v
	}
	panic("no attribute")
}

var someAddresses = []Address{
	{AddrPort: netip.MustParseAddrPort("192.0.2.1:0")},
	{AddrPort: netip.MustParseAddrPort("192.0.2.1:65535"), ID: 255, Flags: flagSignal | flagBackup, Interface: 7},
	{AddrPort: netip.MustParseAddrPort("[2001:db8::1]:0"), ID: 1},
	{AddrPort: netip.MustParseAddrPort("[2001:db8::1]:7100"), Flags: flagSignal},
	{AddrPort: netip.MustParseAddrPort("[::]:1"), Interface: 1<<31 - 1},
}

func TestAddressesRoundTrip(t *testing.T) {
	for _, want := range someAddresses {
		ad, err := netlink.NewAttributeDecoder(nested(t, want))
		check(t, err)
		var got Address
		check(t, got.decode(ad))
		if got != want {
			t.Errorf("%+v comes back as %+v", want, got)
		}
	}
}

func TestAddressHasTheKernelsAttributes(t *testing.T) {
	got := nested(t, Address{AddrPort: netip.MustParseAddrPort("192.0.2.1:258"), ID: 9, Flags: 5, Interface: 3})
	ad, err := netlink.NewAttributeDecoder(got)
	check(t, err)
	var types []uint16
	for ad.Next() {
		types = append(types, ad.Type())
		if ad.Type() == addrPort && ad.Uint16() != 258 {
			t.Error("the port is not in the machine's byte order")
		}
	}
	if want := []uint16{addrFamily, addr4, addrID, addrPort, addrFlags, addrIfIndex}; !slices.Equal(types, want) {
		t.Errorf("attributes %v, want %v", types, want)
	}
}

func TestTruncatedAddressesAreErrorsOrIncomplete(t *testing.T) {
	for _, a := range someAddresses {
		b := nested(t, a)
		for n := range b {
			ad, err := netlink.NewAttributeDecoder(b[:n])
			if err != nil {
				continue
			}
			var got Address
			if err := got.decode(ad); err == nil && got == a && n < len(b)-3 {
				t.Errorf("%d of %d bytes of %+v are the whole of it", n, len(b), a)
			}
		}
	}
}

// addrs are those of the endpoints, in order.
func addrs(t *testing.T, p *PM) []string {
	t.Helper()
	all, err := p.Endpoints()
	check(t, err)
	out := []string{}
	for _, e := range all {
		if e.Flags&flagSignal == 0 || e.ID == 0 {
			t.Errorf("endpoint %+v is not announced", e)
		}
		out = append(out, e.String())
	}
	slices.Sort(out)
	return out
}

func TestEndpointsAreAddedListedAndRemoved(t *testing.T) {
	n := build(t)
	p := pm(t, n.HAG)
	four, six := at(n.Lines[0].HAG4, 7100), at(n.Lines[1].HAG6, 7100)
	step := func(what string, err error, want ...string) {
		t.Helper()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := addrs(t, p); !slices.Equal(got, want) {
			t.Errorf("%s: endpoints %v, want %v", what, got, want)
		}
	}
	step("removed when there is none", p.RemoveEndpoint(four))
	step("added", p.AddEndpoint(four), four.String())
	step("added again", p.AddEndpoint(four), four.String())
	step("another one", p.AddEndpoint(six), four.String(), six.String())
	step("removed", p.RemoveEndpoint(four), six.String())
	step("another port is another endpoint", p.RemoveEndpoint(at(n.Lines[1].HAG6, 7101)), six.String())
	step("removed", p.RemoveEndpoint(six))
	// The kernel has closed its listener.
	l, err := n.HAG.Listen("tcp", four.String())
	check(t, err)
	l.Close()
}

func TestImpossibleEndpointsAreErrorsWithTheirReason(t *testing.T) {
	n := build(t)
	p := pm(t, n.HAG)
	taken := at(n.Lines[0].HAG6, 7100)
	l, err := n.HAG.Listen("tcp", taken.String())
	check(t, err)
	defer l.Close()
	for _, c := range []struct {
		addr netip.AddrPort
		want []string
	}{
		{taken, []string{taken.String(), "port 7100 is in use", "--join"}},
		{netip.MustParseAddrPort("[2001:db8:ffff::1]:7100"), []string{"[2001:db8:ffff::1]:7100", "no address of this machine"}},
		{netip.MustParseAddrPort("192.0.2.99:7100"), []string{"192.0.2.99:7100", "no address of this machine"}},
	} {
		err := p.AddEndpoint(c.addr)
		if err == nil {
			t.Errorf("%v becomes an endpoint", c.addr)
			continue
		}
		for _, part := range c.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%v: error %q does not say %q", c.addr, err, part)
			}
		}
	}
	if got := addrs(t, p); len(got) != 0 {
		t.Errorf("endpoints %v are left", got)
	}
}

func TestEndpointCanBeAddedBesideSocketsInTimeWait(t *testing.T) {
	n := build(t)
	p := pm(t, n.HAG)
	addr := at(n.Lines[0].HAG6, 7100)
	// A listener that closes its connection first leaves TIME-WAIT at its port.
	l, err := n.HAG.Listen("tcp", addr.String())
	check(t, err)
	c, err := n.CPE.Dial(t.Context(), "tcp", "", addr.String())
	check(t, err)
	s, err := l.Accept()
	check(t, err)
	check(t, s.Close())
	check(t, l.Close())
	c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Read(make([]byte, 1))
	check(t, c.Close())
	err = n.HAG.Do(func() error { return p.AddEndpoint(addr) })
	if probe := n.HAG.Do(host.CanEndSockets); probe != nil {
		t.Skip("kernel without CONFIG_INET_DIAG_DESTROY: ", probe)
	}
	check(t, err)
	check(t, p.RemoveEndpoint(addr))
}

func TestLimitsAreReadBack(t *testing.T) {
	n := build(t)
	p := pm(t, n.HAG)
	for _, want := range []paths.SubflowLimits{{Subflows: 8, Announcements: 8}, {}, {Subflows: 8, Announcements: 1}} {
		check(t, p.SetLimits(want))
		got, err := p.Limits()
		check(t, err)
		if got != want {
			t.Errorf("limits %+v, want %+v", got, want)
		}
	}
	if err := p.SetLimits(paths.SubflowLimits{Subflows: 9}); err == nil || !strings.Contains(err.Error(), "set MPTCP limits") {
		t.Errorf("nine subflows: %v", err)
	}
}

func TestSubflowOfAnUnknownConnectionIsAnError(t *testing.T) {
	n := build(t)
	p := pm(t, n.CPE)
	err := p.CreateSubflow(1, Address{AddrPort: at(n.Lines[1].CPE6, 0), ID: 3}, Address{AddrPort: at(n.Lines[1].HAG6, 7100)})
	if !errors.Is(err, unix.EINVAL) { // kernel: mptcp_userspace_pm_get_sock
		t.Errorf("CreateSubflow gives %v, want invalid argument", err)
	}
}

// boxLimits are those that a box sets.
var boxLimits = paths.SubflowLimits{Subflows: 8, Announcements: 1}

func TestJournalRestoresLimitsAndEndpoints(t *testing.T) {
	n := build(t)
	p := pm(t, n.HAG)
	addr := at(n.Lines[0].HAG6, 7100)
	before, err := p.Limits()
	check(t, err)
	control := filepath.Join(t.TempDir(), "box.sock")
	check(t, n.HAG.Do(func() error {
		j, err := host.OpenJournal(control, func() (host.PathManager, error) { return Open() })
		if err != nil {
			return err
		}
		return errors.Join(
			j.RecordLimits(before, boxLimits), p.SetLimits(boxLimits),
			j.RecordJoin(addr), p.AddEndpoint(addr), j.Restore(),
		)
	}))
	if got, err := p.Limits(); got != before || err != nil {
		t.Errorf("limits %+v, %v, want %+v", got, err, before)
	}
	if got := addrs(t, p); len(got) != 0 {
		t.Errorf("endpoints %v are left", got)
	}
}
