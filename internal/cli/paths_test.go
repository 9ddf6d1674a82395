package cli

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
)

func TestPathsAreShownInATable(t *testing.T) {
	until := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name string
		says *api.Paths
		want string
	}{
		{
			"a CPE's", &api.Paths{
				Transport: api.Transport{
					CongestionControl: "cubic", InitialWindow: 64,
					ReceiveBuffer: [3]int{4096, 1 << 20, 32 << 20}, SendBuffer: [3]int{4096, 16384, 16 << 20},
				},
				HAG: &api.HAG{State: "up", SinceMS: 61_234},
				Paths: []api.Path{
					{Name: "dsl", Interface: "ppp0", PathState: &api.PathState{
						State: "down", Reason: "no carrier", SinceMS: 1234, Mode: "always", Use: "closed",
					}},
					{Name: "lte", Interface: "wwan0", PathState: &api.PathState{
						State: "up", SinceMS: 61_234, Mode: "overflow", Use: "normal", Address6: netip.MustParseAddr("2001:db8::7"), Subflows: 3, FurtherWindow6: 187,
						RateUp: 999, RateDown: 12_345_678, RTTUS: 61_234, Loss: 0.25, Probed: true,
						Quota: &api.Quota{Limit: 10e9, Used: 1e6, Until: until},
					}},
				},
			}, `
multipath legs: cubic, initial window of 64 segments, receive buffer 1.0 MiB to 32.0 MiB, send buffer up to 16.0 MiB
HAG is up for 1m1s

PATH  INTERFACE  MODE      USE     SUBFLOWS  WINDOW  UP         DOWN         RTT     LOSS  QUOTA                               ADDRESSES    STATE
dsl   ppp0       always    closed  0         -       0 bit/s    0 bit/s      -       -     -                                   none         down (no carrier) for 1.2s
lte   wwan0      overflow  normal  3         187     999 bit/s  12.3 Mbit/s  61.2ms  25 %  1.0 MB of 10.0 GB until 2026-12-01  2001:db8::7  up for 1m1s
`,
		},
		{
			"a HAG's", &api.Paths{Transport: api.Transport{CongestionControl: "bbr", InitialWindow: 10}, Peers: []api.Peer{{Box: "0123456789abcdef", Paths: []api.PeerPath{
				{Index: 1, Address: netip.MustParseAddr("192.0.2.7"), HeardMS: 300, State: "down", FurtherWindow: 64},
			}}}}, `
multipath legs: bbr, initial window of 10 segments, receive buffer 0 B to 0 B, send buffer up to 0 B

CPE               PATH  ADDRESS    WINDOW  STATE  HEARD
0123456789abcdef  2     192.0.2.7  64      down   300ms ago
`,
		},
		{"a HAG's without a CPE", &api.Paths{Transport: api.Transport{CongestionControl: "bbr", InitialWindow: 10}}, `
multipath legs: bbr, initial window of 10 segments, receive buffer 0 B to 0 B, send buffer up to 0 B

no CPE probes this HAG
`},
	} {
		var out bytes.Buffer
		printPaths(&out, c.says)
		if got := "\n" + out.String(); got != c.want {
			t.Errorf("%s:\n%s\nwant:\n%s", c.name, got, c.want)
		}
	}
}
