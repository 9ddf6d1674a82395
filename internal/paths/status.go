package paths

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Status is the status of a path as its box sees it.
type Status struct {
	Up bool
	// Reason explains why the path is down. For a path that is up it is empty, or
	// explains why only its link is known to work.
	Reason string
	// Reason6 and Reason4 explain why subflows cannot use an address family that has a join
	// address; they are empty where subflows can.
	Reason6, Reason4 string
	Since            time.Time // of the last change of Up

	Interface                int    // its index, 0 without an interface
	BytesSent, BytesReceived uint64 // by the interface, since it was made

	// Limit4 and Limit6 are the sizes in bytes of the largest packets that the path
	// carries, 0 where full size passes or nothing is known.
	Limit4, Limit6 int

	Offer Offer // of the HAG, for encapsulated subflows

	Carrier      bool       // the interface is up and has a carrier
	Addr4, Addr6 netip.Addr // from which subflows can be opened; the zero Addr without one
	Seen4, Seen6 netip.Addr // from which the HAG sees them come; the zero Addr if it is not known

	// Probed is set once the HAG has answered over this path since the box started.
	// From then on the path is down when replies are missing.
	Probed bool
	// ByTCP is set while probes are not answered, but TCP at the join port is.
	ByTCP        bool
	RTT, RTTVar  time.Duration // of probes, smoothed (RFC 6298)
	MinRTT       time.Duration
	Loss         float64 // share of the last 64 probes that had no reply
	Sent, Missed uint64  // probes
	// Waiting is the time since which probes have been sent without any answer, zero if
	// the last one was answered, or none can be sent.
	Waiting time.Time
	// Refused6 and Refused4 are the times since which probes of an address family are answered
	// by ICMP port unreachable, zero if the last one was not.
	Refused6, Refused4 time.Time
}

// FamilyReason returns the reasons of both address families in one line, "" where both can
// be used.
func (s Status) FamilyReason() string {
	var all []string
	for _, r := range []struct{ family, reason string }{{"IPv6", s.Reason6}, {"IPv4", s.Reason4}} {
		if r.reason != "" {
			all = append(all, r.family+": "+r.reason)
		}
	}
	return strings.Join(all, "; ")
}

// Obstructed reports whether subflows cannot use an address family of which there is an address.
func (s Status) Obstructed() bool {
	return s.Reason6 != "" && s.Reason6 != reasonAddress || s.Reason4 != "" && s.Reason4 != reasonAddress
}

// Alike reports whether two statuses differ in figures only.
func (s Status) Alike(o Status) bool {
	return s.Up == o.Up && s.Reason == o.Reason && s.Reason6 == o.Reason6 && s.Reason4 == o.Reason4 && s.Carrier == o.Carrier && s.Probed == o.Probed &&
		s.Interface == o.Interface && s.Addr4 == o.Addr4 && s.Addr6 == o.Addr6 && s.Seen4 == o.Seen4 && s.Seen6 == o.Seen6 &&
		s.Limit4 == o.Limit4 && s.Limit6 == o.Limit6 && s.Offer == o.Offer
}

// Translation returns which addresses of the path a NAT translates, as far as it is known.
func (s Status) Translation() Translation {
	behind := func(own, seen netip.Addr) bool { return own.IsValid() && seen.IsValid() && own != seen }
	return Translation{V6: behind(s.Addr6, s.Seen6), V4: behind(s.Addr4, s.Seen4)}
}

// ProbeConfig is the configuration of probing. Zero values mean the defaults.
type ProbeConfig struct {
	Every   time.Duration // between probes of a path that carries bytes; 50 ms
	Idle    time.Duration // between probes of a path that carries none; 5 s, at most 10 s
	Silence time.Duration // without a reply, beyond its usual variation, until a path is down; 200 ms
	Hold    time.Duration // for which a path must work before it is up again, doubled with each failure; 1 s
	Secret  string        // shared with the HAG; empty: probes are guarded against accidents only
	Off     bool          // do not probe: the state of the link decides alone
	// ByTCP: nobody answers probes at the join addresses, which are those of servers, but TCP. It
	// is tried in the place of a probe.
	ByTCP bool
}

// Defaults of a [ProbeConfig], and the longest idle time. A HAG that does not hear
// from an address for longer takes it as free for another box.
const (
	defaultEvery   = 50 * time.Millisecond
	defaultIdle    = 5 * time.Second
	defaultSilence = 200 * time.Millisecond
	defaultHold    = time.Second
	MaxProbeIdle   = 10 * time.Second
)

// WithDefaults fills in zero values, and returns an error if a value makes no sense.
func (c ProbeConfig) WithDefaults() (ProbeConfig, error) {
	for _, d := range []struct {
		name      string
		value     *time.Duration
		otherwise time.Duration
		low, high time.Duration
	}{
		{"every", &c.Every, defaultEvery, 10 * time.Millisecond, time.Second},
		{"idle", &c.Idle, defaultIdle, 100 * time.Millisecond, MaxProbeIdle},
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
