package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// Sizes on a line in bytes. Its rate counts whole frames: Ethernet header and an
// MTU of 1500. Of these IPv6 takes 40, TCP 20, its timestamps 12 (RFC 7323,
// appendix A), and MPTCP's DSS option 28: data ACK and data sequence number of 8,
// no checksum (RFC 8684, section 3.3).
const (
	frameLen   = 14 + 1500
	payloadLen = 1500 - 40 - 20 - 12 - 28
)

// payloadRate is what lines can carry of a connection's bytes, in Mbit/s.
func payloadRate(lines []netlab.LineConfig) float64 {
	var sum int64
	for _, l := range lines {
		sum += l.Rate
	}
	return float64(sum) / mbit * payloadLen / frameLen
}

// fullShare is how much of that a transfer must get.
const fullShare = 0.97

// A long transfer is judged by what arrives while it is sent, after it has become
// as fast as its lines.
const (
	longTransfer = 20 * time.Second
	startUp      = 5 * time.Second
)

// goodput are two parts with a long transfer, down and up.
func goodput(title string, lines []netlab.LineConfig, multipath string) []part {
	const name = "the transfer"
	var parts []part
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		parts = append(parts, part{
			title: title + ", " + d.String(), lines: lines, multipath: multipath,
			steps: []step{
				see("both lines are used", allUsed),
				noteTransport,
				roll(d),
				begin(name, trafficPort, netlab.Request{Direction: d, Duration: longTransfer}),
				finish(name),
				cut,
				fills(lines, moment{name + " begins", startUp}, moment{name + " begins", longTransfer}),
			},
		})
	}
	return parts
}

// losing are these lines with one of them losing a share of its packets each way.
func losing(lines []netlab.LineConfig, name string, share float64) []netlab.LineConfig {
	lines = slices.Clone(lines)
	lines[slices.IndexFunc(lines, func(l netlab.LineConfig) bool { return l.Name == name })].Loss = share
	return lines
}

// fills checks that what arrived between two moments is all that the lines can carry.
func fills(lines []netlab.LineConfig, from, until moment) step {
	return func(_ context.Context, s *scene) error {
		t := &s.shown.Timeline
		got, can := t.mean(t.Received, from.in(s), until.in(s)), payloadRate(lines)
		s.r.figure(s.shown.Title+" Mbit/s", got)
		s.r.figure(s.shown.Title+" ratio", got/can)
		s.note("%.1f Mbit/s arrive, %.3f of the %.1f that the lines can carry", got, got/can, can)
		s.check(fmt.Sprintf("the transfer gets %.2f of what the lines can carry", fullShare), got >= fullShare*can, "%.3f", got/can)
		return nil
	}
}
