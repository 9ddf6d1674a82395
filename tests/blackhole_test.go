//go:build linux

package tests

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// largestPacket is the size of the largest packets through a black hole, in bytes.
const largestPacket = 1400

// least is the number of bytes, of 4 MiB, that a line must have carried.
const least = 1 << 20

// swallow makes a line lose large packets by one of its interfaces, or both, without a word.
func swallow(t *testing.T, l *netlab.Line, interfaces ...string) {
	t.Helper()
	admin(t, l.Router(), "nft 'add table inet hole; add chain inet hole forward { type filter hook forward priority 0; }'")
	for _, name := range interfaces {
		admin(t, l.Router(), fmt.Sprintf("nft 'add rule inet hole forward oifname %s meta length > %d counter drop'", name, largestPacket))
	}
}

// TestLargePacketsThatALineLosesAreNotSent runs transfers over lines with a black hole, all
// of which must use both lines.
func TestLargePacketsThatALineLosesAreNotSent(t *testing.T) {
	long(t)
	t.Parallel()
	tooltest.Need(t, "a black hole", "nft", "sh")
	for _, c := range []struct {
		name    string
		line    int
		running bool // it begins while a transfer runs
		lost    []string
	}{
		{"first line, both ways", 0, false, []string{"cpe", "hag"}},
		{"second line, down only", 1, false, []string{"cpe"}},
		{"second line, up only, later", 1, true, []string{"hag"}},
		{"first line, both ways, later", 0, true, []string{"cpe", "hag"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{
				{Name: "dsl", Rate: 20e6, Delay: 5 * time.Millisecond}, {Name: "lte", Rate: 20e6, Delay: 5 * time.Millisecond},
			}})
			line := n.Lines[c.line]
			hole := func() { swallow(t, line, c.lost...) }
			if !c.running {
				hole()
			}
			p := start(t, n)
			known := func(s *api.PathState) bool {
				return s.LargestPacket4 == largestPacket && s.LargestPacket6 == largestPacket && s.State == "up"
			}
			for _, f := range families {
				dialer := traffic(t, n.Server, n.Client, f.server)
				if c.running {
					timer := time.AfterFunc(time.Second, hole)
					defer timer.Stop()
					transferFor(t, dialer, 6*time.Second)
					c.running = false
				}
				sees(t, p.cpe, line.Name, "has its largest packet found", known)
				before := pathOf(t, p.cpe, line.Name)
				for _, d := range []netlab.Direction{netlab.Up, netlab.Down} {
					if _, err := netlab.Transfer(within(t, 20*time.Second), dialer, d, 4<<20); err != nil {
						t.Fatalf("%s %s: %v", f.name, d, err)
					}
				}
				after := pathOf(t, p.cpe, line.Name)
				if up, down := after.BytesUp-before.BytesUp, after.BytesDown-before.BytesDown; up < least || down < least {
					t.Errorf("%s: %d bytes up and %d down by line %s", f.name, up, down, line.Name)
				}
			}
			want := []string{"large-packets-lost", "large-packets-lost"} // of each family
			if got := findings(t, p.cpe); !slices.Equal(got, want) {
				t.Errorf("findings %v, want %v", got, want)
			}
		})
	}
}

func transferFor(t *testing.T, dialer netlab.Dialer, d time.Duration) {
	t.Helper()
	for _, direction := range []netlab.Direction{netlab.Up, netlab.Down} {
		if _, err := netlab.TransferFor(within(t, 6*d), dialer, direction, d/2); err != nil {
			t.Fatal(err)
		}
	}
}
