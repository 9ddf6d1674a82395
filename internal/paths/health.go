package paths

import (
	"math/bits"
	"slices"
	"time"
)

// What probing goes by, beside its [ProbeConfig].
const (
	// silenceProbes must be out before a path is called silent.
	silenceProbes = 3
	// mostSilence is how long packets that still arrive make up for answers that do not.
	mostSilence = 2 * time.Second
	// lullProbe is between probes of a path by which few packets are sent.
	lullProbe = 250 * time.Millisecond
	// missingProbe is between probes of a path on which answers stay away or are
	// refused, at most; a path that never answered is idle.
	missingProbe = time.Second
	// late is by how much an answer may come later than usual, beside its variation,
	// before another probe is sent to see.
	late = 20 * time.Millisecond
	// warmUp is how many round trips are measured at once at first.
	warmUp = 8
	// reordered is how many later probes may be answered before one counts as missed.
	reordered = 3
	// probesMost are remembered as being out.
	probesMost = 64
	// calm is how long a path must have been up for its earlier falls to be forgotten.
	calm    = time.Minute
	maxHold = time.Minute
)

// Reasons for which a path is down.
const (
	reasonInterface = "no interface"
	reasonDisabled  = "interface is down"
	reasonCarrier   = "no carrier"
	reasonAddress   = "no address"
	reasonRenumber  = "address has gone"
	reasonRoute     = "no route to the join address"
	reasonSilent    = "silent"
)

// reasonRefused is why a path may be up and yet of no use.
const reasonRefused = "no box takes probes at the join address"

// outcome is what came back of a path's probes last.
type outcome uint8

const (
	nothing outcome = iota
	answered
	refused // port unreachable: the machine is there, but no box
	denied  // the box is there, and does not take these probes
)

// flight is a probe that is out.
type flight struct {
	sequence uint64
	at       time.Time
}

// health is the state machine of one path: it is told of its link, of probes and
// of packets, says when to probe, and whether the path is up. It knows no socket
// and no clock, and is for one goroutine.
//
// A path whose link is well is up until probes have shown that the HAG answers
// over it; from then on answers must keep coming. One that was down is held back
// for a while, longer each time it falls again soon.
type health struct {
	cfg ProbeConfig

	up     bool
	reason string // of what was wrong last
	since  time.Time
	hold   time.Duration
	well   time.Time // since when nothing is wrong; zero while something is
	fault  string    // of the link
	silent bool

	heard   bool // it has answered in this run
	outcome outcome
	denial  string
	urgent  bool // there is something to tell the HAG

	activity     activity
	out          []flight // oldest first
	lastSent     time.Time
	lastAnswer   time.Time
	srtt, rttvar time.Duration
	minRTT       time.Duration
	sent, missed uint64
	samples      uint64
	history      uint64 // of the last 64 probes: a bit for each that was missed
}

func newHealth(cfg ProbeConfig, now time.Time) *health {
	return &health{cfg: cfg, since: now, fault: reasonInterface, reason: reasonInterface}
}

// link tells how the path's link is: what is wrong with it, or nothing.
func (h *health) link(fault string) {
	if fault == h.fault {
		return
	}
	h.fault = fault
	h.out, h.lastSent = h.out[:0], time.Time{}
	h.silent = h.heard // until it answers again
}

// probed tells that a probe was sent. One that could not be is not counted among
// the interface's packets.
func (h *health) probed(now time.Time, sequence uint64, ok bool) {
	if len(h.out) == probesMost {
		h.miss(1)
	}
	h.out = append(h.out, flight{sequence, now})
	h.lastSent, h.activity.mark = now, h.activity.sent
	h.sent++
	if ok {
		h.activity.probes++
	}
}

// find returns which probe that is out has the number, or -1.
func (h *health) find(sequence uint64) int {
	return slices.IndexFunc(h.out, func(f flight) bool { return f.sequence == sequence })
}

// expects tells whether a probe of that number is out.
func (h *health) expects(sequence uint64) bool { return h.find(sequence) >= 0 }

// answer takes the answer to a probe that is out.
func (h *health) answer(now time.Time, sequence uint64) {
	i := h.find(sequence)
	h.measure(now.Sub(h.out[i].at))
	h.out = slices.Delete(h.out, i, i+1)
	h.history <<= 1
	n := 0
	for n < len(h.out) && h.out[n].sequence+reordered < sequence {
		n++
	}
	h.miss(n)
	h.heard, h.silent, h.outcome = true, false, answered
	h.lastAnswer = now
}

// miss gives up the oldest n probes.
func (h *health) miss(n int) {
	h.out = slices.Delete(h.out, 0, n)
	h.missed += uint64(n)
	h.history = h.history<<n | (1<<n - 1)
}

// refuse tells that a probe came back as undeliverable, or was denied for a
// reason: either way the line is alive.
func (h *health) refuse(now time.Time, denial string) {
	h.out = h.out[:0]
	h.outcome, h.denial = refused, denial
	if denial != "" {
		h.outcome = denied
	}
	h.silent = false
	h.lastAnswer = now
}

// measure takes a round trip time (RFC 6298, section 2).
func (h *health) measure(rtt time.Duration) {
	if h.samples++; h.samples == 1 {
		h.srtt, h.rttvar, h.minRTT = rtt, rtt/2, rtt
		return
	}
	h.rttvar += ((h.srtt - rtt).Abs() - h.rttvar) / 4
	h.srtt += (rtt - h.srtt) / 8
	h.minRTT = min(h.minRTT, rtt)
}

// traffic takes the counters of the interface.
func (h *health) traffic(now time.Time, c counters) { h.activity.observe(now, c, h.cfg.Silence) }

// check draws the conclusions of what was told. sole says that no other path is
// up: then this one is not held back.
func (h *health) check(now time.Time, sole bool) {
	if at, armed := h.silentAt(); armed && !now.Before(at) {
		h.silent = true
	}
	problem := h.fault
	if problem == "" && h.silent {
		problem = reasonSilent
	}
	switch {
	case problem != "":
		h.reason, h.well = problem, time.Time{}
		if h.up {
			h.fall(now)
		}
	case h.up:
	case h.well.IsZero():
		h.well = now
		fallthrough
	default:
		if sole || now.Sub(h.well) >= h.hold {
			h.up, h.since = true, now
		}
	}
}

func (h *health) fall(now time.Time) {
	h.hold = max(2*h.hold, h.cfg.Hold)
	if now.Sub(h.since) >= calm {
		h.hold = h.cfg.Hold
	}
	h.hold = min(h.hold, maxHold)
	h.up, h.since = false, now
}

// silentAt returns when the path will count as silent if nothing comes.
func (h *health) silentAt() (at time.Time, armed bool) {
	if !h.heard || h.silent || h.fault != "" || len(h.out) < silenceProbes {
		return time.Time{}, false
	}
	expected := h.out[0].at.Add(h.srtt)
	awaited := later(h.lastAnswer, expected)
	at = awaited.Add(h.cfg.Silence + 4*h.rttvar)
	if h.activity.lively.After(h.out[0].at.Add(-h.cfg.Silence)) {
		// Packets came by the line. If they have ceased, answers do not wait behind them.
		quiet := later(h.lastAnswer, h.activity.lively).Add(h.cfg.Silence)
		at = earlier(later(quiet, expected), later(at, awaited.Add(mostSilence)))
	}
	return at, true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// interval is how long after the last probe the next one is due.
func (h *health) interval(now time.Time) time.Duration {
	c := h.cfg
	switch {
	case h.outcome == refused:
		return missingProbe
	case h.outcome == denied:
		return c.Idle
	case !h.heard:
		return min(c.Every<<min(len(h.out), 16), c.Idle)
	case h.silent:
		return min(c.Every<<min(len(h.out), 16), missingProbe)
	case now.Before(h.activity.busyUntil), h.urgent, h.samples < warmUp, len(h.out) > 0 && !now.Before(h.overdueAt()):
		return c.Every
	case !h.up:
		return max(c.Every, min(h.hold/4, lullProbe))
	case !h.activity.idle():
		return max(c.Every, lullProbe)
	}
	return c.Idle
}

// overdueAt is when the oldest probe should have been answered.
func (h *health) overdueAt() time.Time { return h.out[0].at.Add(h.srtt + 4*h.rttvar + late) }

// due tells whether a probe is to be sent now.
func (h *health) due(now time.Time) bool {
	return !h.cfg.Off && h.fault == "" && now.Sub(h.lastSent) >= h.interval(now)
}

// next returns when to check again if nothing is told before.
func (h *health) next(now time.Time) time.Time {
	at := now.Add(h.cfg.Idle)
	soonest := func(t time.Time) {
		if t.After(now) && t.Before(at) {
			at = t
		}
	}
	if h.fault != "" {
		return at
	}
	soonest(h.lastSent.Add(h.interval(now)))
	if len(h.out) > 0 {
		soonest(h.overdueAt())
	}
	if t, armed := h.silentAt(); armed {
		soonest(t)
	}
	if !h.up && !h.well.IsZero() {
		soonest(h.well.Add(h.hold))
	}
	return at
}

// note says what is to be known of a path, be it up or down.
func (h *health) note() string {
	switch {
	case !h.up && !h.well.IsZero():
		return "held back for " + h.hold.String() + ", was: " + h.reason
	case !h.up:
		return h.reason
	case h.outcome == refused:
		return reasonRefused
	case h.outcome == denied:
		return h.denial
	}
	return ""
}

// status tells how the path is, but for its link.
func (h *health) status() Status {
	n := max(min(h.samples+h.missed, 64), 1)
	return Status{
		Up: h.up, Reason: h.note(), Since: h.since, Probed: h.heard,
		RTT: h.srtt, RTTVar: h.rttvar, MinRTT: h.minRTT,
		Loss: float64(bits.OnesCount64(h.history)) / float64(n),
		Sent: h.sent, Missed: h.missed,
	}
}
