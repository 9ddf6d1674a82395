package paths

import (
	"net/netip"
	"slices"
	"testing"
)

func TestSubflowIsDispensableOnlyBesideAnotherThatCanSend(t *testing.T) {
	a, b, c := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1"), netip.MustParseAddrPort("192.0.2.3:1")
	failed := func(s *Subflow, _ []Subflow) bool { return s.Remote == a || s.Remote == b }
	sends := func(token uint32, remote netip.AddrPort) Subflow {
		return Subflow{Token: token, CanSend: true, Remote: remote}
	}
	for _, test := range []struct {
		name string
		all  []Subflow
		want []int
	}{
		{"no subflow", nil, nil},
		{"one of two matches", []Subflow{sends(1, a), sends(1, c)}, []int{0}},
		{"all match", []Subflow{sends(1, a), sends(1, b)}, nil},
		{"the other is not open yet", []Subflow{sends(1, a), {Token: 1, Remote: c}}, nil},
		{"the other is another connection's", []Subflow{sends(1, a), sends(2, c)}, nil},
		{"several connections", []Subflow{sends(1, b), sends(1, a), sends(2, a), sends(2, c), {Token: 2, Remote: b}}, []int{2, 4}},
	} {
		if got := Dispensable(test.all, failed); !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func TestSubflowsOnAPathAreBoundThereOrStartThere(t *testing.T) {
	s := NewSet(twoPaths(), []Path{{Interface: "dsl"}, {Interface: "lte"}})
	lte, client := netip.MustParseAddrPort("[2001:db8:20::2]:9"), netip.MustParseAddrPort("[2001:db8:1::2]:9")
	for _, c := range []struct {
		name        string
		sub         Subflow
		dsl, mobile bool
	}{
		{"bound to the second path", Subflow{Interface: 3, Local: lte}, false, true},
		{"bound to an interface that is gone", Subflow{Interface: 9, Local: lte}, true, true},
		{"from the second path's address", Subflow{Local: lte}, false, true},
		{"a first subflow from a client", Subflow{Local: client}, true, false},
		{"a joined one from an unknown address", Subflow{Local: client, Joined: true}, false, false},
	} {
		got := [2]bool{s.OnPath(0)(&c.sub, nil), s.OnPath(1)(&c.sub, nil)}
		if got != [2]bool{c.dsl, c.mobile} {
			t.Errorf("%s: on the first and second path %v, want %v", c.name, got, [2]bool{c.dsl, c.mobile})
		}
	}
}
