package paths

import (
	"fmt"
	"net/netip"
	"time"
)

// Status is how a path is, as its box sees it.
type Status struct {
	Up bool
	// Reason is why the path is down. For one that is up it is empty, or says why
	// only its link is known to be well.
	Reason string
	Since  time.Time // of Up being what it is

	Interface                int    // its index, 0 while there is none
	BytesSent, BytesReceived uint64 // by the interface, since it was made

	Carrier      bool       // the interface is up and has a carrier
	Addr4, Addr6 netip.Addr // from which subflows can be opened; the zero Addr without one

	// Probed tells that the HAG has answered over this path since the box started:
	// from then on the path is down when answers stay away.
	Probed       bool
	RTT, RTTVar  time.Duration // of probes, smoothed (RFC 6298)
	MinRTT       time.Duration
	Loss         float64 // share of the last 64 probes that had no answer
	Sent, Missed uint64  // probes
}

// alike tells whether two statuses differ in figures only.
func (s Status) alike(o Status) bool {
	return s.Up == o.Up && s.Reason == o.Reason && s.Carrier == o.Carrier && s.Probed == o.Probed &&
		s.Interface == o.Interface && s.Addr4 == o.Addr4 && s.Addr6 == o.Addr6
}

// HAGState is what a CPE knows of the box at the other end.
type HAGState uint8

const (
	HAGUnknown HAGState = iota // no path has heard of it, or none can be used
	HAGUp                      // it answers over a path at least
	HAGDown                    // it answers over none, although there are paths whose links are well
)

func (s HAGState) String() string {
	switch s {
	case HAGUp:
		return "up"
	case HAGDown:
		return "down"
	}
	return "unknown"
}

// MarshalText makes the state a word in JSON.
func (s HAGState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// HAGStatus is how the HAG is, as a CPE sees it.
type HAGStatus struct {
	State    HAGState
	Reason   string // of a state other than up
	Since    time.Time
	Instance uint64 // another after each restart of the HAG; 0 if it never answered
}

// ProbeConfig says how paths are probed. Zero values mean the defaults.
type ProbeConfig struct {
	Every   time.Duration // between probes of a path that carries bytes; 50 ms
	Idle    time.Duration // and of one that carries none; 5 s, 10 s at most
	Silence time.Duration // without an answer after which a path is down, beyond its usual variation; 200 ms
	Hold    time.Duration // for which a path must be well before it is up again, doubled with each flap; 1 s
	Secret  string        // shared with the HAG; empty: probes are guarded against accidents only
	Off     bool          // do not probe: a path is as its link is
}

// Defaults of a [ProbeConfig], and the longest idle time: a HAG takes an address
// that it has not heard of for addressKept as free for another box.
const (
	defaultEvery   = 50 * time.Millisecond
	defaultIdle    = 5 * time.Second
	defaultSilence = 200 * time.Millisecond
	defaultHold    = time.Second
	maxIdle        = 10 * time.Second
)

// withDefaults fills in what is zero, and checks the rest.
func (c ProbeConfig) withDefaults() (ProbeConfig, error) {
	for _, d := range []struct {
		name      string
		value     *time.Duration
		otherwise time.Duration
		low, high time.Duration
	}{
		{"every", &c.Every, defaultEvery, 10 * time.Millisecond, time.Second},
		{"idle", &c.Idle, defaultIdle, 100 * time.Millisecond, maxIdle},
		{"silence", &c.Silence, defaultSilence, 20 * time.Millisecond, time.Minute},
		{"hold", &c.Hold, defaultHold, time.Millisecond, maxHold},
	} {
		if *d.value == 0 {
			*d.value = d.otherwise
		}
		if *d.value < d.low || *d.value > d.high {
			return c, fmt.Errorf("probe %s: %v is not between %v and %v", d.name, *d.value, d.low, d.high)
		}
	}
	return c, nil
}
