//go:build linux

package probe

import (
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestInterfaceOfADatagramIsKnown(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	check(t, err)
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		local := netip.MustParseAddrPort(at)
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(local))
		if err != nil && local.Addr().Is6() {
			t.Logf("no IPv6 here: %v", err)
			continue
		}
		check(t, err)
		defer c.Close()
		check(t, prepare(c, local.Addr()))
		check(t, c.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = c.WriteTo([]byte("probe"), c.LocalAddr())
		check(t, err)
		var in, control [64]byte
		_, n, _, _, err := c.ReadMsgUDPAddrPort(in[:], control[:])
		check(t, err)
		if got := cameBy(control[:n]); got != lo.Index {
			t.Errorf("%s: by interface %d, want %d", at, got, lo.Index)
		}
	}
	if got := cameBy([]byte("no message")); got != 0 {
		t.Errorf("without a message: %d", got)
	}
}
