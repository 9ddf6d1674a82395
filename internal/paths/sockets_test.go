package paths

import (
	"net/netip"
	"slices"
	"testing"
)

func TestSubflowEndsOnlyWhereItsConnectionHasAnother(t *testing.T) {
	const established, synSent = 1, 2
	a, b, c := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1"), netip.MustParseAddrPort("192.0.2.3:1")
	doomed := func(s *socket, _ []socket) bool { return s.remote == a || s.remote == b }
	for _, test := range []struct {
		name string
		all  []socket
		want []int // indices
	}{
		{"nothing", nil, nil},
		{"two, of which one is doomed", []socket{{token: 1, state: established, remote: a}, {token: 1, state: established, remote: c}}, []int{0}},
		{"all are doomed", []socket{{token: 1, state: established, remote: a}, {token: 1, state: established, remote: b}}, nil},
		{"the other is not open yet", []socket{{token: 1, state: established, remote: a}, {token: 1, state: synSent, remote: c}}, nil},
		{"the other is another connection's", []socket{{token: 1, state: established, remote: a}, {token: 2, state: established, remote: c}}, nil},
		{"plain TCP", []socket{{state: established, remote: a}, {state: established, remote: c}}, nil},
		{"mixed", []socket{
			{token: 2, state: established, remote: a}, {token: 1, state: established, remote: b}, {token: 0, remote: a},
			{token: 2, state: established, remote: c}, {token: 1, state: established, remote: a}, {token: 2, state: synSent, remote: b},
		}, []int{0, 5}},
	} {
		var want []socket
		for _, i := range test.want {
			want = append(want, test.all[i])
		}
		if got := victims(slices.Clone(test.all), doomed); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", test.name, got, want)
		}
	}
}

func TestSubflowsOfAHAGAreFoundByTheAddressesOfTheirCPE(t *testing.T) {
	ap := netip.AddrPortFrom
	client, otherClient := netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("2001:db8:1::3")
	first := socket{token: 1, state: 1, remote: ap(client, 9)}
	join := socket{token: 1, state: 1, join: true, remote: ap(lteA, 8)}
	again := socket{token: 1, state: 1, join: true, remote: ap(dslA, 7)}
	alone := socket{token: 2, state: 1, remote: ap(otherClient, 9)}
	others := []socket{{token: 3, state: 1, remote: ap(client, 8)}, {token: 3, state: 1, join: true, remote: ap(dslB, 8)}}
	own := socket{token: 1, state: 1, remote: ap(lteA, 6)} // dialed from the CPE's own address
	all := append([]socket{first, join, alone}, others...)
	lost := func(a netip.Addr) map[netip.Addr]bool { return map[netip.Addr]bool{a: true} }
	for _, c := range []struct {
		name string
		f    fallen
		all  []socket
		want []socket
	}{
		{"a further path is down", fallen{down: lost(lteA)}, all, []socket{join}},
		{"the first path is down", fallen{down: lost(dslA), beside: lost(lteA)}, all, []socket{first}},
		{"the first path is down, where it was joined again", fallen{down: lost(dslA), beside: lost(lteA)}, []socket{join, again}, []socket{again}},
		{"a first subflow over a further path", fallen{down: lost(dslA), beside: lost(lteA)}, []socket{own, again}, []socket{again}},
	} {
		if got := victims(slices.Clone(c.all), c.f.doomed); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func FuzzSocket(f *testing.F) {
	f.Add(make([]byte, diagMessageSize))
	token := appendUint32(nil, subflowToken, 7)
	ulp := appendBytes(nil, diagULP, appendBytes(nil, diagULPMPTCP, token))
	f.Add(append(make([]byte, diagMessageSize), ulp...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseSocket(b); ok != (len(b) >= diagMessageSize) {
			t.Errorf("%d bytes: %+v", len(b), s)
		}
	})
}
