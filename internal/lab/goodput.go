//go:build linux

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

// payloadRate returns the payload capacity of lines in Mbit/s.
func payloadRate(lines []netlab.LineConfig) float64 {
	var sum int64
	for _, l := range lines {
		sum += l.Rate
	}
	return float64(sum) / mbit * payloadLen / frameLen
}

// minShare is the least share of the payload capacity that a transfer must get.
const minShare = 0.97

// A long transfer is measured while the sender sends, without the start-up in which
// it has not reached the lines' rate.
const (
	longTransfer = 20 * time.Second
	startUp      = 5 * time.Second
)

// goodputVariants returns two variants with a long transfer, down and up.
func goodputVariants(title string, lines []netlab.LineConfig, multipath string) []variant {
	const name = "the transfer"
	var variants []variant
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		variants = append(variants, variant{
			title: title + ", " + d.String(), lines: lines, multipath: multipath,
			steps: []step{
				await("both lines are used", allUsed),
				noteTransport,
				record(d),
				beginTransfer(name, trafficPort, netlab.Request{Direction: d, Duration: longTransfer}),
				finishTransfer(name),
				stopRecording,
				checkGoodput(lines, moment{name + " begins", startUp}, moment{name + " begins", longTransfer}),
			},
		})
	}
	return variants
}

// withLoss returns a copy of lines in which one loses a share of its packets each way.
func withLoss(lines []netlab.LineConfig, name string, share float64) []netlab.LineConfig {
	lines = slices.Clone(lines)
	lines[slices.IndexFunc(lines, func(l netlab.LineConfig) bool { return l.Name == name })].Loss = share
	return lines
}

// checkGoodput checks that the goodput between two moments is at least minShare of
// the lines' payload capacity.
func checkGoodput(lines []netlab.LineConfig, from, until moment) step {
	return func(_ context.Context, s *session) error {
		t := &s.report.Timeline
		got, can := t.mean(t.Received, from.since(s), until.since(s)), payloadRate(lines)
		s.r.figure(s.report.Title+" Mbit/s", got)
		s.r.figure(s.report.Title+" ratio", got/can)
		s.note("%.1f Mbit/s arrive, %.3f of the %.1f that the lines can carry", got, got/can, can)
		s.check(fmt.Sprintf("the transfer gets %.2f of what the lines can carry", minShare), got >= minShare*can, "%.3f", got/can)
		return nil
	}
}
