package lab

import (
	"math"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// overflow has a transfer that fits into dsl, and beside it for a while one that
// takes what it gets.
var overflow = func() part {
	const slow, fast = "the slow transfer", "the fast transfer"
	begins, ends := moment{fast + " begins", 0}, moment{fast + " ends", 0}
	return part{
		title:   "overflow",
		options: map[string]string{"lte": "mode=overflow,busy=16mbit"},
		steps: []step{
			roll(netlab.Down),
			begin(slow, pacedPort, netlab.Request{Duration: 15 * time.Second}),
			see("at first lte is open as backup", used("lte", "backup")),
			pause(2 * time.Second),
			see("a slow transfer does not change that", used("lte", "backup")),
			begin(fast, trafficPort, netlab.Request{Duration: 4 * time.Second}),
			see("a fast transfer gets lte", used("lte", "normal")),
			finish(fast),
			see("lte is left when the need is over", used("lte", "backup")),
			now("lte is left"),
			finish(slow),
			cut,
			rate("before, nothing is on lte", "lte", moment{}, begins, 0, little),
			rate("with both lines it is faster than on dsl", received, moment{ends.name, -time.Second}, ends, 1.2*capacity("dsl"), math.Inf(1)),
			rate("afterwards, nothing is on lte", "lte", moment{"lte is left", 200 * time.Millisecond}, moment{slow + " ends", 0}, 0, little),
		},
	}
}()

// little is what acknowledgements, probes and new subflows take on a line, in Mbit/s.
const little = 0.3

// aWhile is long enough to be seen in a chart.
const aWhile = 1500 * time.Millisecond

// newcomers is a part in which connections begin while dsl is down. More steps
// may come just before that, and after it is back.
func newcomers(title string, want greeting, before, after []step) part {
	meanwhile := []moment{{"the CPE has noticed", 0}, {"dsl is back", 0}}
	return part{
		title: title,
		flags: []string{"--first-path-down", title},
		steps: slices.Concat(
			[]step{roll(netlab.Down), visits, pause(aWhile)},
			before,
			[]step{
				fail("dsl", noCarrier),
				see("the CPE notices", down("dsl")),
				now(meanwhile[0].name),
				greet("meanwhile", want),
				pause(aWhile),
				mend("dsl", noCarrier),
			},
			after,
			[]step{
				see("dsl is used again", used("dsl", "normal")),
				greet("afterwards", greeting{action: "relay"}),
				visitsSucceed(meanwhile[0], meanwhile[1]),
			},
		),
	}
}

var (
	// What passes keeps the client's address: the operator's routing must find
	// another way to it.
	passing = newcomers("pass", greeting{action: "pass", reason: "first-path-down"},
		[]step{routeClient("lte")}, []step{routeClient("dsl")})

	fromOwnSource = newcomers("own-source", greeting{action: "relay", reason: "first-path-down", from: "lte"}, nil, nil)

	allDown = part{
		title: "all paths down",
		steps: []step{
			roll(netlab.Down),
			visits,
			pause(aWhile),
			fail("dsl", noCarrier),
			fail("lte", noCarrier),
			see("the CPE notices", down("dsl", "lte")),
			compareConnects,
			mend("dsl", noCarrier),
			mend("lte", noCarrier),
		},
	}
)

// withoutHAG is a part in which the HAG's box ends and is started again.
func withoutHAG(how string, end func(*netlab.Box) error) part {
	return part{
		title: how,
		steps: []step{
			roll(netlab.Down),
			visits,
			pause(aWhile),
			endHAG(how, end),
			see("the CPE notices", hag("down")),
			greet("meanwhile", greeting{action: "pass", reason: "hag-down"}),
			pause(aWhile),
			startHAG,
			see("the CPE notices that it is back", hag("up")),
			greet("afterwards", greeting{action: "relay"}),
			pause(aWhile),
			visitsSucceed(moment{"the HAG's box is " + how, 0}, moment{"the HAG's box is started again", 0}),
		},
	}
}

// flaps has a line go up and down under many connections. Each of them may try
// to open a few subflows because of it, and no more.
var flaps = func() part {
	const busy, idle, joinsEach = "the busy transfer", 200, 3
	return part{
		title: "flap",
		steps: []step{
			roll(netlab.Down),
			hold(idle),
			begin(busy, trafficPort, netlab.Request{Duration: 10 * time.Second}),
			see("every connection has its subflows", everywhere(idle+1)),
			pause(aWhile),
			countJoins(joinsEach*(idle+1),
				flap("dsl", 8),
				see("it settles: every connection has its subflows again", everywhere(idle+1)),
				finish(busy),
			),
			use,
		},
	}
}()
