//go:build linux

package netlab_test

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/vishvananda/netlink"
)

// retransmitted reads a host's count of TCP segments sent again.
func retransmitted(t *testing.T, h *netlab.Host) int {
	t.Helper()
	var b []byte
	err := h.Do(func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "RetransSegs" {
				n, err := strconv.Atoi(fields[i])
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
		}
	}
	t.Fatal("no RetransSegs in /proc/net/snmp")
	return 0
}

// waitCarrier waits until an interface has, or has not, a carrier.
func waitCarrier(t *testing.T, h *netlab.Host, ifname string, want bool) {
	t.Helper()
	for range 500 {
		var up bool
		err := h.Netlink(func(nl *netlink.Handle) error {
			l, err := nl.LinkByName(ifname)
			if err == nil {
				up = l.Attrs().OperState == netlink.OperUp
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if up == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%s: carrier of %s is never %v", h.Name, ifname, want)
}
