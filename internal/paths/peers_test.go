package paths

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
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
	return message{kind: probe, box: box, path: path, sequence: sequence, revision: revision, down: down}
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
func due(ps peers, now time.Time) (down, beside []netip.Addr) {
	f, _ := ps.due(now)
	sorted := func(m map[netip.Addr]bool) []netip.Addr { return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare) }
	return sorted(f.down), sorted(f.beside)
}

func TestReportOfAPathThatIsDownConcernsItsAddressesTwice(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name         string
		down         uint8
		over         netip.Addr
		path         uint8
		want, beside []netip.Addr
	}{
		{"a further path", 1 << 1, dslA, 0, []netip.Addr{lte4, lteA}, nil},
		{"the first path", 1 << 0, lteA, 1, []netip.Addr{dslA}, []netip.Addr{lte4, lteA}},
		{"a path that was never heard of", 1 << 5, lteA, 1, nil, nil},
	} {
		ps := heardFrom(t, now)
		if !ps.confirm(now, report(1, c.path, 9, 2, c.down), c.over) {
			t.Errorf("%s: the report changes nothing", c.name)
		}
		for _, at := range []time.Duration{0, searchPause} {
			down, beside := due(ps, now.Add(at))
			if !slices.Equal(down, c.want) || !slices.Equal(beside, c.beside) {
				t.Errorf("%s after %v: %v and %v, want %v and %v", c.name, at, down, beside, c.want, c.beside)
			}
			if down, _ := due(ps, now.Add(at)); len(down) > 0 {
				t.Errorf("%s after %v: %v at once again", c.name, at, down)
			}
		}
		if down, beside := due(ps, now.Add(time.Hour)); len(down)+len(beside) > 0 {
			t.Errorf("%s: %v and %v a third time", c.name, down, beside)
		}
	}
}

func TestFirstPathThatFellBeforeItWasHeardOfHasSubflowsAllTheSame(t *testing.T) {
	now := time.Unix(1000, 0)
	ps := make(peers)
	if !ps.confirm(now, report(1, 1, 1, 1, 1), lteA) {
		t.Error("the report changes nothing")
	}
	if down, beside := due(ps, now); len(down) > 0 || !slices.Equal(beside, []netip.Addr{lteA}) {
		t.Errorf("to look for: %v and what is beside %v, want what is beside %v", down, beside, lteA)
	}
}

func TestReportsThatOvertakeEachOtherCountByTheirRevision(t *testing.T) {
	now := time.Unix(1000, 0)
	ps := heardFrom(t, now)
	for _, c := range []struct {
		revision uint32
		down     uint8
		fallen   bool
	}{
		{3, 2, true},
		{3, 2, false}, // again
		{2, 4, false}, // an older one
		{4, 6, true},  // one more
		{5, 4, false}, // one fewer
		{6, 0, false},
	} {
		m := report(1, 0, 0, c.revision, c.down)
		if got := ps.confirm(now, m, dslA); got != c.fallen {
			t.Errorf("revision %d: fallen %v, want %v", c.revision, got, c.fallen)
		}
	}
	if down, _ := due(ps, now); len(down) > 0 {
		t.Errorf("all is up, and yet %v", down)
	}
}

func TestAddressOfTwoBoxesIsLeftAlone(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, c := range []struct {
		name  string
		other time.Duration // when another box was heard from it
		box   uint64
		want  int
	}{
		{"never by another", 0, 1, 1},
		{"by another a moment ago", -time.Second, 2, 0},
		{"by another before", -addressKept - time.Second, 2, 1},
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

func TestPeersAreForgottenAndBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	ps := make(peers)
	for box := range uint64(peersMost + 10) {
		ps.confirm(now, report(box, 0, 1, 1, 0), dslB)
	}
	if len(ps) != peersMost {
		t.Errorf("%d peers, want %d", len(ps), peersMost)
	}
	ps.confirm(now.Add(peerKept), report(3, 0, 2, 1, 0), dslB)
	ps.expire(now.Add(peerKept + 1))
	if len(ps) != 1 || ps[3] == nil {
		t.Errorf("%d peers are left, want box 3", len(ps))
	}
}

func TestProbeIsHeardOnceOnly(t *testing.T) {
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
