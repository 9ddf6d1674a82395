//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// experience has a client's measurements of a network beside a neighbour. Arrays are for
// IPv6 and IPv4.
type experience struct {
	reached [2][]string      // by port: open, or the error
	seen    [2]netip.Addr    // the client's address as the server saw it
	connect [2]time.Duration // of the last connection that was made
	goodput [2]float64       // bit/s by direction: down over IPv6, up over IPv4; 0 if the transfer failed
	waited  string           // the end of a transfer over a connection that had waited; "" if none was asked for
}

// triedPorts are the server's ports that an experience tries.
var triedPorts = []uint16{trafficPort, refusedPort, forbiddenPort, translatedPort}

const (
	openPort = "open"
	// attemptLimit is the longest time for an attempt to connect, and for its reply.
	attemptLimit = 4 * time.Second
	// firstConnects is the number of connections before the one whose time is kept: boxes
	// may learn from them.
	firstConnects = 3
	// experienceTime is the duration of a transfer, and experienceWarmup the part that is
	// not measured.
	experienceTime   = 2 * time.Second
	experienceWarmup = 800 * time.Millisecond
	waitedBytes      = 1 << 20
)

// experience measures the network. A connection waits for idle before it carries
// something, unless that is 0.
func (n network) experience(ctx context.Context, idle time.Duration) (e experience, err error) {
	for i, f := range families {
		for range firstConnects {
			n.reach(ctx, netip.AddrPortFrom(f.server, trafficPort))
		}
		for _, port := range triedPorts {
			how, r := n.reach(ctx, netip.AddrPortFrom(f.server, port))
			e.reached[i] = append(e.reached[i], how)
			if port == trafficPort {
				e.seen[i], e.connect[i] = r.PeerSeen.Addr().Unmap(), r.Connect
			}
		}
	}
	for i, f := range families {
		d := netlab.Direction(i)
		limited, cancel := context.WithTimeout(ctx, 3*experienceTime)
		r, err := netlab.Request{Direction: d, Duration: experienceTime, Warmup: experienceWarmup}.Run(limited, n.dialer(netip.AddrPortFrom(f.server, trafficPort)))
		cancel()
		if err == nil {
			e.goodput[d] = r.Goodput
		}
	}
	if idle > 0 {
		e.waited = n.wait(ctx, idle)
	}
	return e, context.Cause(ctx)
}

// reach connects to an address, has the server name the client's address, and returns
// the outcome in a word or two.
func (n network) reach(ctx context.Context, to netip.AddrPort) (string, netlab.Result) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	r, err := netlab.Transfer(ctx, n.dialer(to), netlab.Down, 0)
	var errno syscall.Errno
	switch {
	case err == nil:
		return openPort, r
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused", r
	case errors.As(err, &errno):
		return errno.Error(), r
	}
	return "no answer", r
}

// wait makes a connection, leaves it idle, and then has the server send over it.
func (n network) wait(ctx context.Context, idle time.Duration) string {
	c, err := n.dialer(netip.AddrPortFrom(netlab.Server4, trafficPort))(ctx)
	if err != nil {
		return err.Error()
	}
	if err := sleep(ctx, idle); err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	_, err = netlab.Transfer(ctx, func(context.Context) (net.Conn, error) { return c, nil }, netlab.Down, waitedBytes)
	if err != nil {
		return "stands still"
	}
	return "goes on"
}

// String returns the ports by outcome, and the goodput.
func (e experience) String() string {
	var words []string
	for i, f := range families {
		if i > 0 && slices.Equal(e.reached[i], e.reached[0]) {
			continue
		}
		name := f.name + " "
		if slices.Equal(e.reached[0], e.reached[1]) {
			name = ""
		}
		words = append(words, name+byOutcome(e.reached[i]))
	}
	words = append(words, fmt.Sprintf("%.1f down, %.1f up", e.goodput[netlab.Down]/mbit, e.goodput[netlab.Up]/mbit))
	if e.waited != "" {
		words = append(words, "after a pause it "+e.waited)
	}
	return strings.Join(words, "; ")
}

// byOutcome lists ports by their outcome.
func byOutcome(reached []string) string {
	var words []string
	for i, how := range reached {
		if slices.Index(reached, how) < i {
			continue
		}
		words = append(words, how)
		for j := range reached {
			if reached[j] == how {
				words = append(words, fmt.Sprint(triedPorts[j]))
			}
		}
	}
	return strings.Join(words, " ")
}

// Bounds within which an experience with boxes is as one without.
const (
	leastGoodput  = 0.9
	betterGoodput = 1.15
	mostConnect   = 1.5
	connectNoise  = 100 * time.Millisecond
)

// compare returns the ways in which an experience with boxes lets through more than the
// one without, and those in which it is worse, and reports whether it is better otherwise.
func (e experience) compare(with experience) (opened, worse []string, better bool) {
	for i, f := range families {
		for j, port := range triedPorts {
			then, now := e.reached[i][j], with.reached[i][j]
			text := fmt.Sprintf("%s port %d: %s, without boxes %s", f.name, port, now, then)
			switch {
			case now == then:
			case now == openPort:
				opened = append(opened, text)
			default:
				worse = append(worse, text)
			}
		}
		if e.seen[i] != with.seen[i] {
			worse = append(worse, fmt.Sprintf("%s: the server sees %s, without boxes %s", f.name, with.seen[i], e.seen[i]))
		}
		if limit := time.Duration(mostConnect*float64(e.connect[i])) + connectNoise; with.connect[i] > limit && e.connect[i] > 0 {
			worse = append(worse, fmt.Sprintf("%s: connecting takes %s, without boxes %s", f.name, ms(with.connect[i]), ms(e.connect[i])))
		}
	}
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		switch now, then := with.goodput[d], e.goodput[d]; {
		case now < leastGoodput*then:
			worse = append(worse, fmt.Sprintf("%s, without boxes %s %s", mbits(now), mbits(then), d))
		case now > betterGoodput*then:
			better = true
		}
	}
	if with.waited != e.waited {
		worse = append(worse, fmt.Sprintf("a connection that has waited %s, without boxes it %s", with.waited, e.waited))
	}
	return opened, worse, better
}

// judge adds a neighbour's row to the report, and its check: with boxes all is as
// without, or better, or the boxes have said why not.
func (x *run) judge(who neighbour, without, with experience, said []string) {
	if x.usual == nil { // nobody
		x.usual = append([]string{}, said...)
	}
	said = slices.DeleteFunc(said, func(s string) bool { return slices.Contains(x.usual, s) })
	opened, worse, better := without.compare(with)
	verdict, ok := "as without", true
	switch {
	case len(opened) > 0:
		verdict, ok = "LETS THROUGH", false
	case len(worse) > 0 && len(said) > 0:
		verdict = "said so"
	case len(worse) > 0:
		verdict, ok = "SILENTLY WORSE", false
	case better:
		verdict = "better"
	}
	x.row(who.name, without.String(), with.String(), verdict)
	if len(said) > 0 {
		x.note(who.name + ": " + strings.Join(said, "; "))
	}
	x.r.check(who.name+": as without boxes, better, or said so", ok, strings.Join(append(opened, worse...), "; "))
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		if without.goodput[d] > 0 {
			x.r.figure(who.name+" goodput "+d.String()+" ratio", with.goodput[d]/without.goodput[d])
		}
	}
}

// neighboursTable returns the part of the report with a row for each neighbour.
func (r *Report) neighboursTable() *VariantReport {
	if len(r.Variants) == 0 {
		head := []string{"beside", "without boxes (ports; Mbit/s)", "with boxes", "verdict"}
		r.Variants = []*VariantReport{{Title: "what a client sees", Notes: []string{}, table: [][]string{head}}}
	}
	return r.Variants[0]
}

// row adds a row to the table of neighbours, and note adds a line below it.
func (x *run) row(columns ...string) {
	t := x.r.neighboursTable()
	t.table = append(t.table, columns)
}

func (x *run) note(text string) {
	t := x.r.neighboursTable()
	t.Notes = append(t.Notes, text)
}
