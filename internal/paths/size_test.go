package paths

import (
	"testing"
	"time"
)

// checkSizes runs checks for some time over a path that carries packet n, of that size, and
// its reply only if passes says so. It returns the bytes sent.
func checkSizes(s *SizeCheck, now *time.Time, d, every time.Duration, passes func(size, n int) bool) (bytes int) {
	sequence := uint64(bytes)
	n := 0
	for end := now.Add(d); now.Before(end); *now = now.Add(10 * time.Millisecond) {
		if size := s.Due(*now, every, 50*time.Millisecond); size > 0 {
			sequence, n, bytes = sequence+1, n+1, bytes+size
			s.Sent(sequence, size)
			if passes(size, n) {
				s.Replied(*now, sequence)
			}
		}
	}
	return bytes
}

func upTo(largest int) func(size, n int) bool {
	return func(size, _ int) bool { return size <= largest }
}

func TestSizeCheckFindsTheLargestPacket(t *testing.T) {
	for _, c := range []struct {
		name   string
		mtu    int
		is4    bool
		passes func(size, n int) bool
		want   int
	}{
		{"full size", 1500, false, upTo(1500), 0},
		{"MTU not known", 0, false, upTo(1500), 0},
		{"larger packets than are checked", 9000, false, upTo(1500), 0},
		{"a link with a smaller MTU", 1492, false, upTo(1492), 0},
		{"PPPoE behind the next router", 1500, false, upTo(1492), 1492},
		{"a size between two that are tried", 1500, false, upTo(1470), 1460},
		{"smallest of IPv6", 1500, false, upTo(1280), 1280},
		{"too small for IPv6", 1500, false, upTo(1000), 0},
		{"the same over IPv4", 1500, true, upTo(1000), 576},
		{"nothing passes", 1500, false, upTo(0), 0},
		{"half of all packets are lost", 1500, false, func(_, n int) bool { return n%4 < 2 }, 0},
	} {
		s, now := NewSizeCheck(c.mtu, c.is4), time.Unix(1000, 0)
		checkSizes(s, &now, 3*time.Second, busySizeInterval, c.passes)
		if got := s.Limit(); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestSizeCheckFollowsAPathThatChanges(t *testing.T) {
	s, now := NewSizeCheck(1500, false), time.Unix(1000, 0)
	checkSizes(s, &now, 10*time.Second, busySizeInterval, upTo(1500))
	for _, largest := range []int{1400, 1300, 1500} {
		checkSizes(s, &now, 2*sizeInterval, busySizeInterval, upTo(largest))
		want := map[int]int{1400: 1400, 1300: 1280, 1500: 0}[largest]
		if s.Limit() != want {
			t.Errorf("%d, want %d", s.Limit(), want)
		}
	}
	checkSizes(s, &now, 10*time.Second, busySizeInterval, upTo(1400))
	checkSizes(s, &now, 2*sizeInterval, busySizeInterval, upTo(0))
	if s.Limit() != 1400 {
		t.Errorf("a path that has failed: %d", s.Limit())
	}
}

func TestSizeCheckLeavesAPathAloneWhoseICMPErrorsArrive(t *testing.T) {
	s, now := NewSizeCheck(1500, false), time.Unix(1000, 0)
	checkSizes(s, &now, 10*time.Second, busySizeInterval, upTo(1400))
	for range 10 {
		checkSizes(s, &now, 2*minSizePause, busySizeInterval, upTo(1400))
		s.Told(now)
	}
	if s.Limit() != 0 {
		t.Errorf("%d", s.Limit())
	}
}

func TestIdlePathIsCheckedOnce(t *testing.T) {
	s, now := NewSizeCheck(1500, false), time.Unix(1000, 0)
	if n := checkSizes(s, &now, time.Hour, 0, upTo(1500)); n != smallPacket+1500 {
		t.Errorf("%d bytes", n)
	}
	checkSizes(s, &now, time.Second, busySizeInterval, upTo(1500))
	if _, needed := s.Next(0); needed {
		t.Error("an idle path asks for a check")
	}
}
