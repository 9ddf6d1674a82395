package paths

import (
	"slices"
	"time"
)

// SizeCheck finds out how large the packets are that a path carries in one address
// family. Some paths lose large packets and tell nobody (a black hole, RFC 8899, section
// 1.2): a tunnel whose ICMP errors a filter drops, for instance. The check sends probes of
// full size with replies of the same size; it has no socket and no clock, and is for one
// goroutine.
//
// It looks at full size first. Only if that fails again and again, while small probes
// are answered, it tries smaller ones. A path may lose packets for other reasons, and
// large ones first where a queue is full.
type SizeCheck struct {
	full  int           // bytes of the largest packet that the link takes
	sizes []int         // to try instead, largest first
	pause time.Duration // between two rounds

	limit   int // the largest packet that passes, 0 if full size does or nothing is known
	running bool
	rounds  int       // of the present check that have begun
	left    []int     // sizes of the present round that have not been sent
	sent    time.Time // the last one
	ended   time.Time // the last check, zero before the first
	probes  map[uint64]int
	small   int // answers to small probes of the present check
	best    int // largest answer to it
}

// Sizes of packets in bytes, IP header included.
const (
	maxPacket = 1500 // beyond that nothing is checked
	// smallPacket is the size of the probes that show that a path works at all.
	smallPacket = 200
	minPacket6  = 1280 // RFC 8200, section 5
	minPacket4  = 576  // RFC 1122, section 3.3.2
)

// packetSizes are the sizes to try: full size of Ethernet, PPPoE, tunnels, smallest ones.
var packetSizes = []int{1500, 1492, 1480, 1460, 1440, 1420, 1400, 1360, 1320, 1280, 1024, 576}

const (
	// sizeRounds is the number of times for which full size, and then smaller ones, are tried.
	sizeRounds = 4
	// busySizeInterval is the time between two checks of a path that carries much.
	busySizeInterval = 3 * time.Second
	// sizeInterval is the same for one that carries little, or is known to lose large
	// packets.
	sizeInterval = 30 * time.Second
	// minSizePause is the shortest time between two rounds, sizeSpacing the time between
	// two probes of a round: the HAG ignores one that another overtakes.
	minSizePause = 200 * time.Millisecond
	sizeSpacing  = 10 * time.Millisecond
)

// NewSizeCheck returns a check for a link with that MTU, 0 if it is not known. Its first
// check is due at once.
func NewSizeCheck(mtu int, is4 bool) *SizeCheck {
	s := &SizeCheck{full: maxPacket, probes: make(map[uint64]int)}
	if mtu > 0 {
		s.full = min(mtu, maxPacket)
	}
	least := minPacket6
	if is4 {
		least = minPacket4
	}
	for _, n := range packetSizes {
		if n < s.full && n >= least {
			s.sizes = append(s.sizes, n)
		}
	}
	return s
}

// Limit returns the size of the largest packets that pass, 0 while full size does or
// nothing is known.
func (s *SizeCheck) Limit() int { return s.limit }

// Due returns the size of the packet to send now, 0 for none. Every is the time between
// two checks, see [Health.SizeInterval]: with 0 the path is checked once only. RTT is its
// round trip time.
func (s *SizeCheck) Due(now time.Time, every, rtt time.Duration) (size int) {
	s.pause = max(minSizePause, 2*rtt)
	at, needed := s.Next(every)
	switch {
	case !needed, now.Before(at):
		return 0
	case !s.running:
		s.running, s.rounds, s.small, s.best, s.left = true, 0, 0, 0, nil
		clear(s.probes)
	case len(s.left) == 0 && s.rounds == 2*sizeRounds:
		s.conclude(now)
		return 0
	}
	if len(s.left) == 0 {
		s.rounds++
		s.left = s.round()
	}
	size, s.left, s.sent = s.left[0], s.left[1:], now
	return size
}

// round returns the sizes of the packets of a round.
func (s *SizeCheck) round() []int {
	if s.rounds <= sizeRounds {
		return []int{smallPacket, s.full}
	}
	return append([]int{smallPacket}, s.sizes...)
}

// Sent takes note of a probe of the check.
func (s *SizeCheck) Sent(sequence uint64, size int) { s.probes[sequence] = size }

// Replied takes a reply, and reports whether it belongs to the check.
func (s *SizeCheck) Replied(now time.Time, sequence uint64) bool {
	size, ours := s.probes[sequence]
	if !ours {
		return false
	}
	delete(s.probes, sequence)
	switch {
	case !s.running:
	case size == s.full:
		s.limit = 0
		s.end(now)
	case size == smallPacket:
		s.small++
	default:
		s.best = max(s.best, size)
	}
	return true
}

// Told takes the kernel's word that a packet was too large, which it has from an ICMP
// error, or from the route. TCP then knows it, too: there is nothing to find out.
func (s *SizeCheck) Told(now time.Time) {
	s.limit = 0
	s.end(now)
}

// conclude ends a check in which no full packet has been answered.
func (s *SizeCheck) conclude(now time.Time) {
	// The path may have failed, or be losing most of everything.
	if s.small >= sizeRounds && slices.Contains(s.sizes, s.best) {
		s.limit = s.best
	}
	s.end(now)
}

func (s *SizeCheck) end(now time.Time) { s.running, s.ended = false, now }

// Next returns when to call [SizeCheck.Due] again, if that is needed.
func (s *SizeCheck) Next(every time.Duration) (at time.Time, needed bool) {
	switch {
	case s.running && len(s.left) > 0:
		return s.sent.Add(sizeSpacing), true
	case s.running:
		return s.sent.Add(s.pause), true
	case s.ended.IsZero():
		return s.ended, true
	case s.limit > 0 && every > 0:
		every = sizeInterval
	}
	return s.ended.Add(every), every > 0
}
