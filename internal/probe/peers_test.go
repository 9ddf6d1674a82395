//go:build linux

package probe

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/paths"
)

// Addresses of two CPEs.
var (
	dslA = netip.MustParseAddr("2001:db8:a::1")
	lteA = netip.MustParseAddr("2001:db8:a::2")
	lte4 = netip.MustParseAddr("192.0.2.1")
	dslB = netip.MustParseAddr("2001:db8:b::1")
)

// report is a probe over a path, with what it says of paths that are down.
func report(box uint64, path uint8, sequence uint64, revision uint32, down uint8) message {
	return message{kind: kindProbe, box: box, path: path, sequence: sequence, revision: revision, down: down}
}

// heardFrom are peers of which box 1 has been heard on two paths.
func heardFrom(t *testing.T, now time.Time) peers {
	t.Helper()
	ps := make(peers)
	ps.confirm(now, report(1, 0, 1, 1, 0), dslA)
	ps.confirm(now, report(1, 1, 1, 1, 0), lteA)
	ps.confirm(now, report(1, 1, 2, 1, 0), lte4)
	return ps
}

// due returns what to look for now, sorted.
func due(ps peers, now time.Time) (down, others []netip.Addr) {
	f, _ := ps.due(now)
	sorted := func(m map[netip.Addr]bool) []netip.Addr { return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare) }
	return sorted(f.down), sorted(f.others)
}

func TestAddressesOfAPathThatIsDownAreSearchedTwice(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name         string
		down         uint8
		over         netip.Addr
		path         uint8
		want, others []netip.Addr
	}{
		{"a further path", 1 << 1, dslA, 0, []netip.Addr{lte4, lteA}, nil},
		{"the first path", 1 << 0, lteA, 1, []netip.Addr{dslA}, []netip.Addr{lte4, lteA}},
		{"a path that was never heard of", 1 << 5, lteA, 1, nil, nil},
	} {
		ps := heardFrom(t, now)
		if more, _ := ps.confirm(now, report(1, c.path, 9, 2, c.down), c.over); !more {
			t.Errorf("%s: the report changes nothing", c.name)
		}
		for _, at := range []time.Duration{0, searchInterval} {
			down, others := due(ps, now.Add(at))
			if !slices.Equal(down, c.want) || !slices.Equal(others, c.others) {
				t.Errorf("%s after %v: %v and %v, want %v and %v", c.name, at, down, others, c.want, c.others)
			}
			if down, _ := due(ps, now.Add(at)); len(down) > 0 {
				t.Errorf("%s after %v: %v at once again", c.name, at, down)
			}
		}
		if down, others := due(ps, now.Add(time.Hour)); len(down)+len(others) > 0 {
			t.Errorf("%s: %v and %v a third time", c.name, down, others)
		}
	}
}

func TestFirstPathThatFailedBeforeItsFirstProbeIsSearched(t *testing.T) {
	now := time.Unix(1000, 0)
	ps := make(peers)
	if more, _ := ps.confirm(now, report(1, 1, 1, 1, 1), lteA); !more {
		t.Error("the report changes nothing")
	}
	if down, others := due(ps, now); len(down) > 0 || !slices.Equal(others, []netip.Addr{lteA}) {
		t.Errorf("addresses to search %v, others %v; want others %v", down, others, lteA)
	}
}

func TestReportsCountInTheOrderOfTheirRevisions(t *testing.T) {
	now := time.Unix(1000, 0)
	ps := heardFrom(t, now)
	for _, c := range []struct {
		revision uint32
		down     uint8
		moreDown bool
	}{
		{3, 2, true},
		{3, 2, false}, // again
		{2, 4, false}, // an older one
		{4, 6, true},  // one more
		{5, 4, false}, // one fewer
		{6, 0, false},
	} {
		m := report(1, 0, 0, c.revision, c.down)
		if got, _ := ps.confirm(now, m, dslA); got != c.moreDown {
			t.Errorf("revision %d: moreDown %v, want %v", c.revision, got, c.moreDown)
		}
	}
	if down, _ := due(ps, now); len(down) > 0 {
		t.Errorf("all is up, and yet %v", down)
	}
}

func TestAddressOfTwoCPEsIsLeftAlone(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name  string
		other time.Duration // when another box was heard from it
		box   uint64
		want  int
	}{
		{"never by another", 0, 1, 1},
		{"by another a moment ago", -time.Second, 2, 0},
		{"by another before", -addressTimeout - time.Second, 2, 1},
		{"by another since", time.Minute, 2, 0},
	} {
		ps := make(peers)
		ps.confirm(now, report(1, 1, 1, 1, 0), lteA)
		if c.box != 1 {
			ps.confirm(now.Add(c.other), report(c.box, 0, 1, 1, 0), lteA)
		}
		ps.confirm(now, report(1, 2, 1, 2, 1<<1), dslA)
		if down, _ := due(ps, now); len(down) != c.want {
			t.Errorf("%s: %v, want %d", c.name, down, c.want)
		}
	}
}

func TestAddressOfTwoLinesBehindOneNATIsSearchedOnceBothAreDown(t *testing.T) {
	now := time.Unix(1000, 0)
	for down, want := range map[uint8][]netip.Addr{1 << 1: nil, 1<<1 | 1<<2: {lte4}} {
		ps := make(peers)
		ps.confirm(now, report(1, 0, 1, 1, 0), dslA)
		ps.confirm(now, report(1, 1, 1, 1, 0), lte4)
		ps.confirm(now, report(1, 2, 1, 1, 0), lte4)
		ps.confirm(now, report(1, 0, 2, 2, down), dslA)
		if got, _ := due(ps, now); !slices.Equal(got, want) {
			t.Errorf("paths %b are down: %v, want %v", down, got, want)
		}
	}
}

func TestPeersExpireAndAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	ps := make(peers)
	for box := range uint64(maxPeers + 10) {
		ps.confirm(now, report(box, 0, 1, 1, 0), dslB)
	}
	if len(ps) != maxPeers {
		t.Errorf("%d peers, want %d", len(ps), maxPeers)
	}
	ps.confirm(now.Add(peerTimeout), report(3, 0, 2, 1, 0), dslB)
	ps.expire(now.Add(peerTimeout + 1))
	if len(ps) != 1 || ps[3] == nil {
		t.Errorf("%d peers are left, want box 3", len(ps))
	}
}

func TestRepeatedProbesAreStale(t *testing.T) {
	ps := heardFrom(t, time.Unix(1000, 0))
	for _, c := range []struct {
		name  string
		m     message
		from  netip.Addr
		stale bool
	}{
		{"again", report(1, 0, 1, 1, 0), dslA, true},
		{"from elsewhere", report(1, 0, 1, 1, 0), dslB, true},
		{"older", report(1, 1, 1, 1, 0), lte4, true},
		{"newer", report(1, 0, 2, 1, 0), dslA, false},
		{"over the other family", report(1, 0, 1, 1, 0), lte4, false},
		{"of a box that is not known", report(2, 0, 1, 1, 0), dslA, false},
	} {
		if got := ps.stale(c.m, c.from); got != c.stale {
			t.Errorf("%s: stale %v, want %v", c.name, got, c.stale)
		}
	}
}

func TestFailedPathsMatchTheSubflowsOfTheirCPE(t *testing.T) {
	ap := netip.AddrPortFrom
	client, otherClient := netip.MustParseAddr("2001:db8:1::2"), netip.MustParseAddr("2001:db8:1::3")
	sub := func(token uint32, joined bool, remote netip.Addr, port uint16) paths.Subflow {
		return paths.Subflow{Token: token, Joined: joined, CanSend: true, Remote: ap(remote, port)}
	}
	first, join, again := sub(1, false, client, 9), sub(1, true, lteA, 8), sub(1, true, dslA, 7)
	own := sub(1, false, lteA, 6) // dialed from the CPE's own address
	all := []paths.Subflow{first, join, sub(2, false, otherClient, 9), sub(3, false, client, 8), sub(3, true, dslB, 8)}
	failed := func(a netip.Addr) map[netip.Addr]bool { return map[netip.Addr]bool{a: true} }
	for _, c := range []struct {
		name string
		f    failedPaths
		all  []paths.Subflow
		want []int
	}{
		{"a further path is down", failedPaths{down: failed(lteA)}, all, []int{1}},
		{"the first path is down", failedPaths{down: failed(dslA), others: failed(lteA)}, all, []int{0}},
		{"the first path is down, where it was joined again", failedPaths{down: failed(dslA), others: failed(lteA)}, []paths.Subflow{join, again}, []int{1}},
		{"a first subflow over a further path", failedPaths{down: failed(dslA), others: failed(lteA)}, []paths.Subflow{own, again}, []int{1}},
	} {
		if got := paths.Dispensable(c.all, c.f.matches); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAddressIsNewToEachRunOfACPE(t *testing.T) {
	ps, now := make(peers), time.Now()
	for i, c := range []struct {
		box, sequence uint64
		from          netip.Addr
		arrived       bool
	}{
		{1, 1, lteA, true}, {1, 2, lteA, false}, {1, 3, lte4, true}, {1, 4, lteA, false},
		{2, 1, lteA, true}, {1, 5, lteA, false}, {1, 6, dslA, true}, {1, 7, lteA, true},
	} {
		if _, got := ps.confirm(now, report(c.box, 1, c.sequence, 1, 0), c.from); got != c.arrived {
			t.Errorf("probe %d: the address is new: %v", i, got)
		}
	}
}
