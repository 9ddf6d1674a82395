package paths

import (
	"math/bits"
	"slices"
	"time"
)

// Constants of probing, beside the [ProbeConfig].
const (
	// SilenceProbes is the number of unanswered probes after which a path, or an
	// address of it, may count as silent.
	SilenceProbes = 3
	// maxSilence is the longest time for which received packets make up for missing
	// replies.
	maxSilence = 2 * time.Second
	// lullInterval is the time between probes of a path that sends few packets.
	lullInterval = 250 * time.Millisecond
	// retryInterval is the longest time between probes while replies are missing or
	// refused. A path that never replied is probed as an idle one.
	retryInterval = time.Second
	// lateness is the delay of a reply, beyond its usual variation, after which the
	// next probe is sent.
	lateness = 20 * time.Millisecond
	// initialSamples is the number of round trips that are measured without a pause.
	initialSamples = 8
	// reordering is the number of later probes that may be answered before a probe
	// counts as missed.
	reordering = 3
	// maxOutstanding is the number of probes without a reply that are remembered.
	maxOutstanding = 64
	// stableAfter is the time up after which a path's earlier failures are forgotten.
	stableAfter = time.Minute
	maxHold     = time.Minute
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
	// Reasons of one address family.
	reasonNoAnswer      = "no answer to probes"
	reasonPortIsRefused = "probes are refused"
)

// reasonRefused is the reason why a path that is up is of no use.
const reasonRefused = "no box takes probes at the join address"

// reasonByTCP explains how a path is watched whose probes are filtered.
const reasonByTCP = "probes are not answered, TCP is"

// outcome is the last response to a path's probes.
type outcome uint8

const (
	noResponse outcome = iota
	answered
	refused // port unreachable: the machine is there, but no box
	denied  // the box is there, and does not accept these probes
	byTCP   // the machine answers TCP, and no probes
)

// outstanding is a probe without a reply.
type outstanding struct {
	sequence uint64
	at       time.Time
}

// Health decides whether one path is up, and when to probe it. Its inputs are the
// state of the link, the probes sent, the responses, and the packet counters of the
// interface. It has no socket and no clock, and is for one goroutine.
//
// A path whose link works is up until the HAG has answered a probe over it, or its
// machine TCP. From then on answers must keep coming. A path that was down is held back before it is
// up again, longer each time that it soon fails again.
type Health struct {
	cfg ProbeConfig

	up     bool
	reason string // of the last failure
	since  time.Time
	hold   time.Duration
	ok     time.Time // since when nothing is wrong; zero while something is
	fault  string    // of the link
	silent bool

	heard   bool // the HAG has answered in this run
	works   bool // it has, or its machine has by TCP
	outcome outcome
	denial  string
	urgent  bool      // there is something to tell the HAG
	waiting time.Time // since when probes have been sent in vain; zero if the last was answered

	activity     activity
	probes       []outstanding // oldest first
	lastSent     time.Time
	lastReply    time.Time
	srtt, rttvar time.Duration
	minRTT       time.Duration
	sent, missed uint64
	samples      uint64
	history      uint64 // of the last 64 probes: a bit for each that was missed
}

// NewHealth returns the health of a path without an interface. The configuration
// must be complete: see [ProbeConfig.WithDefaults].
func NewHealth(cfg ProbeConfig, now time.Time) *Health {
	return &Health{cfg: cfg, since: now, fault: reasonInterface, reason: reasonInterface}
}

// SetLink takes the fault of the path's link (see [Link.Fault]), "" for none.
func (h *Health) SetLink(fault string) {
	if fault == h.fault {
		return
	}
	h.fault = fault
	h.probes, h.lastSent, h.waiting = h.probes[:0], time.Time{}, time.Time{}
	h.silent = h.works // until the HAG answers again
}

// Renumbered fails the path because its address or interface was replaced: subflows
// from the old address cannot go on.
func (h *Health) Renumbered(now time.Time) {
	h.SetLink(reasonRenumber)
	h.Check(now, false)
}

// SetUrgent makes the path be probed at the full rate while there is something to
// tell the HAG that has answered.
func (h *Health) SetUrgent(urgent bool) { h.urgent = h.heard && urgent }

// ProbeNow makes a probe due at once.
func (h *Health) ProbeNow() { h.lastSent = time.Time{} }

// Probed takes note of a probe. If it could not be sent, ok is false, and it does
// not count among the interface's packets.
func (h *Health) Probed(now time.Time, sequence uint64, ok bool) {
	if len(h.probes) == maxOutstanding {
		h.miss(1)
	}
	h.probes = append(h.probes, outstanding{sequence, now})
	h.lastSent, h.activity.mark = now, h.activity.sent
	if h.waiting.IsZero() {
		h.waiting = now
	}
	h.sent++
	if ok {
		h.activity.probes++
	}
}

// SentBeside counts a packet of the path's prober that is no probe for this health.
func (h *Health) SentBeside() { h.activity.probes++ }

// SizeInterval returns the time between two checks of the size of packets, 0 while the
// path is not used.
func (h *Health) SizeInterval(now time.Time) time.Duration {
	switch {
	case now.Sub(h.activity.busyUntil) < useLinger:
		return busySizeInterval
	case now.Sub(h.activity.used) < useLinger:
		return sizeInterval
	}
	return 0
}

// RTT returns the smoothed round trip time, 0 if it is not known.
func (h *Health) RTT() time.Duration { return h.srtt }

// Received counts a packet that came back to the path's prober, valid or not.
func (h *Health) Received() { h.activity.replies++ }

// find returns the index of an outstanding probe, or -1.
func (h *Health) find(sequence uint64) int {
	return slices.IndexFunc(h.probes, func(p outstanding) bool { return p.sequence == sequence })
}

// Expects reports whether a probe of that number is outstanding.
func (h *Health) Expects(sequence uint64) bool { return h.find(sequence) >= 0 }

// Replied takes the reply to an outstanding probe.
func (h *Health) Replied(now time.Time, sequence uint64) {
	i := h.find(sequence)
	h.measure(now.Sub(h.probes[i].at))
	h.probes = slices.Delete(h.probes, i, i+1)
	h.history <<= 1
	n := 0
	for n < len(h.probes) && h.probes[n].sequence+reordering < sequence {
		n++
	}
	h.miss(n)
	h.heard, h.works, h.silent, h.outcome = true, true, false, answered
	h.lastReply, h.waiting = now, time.Time{}
}

// miss gives up the oldest n probes.
func (h *Health) miss(n int) {
	h.probes = slices.Delete(h.probes, 0, n)
	h.missed += uint64(n)
	h.history = h.history<<n | (1<<n - 1)
}

// Refused takes a response that is no reply: the port is unreachable, or, with a
// reason, the HAG denies the probes. Either way the path works. It reports whether
// the last response was another one; then the other paths are worth a probe.
func (h *Health) Refused(now time.Time, denial string) (news bool) {
	before := h.outcome
	h.probes = h.probes[:0]
	h.outcome, h.denial = refused, denial
	if denial != "" {
		h.outcome = denied
	}
	h.silent = false
	h.lastReply, h.waiting = now, time.Time{}
	return h.outcome != before
}

// MeasuredByTCP takes the round trip time of an answer by TCP.
func (h *Health) MeasuredByTCP(rtt time.Duration) {
	h.measure(rtt)
	h.history, h.missed = 0, 0 // nothing that was sent is missing
}

// RefusedByFamily takes a response as [Health.Refused] does, over one address family while the
// other may be answered: the path works.
func (h *Health) RefusedByFamily(now time.Time) {
	h.probes = h.probes[:0]
	h.silent = false
	h.lastReply, h.waiting = now, time.Time{}
}

// AnsweredByTCP takes an answer of the machine at the join address by TCP, while probes are
// not answered: the path works.
func (h *Health) AnsweredByTCP(now time.Time) {
	switch h.outcome {
	case refused, denied: // these say more
	case byTCP:
	default:
		h.outcome = byTCP
		h.ProbeNow() // replies that come late do not count any more
	}
	h.works, h.silent, h.lastReply = true, false, now
	h.miss(len(h.probes))
}

// Patience returns the time in which a probe should be answered.
func (h *Health) Patience() time.Duration {
	if h.samples == 0 {
		return retryInterval
	}
	return h.srtt + 4*h.rttvar + lateness
}

// measure takes a round trip time (RFC 6298, section 2).
func (h *Health) measure(rtt time.Duration) {
	if h.samples++; h.samples == 1 {
		h.srtt, h.rttvar, h.minRTT = rtt, rtt/2, rtt
		return
	}
	h.rttvar += ((h.srtt - rtt).Abs() - h.rttvar) / 4
	h.srtt += (rtt - h.srtt) / 8
	h.minRTT = min(h.minRTT, rtt)
}

// Observe takes the counters of the interface.
func (h *Health) Observe(now time.Time, c LinkCounters) { h.activity.observe(now, c, h.cfg.Silence) }

// Up reports whether the path is up, as of the last [Health.Check].
func (h *Health) Up() bool { return h.up }

// Check decides whether the path is up. With sole set, no other path is up, and
// this one is not held back.
func (h *Health) Check(now time.Time, sole bool) {
	if at, armed := h.silentAt(); armed && !now.Before(at) {
		h.silent = true
	}
	problem := h.fault
	if problem == "" && h.silent {
		problem = reasonSilent
	}
	switch {
	case problem != "":
		h.reason, h.ok = problem, time.Time{}
		if h.up {
			h.fail(now)
		}
	case h.up:
	case h.ok.IsZero():
		h.ok = now
		fallthrough
	default:
		if sole || now.Sub(h.ok) >= h.hold {
			h.up, h.since = true, now
		}
	}
}

func (h *Health) fail(now time.Time) {
	h.hold = max(2*h.hold, h.cfg.Hold)
	if now.Sub(h.since) >= stableAfter {
		h.hold = h.cfg.Hold
	}
	h.hold = min(h.hold, maxHold)
	h.up, h.since = false, now
}

// silentAt returns the time at which the path counts as silent if nothing comes.
func (h *Health) silentAt() (at time.Time, armed bool) {
	if !h.works || h.silent || h.fault != "" || len(h.probes) < SilenceProbes {
		return time.Time{}, false
	}
	expected := h.probes[0].at.Add(h.srtt)
	awaited := later(h.lastReply, expected)
	at = awaited.Add(h.cfg.Silence + 4*h.rttvar)
	if h.activity.lively.After(h.probes[0].at.Add(-h.cfg.Silence)) {
		// Packets came over the path. Once they have ceased, no reply waits behind them.
		quiet := later(h.lastReply, h.activity.lively).Add(h.cfg.Silence)
		at = earlier(later(quiet, expected), later(at, awaited.Add(maxSilence)))
	}
	return at, true
}

// Overdue reports whether the answers to that many probes over one address family have been
// missing for too long, since the first of them was sent. Heard is set if the family has ever
// had an answer: the first ones may take long, at the start of a machine.
func (h *Health) Overdue(now, first time.Time, probes int, heard bool) bool {
	limit := h.cfg.Silence + h.srtt + 4*h.rttvar
	if !heard {
		limit += retryInterval
	}
	return probes >= SilenceProbes && now.Sub(first) >= limit
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

// interval returns the time between the last probe and the next.
func (h *Health) interval(now time.Time) time.Duration {
	c := h.cfg
	switch {
	case h.outcome == byTCP && len(h.probes) == 0 && h.activity.idle():
		return c.Idle
	case h.outcome == refused, h.outcome == byTCP: // TCP needs some time to answer
		return retryInterval
	case h.outcome == denied:
		return c.Idle
	case !h.works:
		return min(c.Every<<min(len(h.probes), 16), c.Idle)
	case h.silent:
		return min(c.Every<<min(len(h.probes), 16), retryInterval)
	case now.Before(h.activity.busyUntil), h.urgent, h.samples < initialSamples, len(h.probes) > 0 && !now.Before(h.overdueAt()):
		return c.Every
	case !h.up:
		return max(c.Every, min(h.hold/4, lullInterval))
	case !h.activity.idle():
		return max(c.Every, lullInterval)
	}
	return c.Idle
}

// overdueAt returns the time by which the oldest probe should have been answered.
func (h *Health) overdueAt() time.Time { return h.probes[0].at.Add(h.Patience()) }

// Due reports whether a probe is to be sent now.
func (h *Health) Due(now time.Time) bool {
	return !h.cfg.Off && h.fault == "" && now.Sub(h.lastSent) >= h.interval(now)
}

// Next returns when to call [Health.Check] and [Health.Due] again, unless there is
// an input before.
func (h *Health) Next(now time.Time) time.Time {
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
	if len(h.probes) > 0 {
		soonest(h.overdueAt())
	}
	if t, armed := h.silentAt(); armed {
		soonest(t)
	}
	if !h.up && !h.ok.IsZero() {
		soonest(h.ok.Add(h.hold))
	}
	return at
}

// note returns the reason to show for a path, be it up or down.
func (h *Health) note() string {
	switch {
	case !h.up && !h.ok.IsZero():
		return "held back for " + h.hold.String() + ", was: " + h.reason
	case !h.up:
		return h.reason
	case h.outcome == refused:
		return reasonRefused
	case h.outcome == denied:
		return h.denial
	case h.outcome == byTCP && !h.cfg.ByTCP:
		return reasonByTCP
	}
	return ""
}

// Status returns the path's status without the figures of its link.
func (h *Health) Status() Status {
	n := max(min(h.samples+h.missed, 64), 1)
	return Status{
		Up: h.up, Reason: h.note(), Since: h.since, Probed: h.heard || h.cfg.ByTCP && h.works, ByTCP: h.outcome == byTCP && !h.cfg.ByTCP,
		RTT: h.srtt, RTTVar: h.rttvar, MinRTT: h.minRTT,
		Loss: float64(bits.OnesCount64(h.history)) / float64(n),
		Sent: h.sent, Missed: h.missed, Waiting: h.waiting,
	}
}
