//go:build linux

package host

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	rtnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/nl"
)

func TestNextHopIsTheGatewayOrTheDestinationItself(t *testing.T) {
	n := build(t)
	check(t, n.CPE.Do(func() error {
		for dst, want := range map[string]string{
			netlab.Client6.String(): netlab.Client6.String(), netlab.Client4.String(): netlab.Client4.String(),
			netlab.Server6.String(): "2001:db8:10:1::1", netlab.Server4.String(): "198.51.100.17",
		} {
			if got := NextHop(netip.MustParseAddr(dst)); got.String() != want {
				t.Errorf("next hop to %s is %v, want %s", dst, got, want)
			}
		}
		return nil
	}))
	check(t, n.Server.Do(func() error {
		// An unreachable route has no next hop; the server's default route covers all else.
		if got := NextHop(netip.Addr{}); got.IsValid() {
			t.Errorf("next hop to nowhere is %v", got)
		}
		return nil
	}))
}

func TestNeighbourThatDoesNotAnswerIsReported(t *testing.T) {
	n := build(t)
	silent := netip.MustParseAddr("2001:db8:1::99")
	var mu sync.Mutex
	var failed []netip.Addr
	ctx, cancel := context.WithCancel(t.Context())
	done := netlabtest.Inside(t, n.CPE, func() error {
		return WatchNeighbours(ctx, func(a netip.Addr) {
			mu.Lock()
			failed = append(failed, a)
			mu.Unlock()
		})
	})
	check(t, n.CPE.Sysctl("net.ipv6.neigh.lan.retrans_time_ms", "20"))
	reported := func() bool {
		// The watch may begin after the first attempt: it is made again and again.
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if c, err := n.CPE.Dial(ctx, "tcp", "", at(silent, 1).String()); err == nil {
			c.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(failed, silent)
	}
	eventually(t, "nothing is reported", reported)
	cancel()
	check(t, <-done)
}

func TestMalformedNeighbourMessagesReportNoFailure(t *testing.T) {
	body := make([]byte, neighbourSize)
	binary.NativeEndian.PutUint16(body[neighbourState:], unix.NUD_FAILED)
	whole := nl.AppendBytes(body, unix.NDA_DST, netip.MustParseAddr("192.0.2.1").AsSlice())
	message := func(kind rtnetlink.HeaderType, data []byte) rtnetlink.Message {
		return rtnetlink.Message{Header: rtnetlink.Header{Type: kind}, Data: data}
	}
	if a, ok := failedNeighbour(message(unix.RTM_NEWNEIGH, whole)); !ok || a.String() != "192.0.2.1" {
		t.Errorf("a failed neighbour is %v, %v", a, ok)
	}
	if _, ok := failedNeighbour(message(unix.RTM_DELNEIGH, whole)); ok {
		t.Error("a removed neighbour has failed")
	}
	for n := range whole {
		if a, ok := failedNeighbour(message(unix.RTM_NEWNEIGH, whole[:n])); ok {
			t.Errorf("%d of %d bytes report %v", n, len(whole), a)
		}
	}
}
