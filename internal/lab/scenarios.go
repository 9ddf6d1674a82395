//go:build linux

package lab

import (
	"fmt"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

const (
	mbit    = 1_000_000
	dslRate = 20 * mbit
	lteRate = 40 * mbit
)

// dslAndLTE returns a slow fixed line and a fast mobile one, with their one-way
// delays in milliseconds.
func dslAndLTE(dsl, lte time.Duration) []netlab.LineConfig {
	return []netlab.LineConfig{
		{Name: "dsl", Rate: dslRate, Delay: dsl * time.Millisecond},
		{Name: "lte", Rate: lteRate, Delay: lte * time.Millisecond},
	}
}

// Lines of the scenarios. The mobile line has the longer delay.
var (
	hybrid = dslAndLTE(25, 35)
	uneven = dslAndLTE(10, 60)
	far    = dslAndLTE(30, 150)
)

// Scenarios that can be run; the first is the default.
var Scenarios = []Scenario{
	{
		Name: "pair", Help: "a CPE and a HAG bond dsl (20 Mbit/s, 50 ms) and lte (40 Mbit/s, 70 ms) for a client with IPv6 and IPv4",
		lines: hybrid,
	},
	{
		Name: "own-source4", Help: "the same, with IPv4 dialed from the CPE's own address, as behind a NAT",
		lines: hybrid, cpeFlags: []string{"--own-source4"}, ownSource4: true,
	},
	{
		Name: "failover", Help: "dsl, the first path, loses its carrier in the midst of a download and of an upload, and gets it back",
		lines: uneven,
		variants: []variant{
			outageVariant("download", netlab.Down, "dsl", "lte", noCarrier),
			outageVariant("upload", netlab.Up, "dsl", "lte", noCarrier),
		},
	},
	{
		Name: "silent-loss", Help: "the same with a line that goes silent while its carrier stays: dsl, and lte",
		lines: uneven,
		variants: []variant{
			outageVariant("dsl, download", netlab.Down, "dsl", "lte", silent),
			outageVariant("dsl, upload", netlab.Up, "dsl", "lte", silent),
			outageVariant("lte, download", netlab.Down, "lte", "dsl", silent),
			outageVariant("lte, upload", netlab.Up, "lte", "dsl", silent),
		},
	},
	{
		Name: "overflow", Help: "lte carries something only while dsl is busy",
		lines:    uneven,
		variants: []variant{overflowVariant},
	},
	{
		Name: "first-path-down", Help: "new connections while dsl, the first path, is down: passed, relayed from the CPE's own address, and over no line at all",
		lines:    uneven,
		variants: []variant{passVariant, ownSourceVariant, allPathsDown},
	},
	{
		Name: "hag-down", Help: "the HAG's box is stopped, and killed: connections go on without it until it is back",
		lines: uneven,
		variants: []variant{
			withoutHAG("stopped", (*netlab.Box).Stop),
			withoutHAG("killed", (*netlab.Box).Kill),
		},
	},
	{
		Name: "flap", Help: "dsl goes up and down every 300 ms under 200 idle connections and a busy one",
		lines:    uneven,
		variants: []variant{flapVariant},
	},
	{
		Name: "neighbours", Help: "beside other programs on the routers, and faults of the lines, one at a time: what a client sees without and with boxes",
		lines: hybrid, neighbours: neighbours, tools: []string{"nft", "ip", "sysctl", "sh"},
	},
	{
		Name: "smartphone", Help: "a phone with MPTCP and SOCKS asks a gateway, over lte (20 Mbit/s, 70 ms) and wifi (40 Mbit/s, 30 ms), which is switched off and on in the midst of a transfer",
		lines: radios, gateway: true, tools: []string{"ip"},
		variants: []variant{phoneVariant, handover(netlab.Down), handover(netlab.Up)},
	},
	{
		Name: "objects", Help: "objects of 64 KiB to 16 MiB over each line alone and over both with boxes: how long each takes",
		lines: uneven,
		variants: []variant{
			objectsVariant("10 and 60 ms", uneven, 0.65),
			objectsVariant("30 and 150 ms", far, 0.60),
		},
	},
	{
		Name: "goodput", Help: "a long transfer each way over lines of several delays, and over one that loses packets",
		lines: uneven,
		variants: slices.Concat(
			goodputVariants("10 and 10 ms", dslAndLTE(10, 10), ""),
			goodputVariants("10 and 60 ms", uneven, ""),
			goodputVariants("30 and 150 ms", far, ""),
			goodputVariants("10 and 60 ms with loss, bbr", withLoss(uneven, "lte", 0.01), "bbr"),
		),
	},
}

// Find returns the scenario of that name.
func Find(name string) (Scenario, error) {
	i := slices.IndexFunc(Scenarios, func(s Scenario) bool { return s.Name == name })
	if i < 0 {
		return Scenario{}, fmt.Errorf("--scenario %q: want one of those that --list shows", name)
	}
	return Scenarios[i], nil
}
