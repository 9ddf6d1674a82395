package paths

import "time"

const (
	// livelyPackets is the number of packets that, received within the time of
	// silence, prove that a path works: a full path delays replies to probes.
	livelyPackets = 3
	// busyPackets sent between two probes make a path busy for busyLinger: it is
	// probed at the full rate, because a path that goes silent carries no
	// acknowledgements, and so no further packets either.
	busyPackets = 4
	busyLinger  = 500 * time.Millisecond
	// usedPackets sent between two probes mean that connections use the path, and not
	// only keep it alive.
	usedPackets = 3
	// useLinger is the time for which a path counts as used afterwards: a connection that
	// has stalled sends little.
	useLinger = 15 * time.Second
)

// activity counts the packets of a path's interface, without probes and replies.
type activity struct {
	probes, replies int64 // sent and received by the interface

	sent      int64
	mark      int64 // sent, at the time of the last probe
	busyUntil time.Time
	used      time.Time // last time at which it had sent usedPackets

	received int64 // at the time since
	since    time.Time
	lively   time.Time // last time at which livelyPackets came together
}

// observe takes the counters of the interface. They start from zero if the
// interface was created again.
func (a *activity) observe(now time.Time, c LinkCounters, window time.Duration) {
	a.sent = int64(c.SentPackets) - a.probes
	a.mark = min(a.mark, a.sent)
	if a.sent-a.mark >= busyPackets {
		a.busyUntil = now.Add(busyLinger)
	}
	if a.sent-a.mark >= usedPackets {
		a.used = now
	}
	received := int64(c.ReceivedPackets) - a.replies
	more := received - a.received
	if more >= livelyPackets {
		a.lively = now
	}
	if more >= livelyPackets || more < 0 || now.Sub(a.since) > window {
		a.received, a.since = received, now
	}
}

// idle reports whether nothing was sent since the last probe.
func (a *activity) idle() bool { return a.sent == a.mark }
