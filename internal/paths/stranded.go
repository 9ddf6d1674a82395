package paths

import "time"

// How long a connection may be without any subflow before it is ended.
const (
	// CPEPatience is the time at a CPE, beside up to 500 ms until that is noticed. The
	// planner opens a subflow at once where a path takes it.
	CPEPatience = 2500 * time.Millisecond
	// HAGPatience is the time at a HAG, which cannot open subflows. A CPE behind a NAT that
	// has reset the HAG's half learns of it with its next packet, a keepalive at the
	// latest, and then opens another subflow.
	HAGPatience = 75 * time.Second
)

// How long bytes may be unacknowledged, although the connection has a subflow.
const (
	// pushAfter is the time before the kernel is asked to send what it has not sent. To ask
	// in vain, because all is under way, costs next to nothing.
	pushAfter = 400 * time.Millisecond
	// probeAfter is the time before subflows are probed, because all that lacks is the
	// acknowledgement of the FIN. Then the kernel waits twice as long before each repeat, up
	// to 102 s, and goes on with that on a subflow that has come since.
	probeAfter = 2 * time.Second
	// halfProbe is the time after which a half-closed connection without a byte is probed. No
	// further subflow can come after a FIN: if the other box has closed the connection, and
	// its FIN is lost with the last subflow, nothing else ends the wait of the host.
	halfProbe = 3 * time.Second
)

// Standing is the state of the multipath leg of a connection.
type Standing struct {
	Alive bool // it has a subflow
	Up    bool // a path that it may use is up
	// Unacknowledged is the number of its bytes that the peer has not acknowledged. A FIN
	// counts as one.
	Unacknowledged int
	// Acknowledged is the number of those that the peer has acknowledged; a FIN that it has
	// not acknowledged makes it one less.
	Acknowledged int64
	Moved        uint64 // bytes, in both directions
	HalfClosed   bool   // one direction has ended
}

// Help is what a connection needs to go on.
type Help uint8

const (
	NoHelp Help = iota
	Push        // have the kernel send what waits, without keepalives
	Probe       // likewise, with keepalives on its subflows: they carry the FIN, and find the dead
	End         // it cannot go on: end it
)

// Stranded finds the connections that do not go on although they could. The kernel keeps the
// MPTCP socket of a connection without a subflow for ever, and its hosts would wait as long.
// Nor does it send the bytes that it got meanwhile when a subflow comes, until something else
// happens (kernel: __mptcp_push_pending starts no timer if no subflow takes anything, and
// mptcp_finish_join sends nothing). It has no clock, and is for one goroutine.
type Stranded struct {
	patience time.Duration
	since    map[uint64]time.Duration // by connection, without a subflow
	still    map[uint64]still         // by connection that waits
}

// still is a connection with unacknowledged bytes, or half-closed, as it was when something
// moved last.
type still struct {
	Standing
	since  time.Duration
	probed bool
}

// NewStranded returns a Stranded with that patience.
func NewStranded(patience time.Duration) *Stranded {
	return &Stranded{patience, make(map[uint64]time.Duration), make(map[uint64]still)}
}

// Look takes the state of a connection now and returns what it needs. While all paths that
// it may use are down it waits.
func (s *Stranded) Look(now time.Duration, id uint64, at Standing) Help {
	if at.Alive {
		delete(s.since, id)
		return s.help(now, id, at)
	}
	since, known := s.since[id]
	switch {
	case !known || !at.Up:
		s.since[id] = now
	case now-since >= s.patience:
		s.Forget(id)
		return End
	}
	return NoHelp
}

// help returns what a connection with a subflow needs.
func (s *Stranded) help(now time.Duration, id uint64, at Standing) Help {
	last, known := s.still[id]
	help := NoHelp
	if last.probed {
		help = Push // ends the keepalives
	}
	stands := now - last.since
	switch {
	case at.Unacknowledged == 0 && !at.HalfClosed:
		delete(s.still, id)
		return help
	case !known || last.moves(at):
		last = still{Standing: at, since: now}
	case at.Unacknowledged <= 1 && stands >= probeAfter && (at.Unacknowledged == 1 || stands >= halfProbe):
		last.probed, help = true, Probe
	case at.Unacknowledged > 0 && stands >= pushAfter:
		help = Push
	}
	s.still[id] = last
	return help
}

// moves reports whether a connection has got on. Bytes of one direction that stand still do so
// whatever comes of the other, and whatever joins them.
func (s still) moves(at Standing) bool {
	if waits := at.Unacknowledged > 0; waits != (s.Unacknowledged > 0) || !waits && at.Moved != s.Moved {
		return true
	}
	return at.Acknowledged != s.Acknowledged
}

// Forget forgets a connection that has ended.
func (s *Stranded) Forget(id uint64) {
	delete(s.since, id)
	delete(s.still, id)
}
