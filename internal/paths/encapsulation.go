package paths

import "net/netip"

// Offer is what the HAG offers for encapsulated subflows on a path. The zero Offer is none yet.
type Offer struct {
	Inner  netip.Addr // from which they start
	Key    uint64
	Denial string // why there is none
}
