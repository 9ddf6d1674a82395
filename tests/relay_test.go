//go:build linux

package tests

import (
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/rewrite"
)

func TestTransfersArriveWholeAndFromTheClientsAddress(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	for _, f := range families {
		for _, way := range []struct {
			name           string
			server, client *netlab.Host
			at, from       netip.Addr
		}{
			{"from the CPE's side", p.Server, p.Client, f.server, f.client},
			{"from the HAG's side", p.Client, p.Server, f.client, f.server},
		} {
			t.Run(f.name+" "+way.name, func(t *testing.T) {
				server := traffic(t, way.server, way.client, way.at)
				for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
					for _, size := range []int64{0, 1, 100_001, 16 << 20} {
						r, err := netlab.Transfer(within(t, 20*time.Second), server, d, size)
						if err != nil || r.Bytes != size {
							t.Errorf("%s %d: %d bytes arrived, %v", d, size, r.Bytes, err)
						}
						if r.PeerSeen.Addr() != way.from {
							t.Errorf("the server saw %s, want %s", r.PeerSeen, way.from)
						}
					}
				}
			})
		}
	}
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		if n := dump(t, b).Totals.Entered["relaying"]; n != 32 {
			t.Errorf("%s relayed %d connections of 32", b.Role, n)
		}
	}
}

// taps on the three kinds of links of a pair.
type taps struct{ client, first, second, server *netlab.Tap }

func tap(t *testing.T, n *netlab.Network) (all taps) {
	t.Helper()
	for _, at := range []struct {
		tap    **netlab.Tap
		host   *netlab.Host
		ifname string
	}{
		{&all.client, n.Client, netlab.ClientInterface},
		{&all.first, n.CPE, n.Lines[0].Name},
		{&all.second, n.CPE, n.Lines[1].Name},
		{&all.server, n.Server, netlab.ServerInterface},
	} {
		var err error
		if *at.tap, err = netlab.OpenTap(at.host, at.ifname); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*at.tap).Close() })
	}
	return all
}

// kinds counts the handshake segments of a tap by their MPTCP option.
func kinds(t *testing.T, tap *netlab.Tap) map[string]int {
	t.Helper()
	count := make(map[string]int)
	for _, h := range tap.Handshakes() {
		var seg rewrite.Segment
		if err := seg.Parse(h.Packet); err != nil {
			t.Fatal(err)
		}
		m, err := seg.MPTCP()
		kind := "plain"
		switch {
		case err != nil:
			kind = err.Error()
		case m.Capable:
			kind = "capable"
		case m.Join:
			kind = "join"
		}
		if seg.IsSYNACK() {
			kind += " answer"
		}
		count[kind]++
	}
	return count
}

func TestOnlyTheMultipathSideSpeaksMPTCP(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	seen := tap(t, p.Network)
	total := 0
	for _, f := range families {
		for _, way := range []struct {
			server, client *netlab.Host
			at             netip.Addr
		}{{p.Server, p.Client, f.server}, {p.Client, p.Server, f.client}} {
			l := listenAt(t, way.server, way.at)
			serve(l, echo)
			dial(t, way.client, addrOf(l))
			total++
		}
	}
	eventually(t, "a join for each connection from the CPE's side", func() bool {
		return kinds(t, seen.second)["join answer"] >= total/2
	})
	eventually(t, "all handshakes at the ends", func() bool {
		return kinds(t, seen.client)["plain answer"] == total && kinds(t, seen.server)["plain answer"] == total
	})
	for name, tt := range map[string]struct {
		tap  *netlab.Tap
		want []string
	}{
		"client – CPE": {seen.client, []string{"plain", "plain answer"}},
		"CPE = HAG":    {seen.first, []string{"capable", "capable answer"}},
		"HAG – server": {seen.server, []string{"plain", "plain answer"}},
	} {
		got := kinds(t, tt.tap)
		for _, k := range tt.want {
			if got[k] != total {
				t.Errorf("%s: %d of %d handshakes are %s", name, got[k], total, k)
			}
			delete(got, k)
		}
		if len(got) > 0 {
			t.Errorf("%s: also seen: %v", name, got)
		}
	}
	got := kinds(t, seen.second)
	delete(got, "join")
	delete(got, "join answer")
	if len(got) > 0 {
		t.Errorf("CPE = HAG, second path: also seen: %v", got)
	}
}

// far builds a network with a round trip of 50 ms, to tell one more from noise.
func far(t *testing.T) *netlab.Network {
	t.Helper()
	const oneWay = 25 * time.Millisecond
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Delay: oneWay}, {Name: "lte", Delay: oneWay}}})
	// An absent host is reported after 0.6 s.
	for _, key := range []string{"net.ipv6.neigh.wan.retrans_time_ms", "net.ipv4.neigh.wan.retrans_time_ms"} {
		if err := n.HAG.Sysctl(key, "200"); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

func TestOutcomesTakeNoFurtherRoundTrip(t *testing.T) {
	n := far(t)
	type outcome struct {
		name  string
		to    netip.AddrPort
		errno syscall.Errno
	}
	var all []outcome
	for _, f := range families {
		l := listenAt(t, n.Server, f.server)
		serve(l, echo)
		all = append(all,
			outcome{f.name + " open port", addrOf(l), 0},
			outcome{f.name + " closed port", netip.AddrPortFrom(f.server, 9), syscall.ECONNREFUSED})
	}
	direct := make([]time.Duration, len(all))
	for i, o := range all {
		var errno syscall.Errno
		if direct[i], errno = quickest(t, n.Client, o.to); errno != o.errno {
			t.Fatalf("%s without boxes: error %d", o.name, errno)
		}
	}
	start(t, n)
	for i, o := range all {
		// A further round trip would double each time, on a busy machine, too.
		eventually(t, o.name+" takes no further round trip", func() bool {
			took, errno := quickest(t, n.Client, o.to)
			t.Logf("%s: %v, without boxes %v: %.3f", o.name, took, direct[i], took.Seconds()/direct[i].Seconds())
			if errno != o.errno {
				t.Errorf("%s: error %q, want %q", o.name, errno.Error(), o.errno.Error())
			}
			return took < direct[i]*3/2
		})
	}
}

func TestAbsentHostsAreUnreachableAsWithoutBoxes(t *testing.T) {
	n := far(t)
	absent := []netip.AddrPort{
		netip.AddrPortFrom(netlab.Server6.Next(), 80),
		netip.AddrPortFrom(netlab.Server4.Next(), 80),
	}
	try := func() (got [2]syscall.Errno) {
		for i, to := range absent {
			_, got[i] = attempt(t, n.Client, to)
		}
		return got
	}
	without := try()
	start(t, n)
	if with := try(); with != without || with[0] == 0 || with[1] == 0 {
		t.Errorf("errors %v, without boxes %v", with, without)
	}
}

func TestOneConnectionUsesEveryPath(t *testing.T) {
	const delay = 5 * time.Millisecond
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{
		{Name: "dsl", Rate: 20_000_000, Delay: delay},
		{Name: "lte", Rate: 40_000_000, Delay: delay},
	}})
	start(t, n)
	const size = 6_000_000
	for _, way := range []struct {
		name           string
		server, client *netlab.Host
		at             netip.Addr
	}{
		{"IPv6", n.Server, n.Client, netlab.Server6},
		{"IPv4", n.Server, n.Client, netlab.Server4},
		{"IPv6 from the HAG's side", n.Client, n.Server, netlab.Client6},
	} {
		server := traffic(t, way.server, way.client, way.at)
		for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
			t.Run(way.name+" "+d.String(), func(t *testing.T) {
				before := carried(n)
				r, err := netlab.Transfer(within(t, 30*time.Second), server, d, size)
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%.1f Mbit/s", r.Goodput/1e6)
				for i, now := range carried(n) {
					if got := now - before[i]; got < size/10 {
						t.Errorf("line %s carried %d bytes of %d", n.Lines[i].Name, got, size)
					}
				}
			})
		}
	}
}

// Bytes of a transfer in a box's buffers delay all later bytes of the same connection.
func TestBoxesHoldLittleOfATransfer(t *testing.T) {
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Rate: 10e6, Delay: 10 * time.Millisecond}, {Name: "lte", Rate: 10e6, Delay: 20 * time.Millisecond}}})
	start(t, n)
	for _, way := range []struct {
		name     string
		from, to *netlab.Host
		at       netip.Addr
	}{
		{"up", n.Client, n.Server, netlab.Server6},
		{"down", n.Server, n.Client, netlab.Client6},
	} {
		t.Run(way.name, func(t *testing.T) {
			l := listenAt(t, way.to, way.at)
			var received atomic.Int64
			serve(l, func(c net.Conn) {
				for b := make([]byte, 64<<10); ; {
					n, err := c.Read(b)
					received.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
			c := dial(t, way.from, addrOf(l)).(*net.TCPConn)
			raw, err := c.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				for b := make([]byte, 64<<10); ; {
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
			// Slow start is over then, and queues are as long as they get.
			for ctx := within(t, 20*time.Second); received.Load() < 6<<20; time.Sleep(50 * time.Millisecond) {
				if ctx.Err() != nil {
					t.Fatalf("%d bytes have arrived", received.Load())
				}
			}
			var info *unix.TCPInfo
			var failed error
			if err := raw.Control(func(fd uintptr) {
				info, failed = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
			}); err != nil || failed != nil {
				t.Fatal(err, failed)
			}
			arrived := received.Load()
			held := int64(info.Bytes_acked) - arrived
			t.Logf("%d bytes have arrived, %d are on their way", arrived, held)
			if held > 2<<20 {
				t.Errorf("the boxes hold %d bytes", held)
			}
		})
	}
}

// carried returns the number of bytes that each line has delivered so far, both ways.
func carried(n *netlab.Network) []uint64 {
	out := make([]uint64, len(n.Lines))
	for i, l := range n.Lines {
		up, down := l.Bytes()
		out[i] = up + down
	}
	return out
}
