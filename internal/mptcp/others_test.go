//go:build linux

package mptcp

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/mdlayher/netlink"
)

func TestForeignEndpointsAreNamed(t *testing.T) {
	n := build(t)
	p := pm(t, n.HAG)
	own := at(n.Lines[0].HAG6, 7100)
	check(t, p.AddEndpoint(own))
	for _, a := range []Address{
		{AddrPort: at(n.Lines[0].HAG4, 0), Flags: flagSubflow | flagFullmesh},
		{AddrPort: at(n.Lines[1].HAG6, 7200), Flags: flagSignal},
		{AddrPort: at(n.Lines[1].HAG4, 0), Flags: flagSubflow | flagBackup},
	} {
		_, err := p.do(cmdAddAddr, netlink.Acknowledge, a.append(nil, attrAddr))
		check(t, err)
	}
	got, err := p.Foreign([]netip.AddrPort{own})
	check(t, err)
	want := []string{
		n.Lines[0].HAG4.String() + " subflow fullmesh",
		at(n.Lines[1].HAG6, 7200).String() + " signal",
		n.Lines[1].HAG4.String() + " subflow backup",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("foreign endpoints %q, want %q", got, want)
	}
	check(t, n.HAG.Do(func() error {
		all, err := p.Managers()
		if len(all) > 0 {
			t.Errorf("path managers %v in a network without any", all)
		}
		return err
	}))
}
