package paths

import "time"

const (
	// livelyPackets that arrive within the time that silence takes prove that a
	// line is alive: one that is full delays answers.
	livelyPackets = 3
	// A path is probed all the time while this many packets are sent between two
	// probes, and for some time after, since an acknowledgement is sent for what
	// arrives only: a line that goes silent takes them away. Fewer packets are
	// worth a probe now and then.
	busyPackets = 4
	busyLinger  = 500 * time.Millisecond
)

// activity is what a path's interface carries beside probes, in packets.
type activity struct {
	probes, echoes int64 // of all that the interface has sent and received

	sent      int64
	mark      int64 // sent, when the last probe was
	busyUntil time.Time

	received int64 // at some time, not long ago
	since    time.Time
	lively   time.Time // when packets came one after the other last
}

// observe takes the counters of the interface. An interface that was made anew
// counts from zero.
func (a *activity) observe(now time.Time, c counters, window time.Duration) {
	a.sent = int64(c.sentPackets) - a.probes
	a.mark = min(a.mark, a.sent)
	if a.sent-a.mark >= busyPackets {
		a.busyUntil = now.Add(busyLinger)
	}
	received := int64(c.receivedPackets) - a.echoes
	more := received - a.received
	if more >= livelyPackets {
		a.lively = now
	}
	if more >= livelyPackets || more < 0 || now.Sub(a.since) > window {
		a.received, a.since = received, now
	}
}

// idle tells whether nothing was sent since the last probe.
func (a *activity) idle() bool { return a.sent == a.mark }
