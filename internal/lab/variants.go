//go:build linux

package lab

import (
	"math"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// overflowVariant runs a transfer that fits into dsl, and beside it for a while one
// that takes all bandwidth.
var overflowVariant = func() variant {
	const slow, fast = "the slow transfer", "the fast transfer"
	begins, ends := moment{fast + " begins", 0}, moment{fast + " ends", 0}
	return variant{
		title:   "overflow",
		options: map[string]string{"lte": "mode=overflow,busy=16mbit"},
		steps: []step{
			record(netlab.Down),
			beginTransfer(slow, pacedPort, netlab.Request{Duration: 15 * time.Second}),
			await("at first lte is open as backup", usedAs("lte", "backup")),
			pause(2 * time.Second),
			await("a slow transfer does not change that", usedAs("lte", "backup")),
			beginTransfer(fast, trafficPort, netlab.Request{Duration: 4 * time.Second}),
			await("a fast transfer gets lte", usedAs("lte", "normal")),
			finishTransfer(fast),
			await("lte is left when the need is over", usedAs("lte", "backup")),
			nameMoment("lte is left"),
			finishTransfer(slow),
			stopRecording,
			checkRate("before, nothing is on lte", "lte", moment{}, begins, 0, idleRate),
			checkRate("with both lines it is faster than on dsl", received, moment{ends.name, -time.Second}, ends, 1.2*capacity("dsl"), math.Inf(1)),
			checkRate("afterwards, nothing is on lte", "lte", moment{"lte is left", 200 * time.Millisecond}, moment{slow + " ends", 0}, 0, idleRate),
		},
	}
}()

// idleRate (Mbit/s) is enough for the acknowledgements, probes and new subflows on a line.
const idleRate = 0.3

// chartPause between two events keeps them apart in a chart.
const chartPause = 1500 * time.Millisecond

// newConnections returns a variant in which connections begin while dsl is down. The
// steps before and after are taken just before dsl fails, and once it is back.
func newConnections(title string, want flowOutcome, before, after []step) variant {
	meanwhile := []moment{{"the CPE has noticed", 0}, {"dsl is back", 0}}
	return variant{
		title: title,
		flags: []string{"--first-path-down", title},
		steps: slices.Concat(
			[]step{record(netlab.Down), startFetching, pause(chartPause)},
			before,
			[]step{
				failLine("dsl", noCarrier),
				await("the CPE notices", pathsDown("dsl")),
				nameMoment(meanwhile[0].name),
				checkNewConnections("meanwhile", want),
				pause(chartPause),
				restoreLine("dsl", noCarrier),
			},
			after,
			[]step{
				await("dsl is used again", usedAs("dsl", "normal")),
				checkNewConnections("afterwards", flowOutcome{action: "relay"}),
				checkFetches(meanwhile[0], meanwhile[1]),
			},
		),
	}
}

var (
	// Connections that pass keep the client's address: the operator must route it
	// over the other line.
	passVariant = newConnections("pass", flowOutcome{action: "pass", reason: "first-path-down"},
		[]step{routeClient("lte")}, []step{routeClient("dsl")})

	ownSourceVariant = newConnections("own-source", flowOutcome{action: "relay", reason: "first-path-down", from: "lte"}, nil, nil)

	allPathsDown = variant{
		title: "all paths down",
		steps: []step{
			record(netlab.Down),
			startFetching,
			pause(chartPause),
			failLine("dsl", noCarrier),
			failLine("lte", noCarrier),
			await("the CPE notices", pathsDown("dsl", "lte")),
			compareConnects,
			restoreLine("dsl", noCarrier),
			restoreLine("lte", noCarrier),
		},
	}
)

// withoutHAG returns a variant in which the HAG's box ends and is started again.
func withoutHAG(how string, end func(*netlab.Box) error) variant {
	return variant{
		title: how,
		steps: []step{
			record(netlab.Down),
			startFetching,
			pause(chartPause),
			endHAG(how, end),
			await("the CPE notices", hagIs("down")),
			checkNewConnections("meanwhile", flowOutcome{action: "pass", reason: "hag-down"}),
			pause(chartPause),
			startHAG,
			await("the CPE notices that it is back", hagIs("up")),
			checkNewConnections("afterwards", flowOutcome{action: "relay"}),
			pause(chartPause),
			checkFetches(moment{"the HAG's box is " + how, 0}, moment{"the HAG's box is started again", 0}),
		},
	}
}

// flapVariant takes a line down and up under many connections. Each connection may
// try to open three subflows meanwhile.
var flapVariant = func() variant {
	const busy, idle, joinsEach = "the busy transfer", 200, 3
	return variant{
		title: "flap",
		steps: []step{
			record(netlab.Down),
			openIdle(idle),
			beginTransfer(busy, trafficPort, netlab.Request{Duration: 10 * time.Second}),
			await("every connection has its subflows", subflowsEverywhere(idle+1)),
			pause(chartPause),
			countJoins(joinsEach*(idle+1),
				flap("dsl", 8),
				await("it settles: every connection has its subflows again", subflowsEverywhere(idle+1)),
				finishTransfer(busy),
			),
			useIdle,
		},
	}
}()
