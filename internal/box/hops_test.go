//go:build linux

package box

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/internal/packettest"
	"github.com/synbond/synbond/rewrite"
)

func TestHopLimitIsThatOfArrivalInTheBoxOnly(t *testing.T) {
	for _, syn := range [][]byte{packettest.SYN(t, packettest.MSS), packettest.Segment(t, netip.MustParseAddrPort("198.51.100.2:1"), netip.MustParseAddrPort("203.0.113.2:2"), func(h *layers.TCP) { h.SYN = true })} {
		packet := bytes.Clone(syn)
		arrived(packet)
		var was, is rewrite.Segment
		if err := was.Parse(syn); err != nil {
			t.Fatal(err)
		}
		if err := is.Parse(packet); err != nil || is.Traits().HopLimit != was.Traits().HopLimit+1 {
			t.Errorf("hop limit %d became %d (%v), want one more", was.Traits().HopLimit, is.Traits().HopLimit, err)
		}
		if got := forwarded(packet); !bytes.Equal(got, syn) {
			t.Errorf("went on as %x, want %x", got, syn)
		}
	}
}
