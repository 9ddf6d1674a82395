//go:build linux

package relay_test

import (
	"io"
	"math"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/relay"
)

// A subflow of 20 Mbit/s with a round trip of 100 ms: enough is 25 ms of what it
// sends, 62.5 kB, or 64 KiB of its window if that is more.
func subflow(unsent uint32, change func(*unix.TCPInfo)) unix.TCPInfo {
	s := unix.TCPInfo{
		State: unix.BPF_TCP_ESTABLISHED, Unacked: 170, Notsent_bytes: unsent, Pacing_rate: 2_500_000,
		Rtt: 100_000, Min_rtt: 90_000, Rttvar: 1000, Snd_mss: 1428, Snd_cwnd: 170, Snd_ssthresh: 120,
	}
	if change != nil {
		change(&s)
	}
	return s
}

func TestBudgetIsHalfOfTheSmallestWindowInUse(t *testing.T) {
	window := func(size uint32) unix.TCPInfo { return subflow(0, func(s *unix.TCPInfo) { s.Snd_wnd = size }) }
	idle, opening := window(1000), window(0)
	idle.Unacked = 0
	opening.State, opening.Unacked = unix.BPF_TCP_SYN_SENT, 1
	for _, c := range []struct {
		name     string
		underWay uint64
		subflows []unix.TCPInfo
		want     int
	}{
		{"much room", 100_000, []unix.TCPInfo{window(2_000_000), window(1_000_000)}, 400_000},
		{"none", 500_000, []unix.TCPInfo{window(2_000_000), window(1_000_000)}, 0},
		{"a subflow that carries nothing says nothing", 100_000, []unix.TCPInfo{window(1_000_000), idle}, 400_000},
		{"one that is being opened says nothing", 100_000, []unix.TCPInfo{window(1_000_000), opening}, 400_000},
		{"TCP has had all acknowledged", 100_000, []unix.TCPInfo{idle, idle}, math.MaxUint32/2 - 100_000},
		{"a closed window is for the kernel to probe", 0, []unix.TCPInfo{window(0), window(0)}, 64 << 10},
	} {
		if got := relay.InWindow(c.underWay, c.subflows); got != c.want {
			t.Errorf("%s: %d bytes, want %d", c.name, got, c.want)
		}
	}
}

func TestBudgetKeepsSubflowsBusy(t *testing.T) {
	const enough, much, plenty = 64 << 10, 500_000, 1 << 20 // much lasts for longer than a leg rests
	full := subflow(much, nil)
	for _, c := range []struct {
		name  string
		other unix.TCPInfo // beside one that is full
		bytes int
		rest  time.Duration
	}{
		{"both have enough", full, 0, 100 * time.Millisecond},
		{"one has just enough", subflow(enough, nil), 0, enough / 2 * time.Second / 2_500_000},
		{"one lacks some", subflow(10_000, nil), enough - 10_000, 0},
		{"one lacks some of a small window", subflow(1000, func(s *unix.TCPInfo) { s.Snd_cwnd, s.Snd_ssthresh, s.Pacing_rate = 10, 8, 100_000 }), 13_280, 0},
		{"one of 1 Gbit/s lacks some", subflow(1000, func(s *unix.TCPInfo) { s.Pacing_rate = 125e6 }), 3_125_000 - 1000, 0},
		{"a faster one has much", subflow(10_000_000, func(s *unix.TCPInfo) { s.Pacing_rate = 126e6 }), plenty, 0},
		{"the rate of one is not known", subflow(0, func(s *unix.TCPInfo) { s.Pacing_rate = math.MaxUint64 }), plenty, 0},
		{"one is in slow start", subflow(much, func(s *unix.TCPInfo) { s.Snd_ssthresh = math.MaxInt32 }), 0, 20 * time.Millisecond},
		{"one in slow start lacks some", subflow(enough, func(s *unix.TCPInfo) { s.Snd_ssthresh = math.MaxInt32 }), 2*170*1428 - enough, 0},
		{"one recovers from a loss and has enough", subflow(enough, func(s *unix.TCPInfo) { s.Snd_ssthresh, s.Ca_state = math.MaxInt32, 3 }), 0, enough / 2 * time.Second / 2_500_000},
		{"one has gone silent", subflow(0, func(s *unix.TCPInfo) { s.Last_ack_recv = 150 }), 0, 20 * time.Millisecond},
		{"one has as much silence as is usual", subflow(0, func(s *unix.TCPInfo) { s.Last_ack_recv = 110 }), enough, 0},
		{"one is not used", subflow(0, func(s *unix.TCPInfo) { s.Unacked = 0 }), 0, 20 * time.Millisecond},
		{"one is being opened", subflow(0, func(s *unix.TCPInfo) { s.State, s.Unacked = unix.BPF_TCP_SYN_SENT, 1 }), 0, 20 * time.Millisecond},
		{"one has ended", subflow(much, func(s *unix.TCPInfo) { s.State = unix.BPF_TCP_CLOSE }), 0, 20 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			bytes, rest := relay.Room([]unix.TCPInfo{full, c.other})
			if bytes != c.bytes || bytes == 0 && rest != c.rest {
				t.Errorf("%d bytes, or a rest of %v; want %d, %v", bytes, rest, c.bytes, c.rest)
			}
		})
	}
}

func TestRateIsProvenByWhatWasDelivered(t *testing.T) {
	for _, c := range []struct {
		name            string
		pacing          uint64
		acked, busyUsec uint64
		want            uint64
	}{
		{"nothing is known", math.MaxUint64, 0, 0, math.MaxUint64},
		{"too short a time", 1e9, 1000, 16_000, 1e9},
		{"the burst of a token bucket", 1e9, 250_000, 1_000_000, 500_000},
		{"a pacing rate that is proven", 300_000, 250_000, 1_000_000, 300_000},
	} {
		s := unix.TCPInfo{Pacing_rate: c.pacing, Bytes_acked: c.acked, Busy_time: c.busyUsec}
		if got := relay.Rate(&s); got != c.want {
			t.Errorf("%s: %d bytes/s, want %d", c.name, got, c.want)
		}
	}
}

func TestBytesUnderWayGrowWithWhatIsDelivered(t *testing.T) {
	for _, c := range []struct {
		delivered, underWay uint64
		want                int
	}{
		{0, 64 << 10, 64 << 10},
		{0, 128 << 10, 0},
		{64 << 10, 64 << 10, (128 + 4*64 - 64) << 10},
		{512 << 10, 512 << 10, (128 + 4*512 - 512) << 10},
	} {
		if got := relay.Ramp(c.delivered, c.underWay); got != c.want {
			t.Errorf("%d bytes delivered and %d under way: %d more, want %d", c.delivered, c.underWay, got, c.want)
		}
	}
}

func TestBytesThatWaitForASlowSubflowAreDelivered(t *testing.T) {
	slow := subflow(100_000, func(s *unix.TCPInfo) { s.Bytes_acked = 10_000 })
	fast := subflow(0, func(s *unix.TCPInfo) { s.Bytes_acked = 400_000 })
	if got := relay.Delivered([]unix.TCPInfo{slow, fast}); got != 410_000 {
		t.Errorf("%d bytes delivered, want 410000", got)
	}
}

func TestIdleSubflowsAreOfferedBytesAsLongAsTheyTakeSome(t *testing.T) {
	const some = 64 << 10
	full := subflow(500_000, nil)
	idle := func(sent uint64) []unix.TCPInfo {
		return []unix.TCPInfo{full, subflow(0, func(s *unix.TCPInfo) { s.Unacked, s.Bytes_sent = 0, sent })}
	}
	got := relay.Offers(idle(0), idle(0), idle(100), idle(100), []unix.TCPInfo{full, full}, idle(100), idle(200))
	if want := []int{some, 0, some, 0, 0, 0, some}; !slices.Equal(got, want) {
		t.Errorf("offered %d, want %d", got, want)
	}
}

func TestUnassignedBytesCountForTheirLegOnly(t *testing.T) {
	const up = 100_000 // bytes that the onward leg was given
	for _, c := range []struct {
		sent           uint64
		onward, client int
	}{
		{40_000, 60_000, 0},
		{up, 0, 0},
		{up + 1, 0, 0}, // some went between the two looks
		{0, 0, 0},      // the kernel does not tell
	} {
		if onward, client := relay.Unassigned(up, c.sent); onward != c.onward || client != c.client {
			t.Errorf("with %d sent %d and %d are unassigned, want %d and %d", c.sent, onward, client, c.onward, c.client)
		}
	}
}

func TestOnlySubflowHasABudgetUnlessItsPeerIsNear(t *testing.T) {
	for minRTT, want := range map[uint32]int{2000: 1 << 20, 2001: 0} {
		s := subflow(500_000, func(s *unix.TCPInfo) { s.Min_rtt = minRTT })
		if bytes, _ := relay.Room([]unix.TCPInfo{s}); bytes != want {
			t.Errorf("%d µs: %d bytes, want %d", minRTT, bytes, want)
		}
	}
}

func TestRecognizesNearAndFastLegs(t *testing.T) {
	fast := subflow(0, func(s *unix.TCPInfo) { s.Min_rtt, s.Pacing_rate = 2000, 126e6 })
	slow, far, idle := fast, fast, fast
	slow.Pacing_rate = 125e6
	far.Min_rtt = 2001
	idle.Unacked = 0
	for _, c := range []struct {
		name     string
		subflows []unix.TCPInfo
		want     bool
	}{
		{"alone", []unix.TCPInfo{fast}, true},
		{"beside one that carries nothing", []unix.TCPInfo{fast, idle}, true},
		{"beside another", []unix.TCPInfo{fast, fast}, false},
		{"too slow", []unix.TCPInfo{slow}, false},
		{"too far", []unix.TCPInfo{far}, false},
		{"carries nothing", []unix.TCPInfo{idle}, false},
		{"none", nil, false},
	} {
		if got := relay.NearAndFast(c.subflows); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestLegOverOneNearAndFastPathGetsAWideBuffer(t *testing.T) {
	b := newBench(t, benchConfig{mptcp: true})
	if !forcesBuffers(t, b.CPE) {
		t.Skip("could not check the send buffer over one near and fast path: a user namespace may not force its size")
	}
	c, s := b.pair("tcp", "mptcp", "2001:db8:2::2")
	conn := b.last()
	size := func() int {
		n, err := conn.SendBuffer()
		check(t, err)
		return n
	}
	if n := size(); n >= 16<<20 {
		t.Fatalf("buffer of %d bytes before anything was sent", n)
	}
	var g errgroup.Group
	g.Go(func() error { _, err := io.Copy(io.Discard, s); return err })
	some := make([]byte, 8<<20)
	for range 64 {
		if _, err := c.Write(some); err != nil || size() == 16<<20 {
			check(t, err)
			break
		}
	}
	if n := size(); n != 16<<20 {
		t.Errorf("buffer of %d bytes after 512 MiB", n)
	}
	check(t, c.Close())
	check(t, g.Wait())
}

func TestLegWithNothingInFlightHasTheInitialBudget(t *testing.T) {
	idle := subflow(0, func(s *unix.TCPInfo) { s.Unacked = 0 })
	for _, subflows := range [][]unix.TCPInfo{nil, {idle}, {idle, idle}} {
		if bytes, _ := relay.Room(subflows); bytes != 64<<10 {
			t.Errorf("%d subflows: %d bytes", len(subflows), bytes)
		}
	}
}
