package state

import (
	"net/netip"
	"testing"
	"time"
)

func TestLearntIsKeptPerPrefixUntilItExpires(t *testing.T) {
	l := NewLearnt(LearntConfig{Bits4: 24, Bits6: 48, TTL: 10})
	l.Learn(0, netip.MustParseAddr("2001:db8:1::1"), true)
	l.Learn(5, netip.MustParseAddr("203.0.113.1"), false)
	for _, c := range []struct {
		name           string
		now            time.Duration
		addr           string
		capable, known bool
	}{
		{"another host of the IPv6 prefix", 9, "2001:db8:1:2::9", true, true},
		{"another IPv6 prefix", 9, "2001:db8:2::1", false, false},
		{"another host of the IPv4 prefix", 9, "203.0.113.77", false, true},
		{"another IPv4 prefix", 9, "203.0.112.1", false, false},
		{"the IPv4 address as IPv6", 9, "::ffff:203.0.113.1", false, false},
		{"when its time is up", 10, "2001:db8:1::1", false, false},
		{"when that of the other is not", 14, "203.0.113.1", false, true},
	} {
		if capable, known := l.Known(c.now, netip.MustParseAddr(c.addr)); capable != c.capable || known != c.known {
			t.Errorf("%s: capable %v, known %v", c.name, capable, known)
		}
	}
}

func TestLearntForgetsTheOldestWhenThereAreTooMany(t *testing.T) {
	const most = 5
	l := NewLearnt(LearntConfig{Max: most, TTL: 1000})
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}) }
	for i := range 1000 {
		l.Learn(time.Duration(i), addr(i), true)
		if i == 2 {
			l.Learn(3, addr(0), false) // renews it, but it stays the oldest
		}
		n := 0
		for range l.All(time.Duration(i)) {
			n++
		}
		if want := min(i+1, most); n != want {
			t.Fatalf("after %d destinations %d are known, want %d", i+1, n, want)
		}
	}
	if len(l.order) > 3*most {
		t.Errorf("the order has %d places", len(l.order))
	}
	for i := 990; i < 1000; i++ {
		if _, known := l.Known(999, addr(i)); known != (i >= 1000-most) {
			t.Errorf("destination %d of 1000 is known: %v", i, known)
		}
	}
}

func TestLearntAgainAfterItExpiredIsNotForgottenForItsFormerPlace(t *testing.T) {
	l := NewLearnt(LearntConfig{Max: 2, TTL: 10})
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	l.Learn(0, a, true)
	l.Known(10, a) // expired, and forgotten
	l.Learn(11, b, true)
	l.Learn(12, a, true)
	l.Learn(13, c, true) // too many: b is the oldest now
	for addr, want := range map[netip.Addr]bool{a: true, b: false, c: true} {
		if _, known := l.Known(14, addr); known != want {
			t.Errorf("%v is known: %v", addr, known)
		}
	}
}

func TestLearntKeepsNoPlacesOfWhatHasExpired(t *testing.T) {
	l := NewLearnt(LearntConfig{TTL: 1, Max: 10})
	kept := netip.MustParseAddr("203.0.113.1")
	for now := range time.Duration(1000) {
		a := netip.AddrFrom4([4]byte{192, 0, byte(now >> 8), byte(now)})
		l.Learn(now, a, true)
		l.Known(now+1, a) // it has expired
		if len(l.order) > 20 {
			t.Fatalf("%d places for %d destinations", len(l.order), l.Len())
		}
	}
	l.Learn(1000, kept, true)
	if _, known := l.Known(1000, kept); !known {
		t.Error("what was learnt last is not known")
	}
}
