package users

import (
	"net/netip"
	"time"
)

// failures limits wrong passwords per prefix of their source: a burst, and then one for each
// while.
type failures struct {
	burst int
	every time.Duration
	// clear is the time at which the failures of a prefix are worked off, at one for each
	// while.
	clear *recent[netip.Prefix, time.Duration]
}

// maxPrefixes is the number of prefixes whose failures are known.
const maxPrefixes = 1 << 16

func newFailures(burst int, every time.Duration) *failures {
	return &failures{burst, every, newRecent[netip.Prefix, time.Duration](maxPrefixes)}
}

// limited reports whether a prefix has used up its failures.
func (f *failures) limited(now time.Duration, from netip.Prefix) bool {
	at := f.clear.get(from)
	return at != nil && *at-now > time.Duration(f.burst-1)*f.every
}

// add counts failures.
func (f *failures) add(now time.Duration, from netip.Prefix, n int) {
	at := now
	if known := f.clear.get(from); known != nil {
		at = max(at, *known)
	}
	// No more than the burst, as what is over came while it was not known.
	at = min(at+time.Duration(n)*f.every, now+time.Duration(f.burst)*f.every)
	f.clear.put(from, at)
}

// prefixOf returns the prefix by which sources are told apart: an IPv4 address, or the
// /56 that a household gets (RFC 6177).
func prefixOf(source netip.Addr) netip.Prefix {
	bits := 32
	source = source.Unmap().WithZone("")
	if source.Is6() {
		bits = 56
	}
	p, _ := source.Prefix(bits) // no address is a prefix of its own
	return p
}
