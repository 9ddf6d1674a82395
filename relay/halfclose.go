//go:build linux

package relay

import (
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A DATA_FIN ends the opening of subflows: the kernel refuses and accepts joins only while a
// connection is open in both directions (mptcp_is_fully_established). A client that
// half-closes right after its request (nc -N, HTTP/1.0, rsh) would download over one line. So
// the FIN towards the other box waits while there is no subflow, or the other direction
// carries bytes, and a request waits a moment for its reply. A host that waits for the FIN
// before it answers gets it that moment later, and only if the connection has a single subflow.
const (
	// longestHold limits the wait while the other direction carries bytes: enough for joins
	// that need several attempts.
	longestHold = 2 * time.Second
	// A round trip and replyTime, replyMost at most, without a byte of the other direction end
	// the wait: that long may the first byte of a reply take, behind other transfers in a
	// line's queue. A reply that has begun may pause for replyPause.
	replyTime  = 100 * time.Millisecond
	replyMost  = 200 * time.Millisecond
	replyPause = 300 * time.Millisecond
)

// hold is the wait of a stream's FIN.
type hold struct {
	began time.Time     // zero before it has begun
	quiet time.Duration // without bytes of the other direction, that ends the wait
	moved uint64        // bytes of the other direction, at the last look
	at    time.Time     // when that last changed
	over  bool

	listed bool      // the stream is in its loop's holding
	next   time.Time // look for a subflow, if there was none
}

// awaitsSubflow reports whether a leg has no subflow. Another one can come before the FIN
// only; the close of a leg without a subflow discards its bytes and the FIN. The box ends a
// connection that gets none.
func (h *hold) awaitsSubflow(g *leg) bool {
	if !g.mptcp {
		return false
	}
	now := time.Now()
	if now.Before(h.next) {
		return true
	}
	if g.carried() {
		h.next = time.Time{}
		return false
	}
	h.next = now.Add(longestPause)
	return true
}

// carried reports whether a leg has a subflow, or never needs another one.
func (g *leg) carried() bool {
	first, err := unix.GetsockoptTCPInfo(g.fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil || living(*first) {
		return true
	}
	var info rawInfo
	if err := getsockopt(g.fd, solMPTCP, mptcpInfo, unsafe.Pointer(&info), unsafe.Sizeof(info)); err != nil || info.flags&flagFallback != 0 {
		return true
	}
	return slices.ContainsFunc(g.tcpInfos(), living)
}

// reverse returns the stream in the other direction.
func (s *stream) reverse() *stream {
	if c := s.to.conn; s == &c.up {
		return &c.down
	}
	return &s.to.conn.up
}

// holds reports whether the FIN of a stream that has ended waits. Then the loop looks again.
func (l *loop) holds(s *stream) bool {
	waits := l.mustWait(s)
	if waits && !s.hold.listed {
		s.hold.listed = true
		l.holding = append(l.holding, s)
	}
	return waits
}

// mustWait is holds without the note to look again.
func (l *loop) mustWait(s *stream) bool {
	c, h, back := s.to.conn, &s.hold, s.reverse()
	if !c.broken() && !l.relay.cfg.SinglePath && h.awaitsSubflow(s.to) {
		return true
	}
	if h.over || c.broken() || back.ended || back.cut || l.relay.cfg.SinglePath {
		return false
	}
	now, moved := time.Now(), back.moved.Load()
	if h.began.IsZero() {
		if h.over = !s.expectsMore(); h.over {
			return false
		}
		rtt, single := s.to.onlySubflow()
		if h.over = !single; h.over {
			return false
		}
		h.began, h.at, h.moved, h.quiet = now, now, moved, min(rtt+replyTime, replyMost)
		return true
	}
	if moved != h.moved {
		h.moved, h.at = moved, now
	}
	quiet := h.quiet
	if moved > 0 {
		quiet = replyPause
	}
	h.over = now.Sub(h.at) >= quiet || now.Sub(h.began) >= longestHold
	return !h.over
}

// expectsMore reports whether the other direction of a stream that ends towards the other box
// may carry much: a large transfer, or the reply to a request.
func (s *stream) expectsMore() bool {
	back := s.reverse().moved.Load()
	asks := s == &s.to.conn.up && s.moved.Load() > 0 && back == 0
	return s.to.mptcp && (asks || back >= CarriedBytes)
}

// onlySubflow returns the round trip of a leg's only subflow. It reports false if there are
// more, or can be no further ones.
func (g *leg) onlySubflow() (rtt time.Duration, single bool) {
	var info rawInfo
	err := getsockopt(g.fd, solMPTCP, mptcpInfo, unsafe.Pointer(&info), unsafe.Sizeof(info))
	if err != nil || info.flags&flagFallback != 0 {
		return 0, false
	}
	for _, s := range g.tcpInfos() {
		if living(s) {
			if single {
				return 0, false
			}
			single, rtt = true, microseconds(s.Rtt)
		}
	}
	return rtt, single
}

// checkHolding passes on the FINs whose wait is over.
func (l *loop) checkHolding() {
	if len(l.holding) == 0 {
		return
	}
	all := l.holding
	l.holding = nil
	for _, s := range all {
		s.hold.listed = false
		switch {
		case s.to.reg.loop == nil || s.done.Load(): // the connection has ended, or the FIN is passed on
		case l.holds(s):
		default:
			l.pump(s)
			s.to.conn.settle(l)
		}
	}
}
