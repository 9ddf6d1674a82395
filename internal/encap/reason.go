package encap

import "sync/atomic"

// Reason says what has become of a packet.
type Reason uint8

const (
	Passed    Reason = iota
	Malformed        // no datagram of this package, or no whole TCP segment in it
	Stranger         // a key that was not given, or that comes from another address
	WrongEnds        // other addresses or ports than those of the path
	reasons
)

func (r Reason) String() string {
	return [...]string{"passed", "malformed", "stranger", "wrong-ends"}[r]
}

// Counters count packets. Their methods are safe for concurrent use.
type Counters struct {
	received, sent [reasons]atomic.Uint64
}

// Count is a number of packets of a direction, received or sent, with one fate.
type Count struct {
	Direction string
	Reason    Reason
	Packets   uint64
}

// Counts returns all numbers, zeros included.
func (c *Counters) Counts() (all []Count) {
	for r := range reasons {
		all = append(all, Count{"received", r, c.received[r].Load()}, Count{"sent", r, c.sent[r].Load()})
	}
	return all
}
