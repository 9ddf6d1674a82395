//go:build linux

package relay

import (
	"errors"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A multipath leg has a send budget: the relay gives the leg no more bytes than keep its
// subflows busy until the relay looks again. Left alone, the kernel queues twice the
// congestion window on each subflow, some 400 ms of a slow path. Bytes queued on a subflow
// that dies are sent again behind all that the others have queued (head-of-line blocking),
// and a subflow that has just opened finds nothing to send.
const (
	// initialBudget (bytes) is the budget of a leg before the relay first asks the kernel,
	// and of a leg with nothing in flight: a limit gains short connections nothing.
	initialBudget = 64 << 10
	// unsentTime and unsentShare (of the round trip) limit the unsent data of a subflow to
	// its rate times the longer of the two: enough to last until the next look.
	unsentTime  = 20 * time.Millisecond
	unsentShare = 4
	// unsentLeast (bytes), or one window if that is less, may always be unsent: a small
	// window is often sent at once.
	unsentLeast = 64 << 10
	// fastRate (bytes/s): above it the relay does not limit a subflow's unsent data. The
	// queue drains at once, and no look comes in time to keep the subflow busy. The kernel
	// reports an unknown rate as the largest number.
	fastRate = 125e6
	// provenFactor limits the rate of a subflow to this multiple of what the subflow has
	// delivered in provenTime (of the kernel's clock, whose ticks take up to 10 ms) or more.
	provenFactor = 2
	provenTime   = 20 * time.Millisecond
	// rampBase (bytes) and rampFactor limit the bytes under way to the sum of rampBase and
	// this multiple of what subflows have delivered, as slow start does.
	rampBase   = 2 * initialBudget
	rampFactor = 4
	// nearRTT: up to this round trip the relay does not limit the only subflow in use,
	// whatever its rate. With a limit the subflow would never show its rate.
	nearRTT = 2 * time.Millisecond
	// unlimitedBudget (bytes) is the budget of a leg without a limit, also after a fallback
	// to TCP.
	unlimitedBudget = 1 << 20
	// wideBuffer (bytes) is half the send buffer, which the kernel doubles, of a leg whose
	// only subflow in use is near and fast: more than a peer's window lets be in flight.
	wideBuffer = 8 << 20
	// leastRead (bytes) is read even for a leg with a smaller budget.
	leastRead = 16 << 10
	// lateAck: a subflow gets no more bytes when an acknowledgement is later than the round
	// trip, its variation and this.
	lateAck = 20 * time.Millisecond
	// longestPause ends before the relay looks at a leg again.
	longestPause = 100 * time.Millisecond
	// pauseTick is the time between two looks at the legs that pause.
	pauseTick = 5 * time.Millisecond
)

// budget is the send budget of a multipath leg, and the pause of any leg. It belongs to the
// leg's loop.
type budget struct {
	bytes  int       // left before the relay asks the kernel again
	until  time.Time // end of the pause
	paused bool      // the leg is in its loop's paused
	wide   bool      // the leg has its wideBuffer

	idle     uint8  // the idle subflows to which bytes were last offered, as a bit each
	idleSent uint64 // bytes that these subflows had sent by then
}

// askBudget asks the kernel for the unsent data of a leg's subflows. It returns the bytes
// that the leg may be given now, or else the pause until the next look.
func (g *leg) askBudget() (bytes int, rest time.Duration) {
	var buf rawTCPInfos
	var info rawInfo
	err := getsockopt(g.fd, solMPTCP, mptcpInfo, unsafe.Pointer(&info), unsafe.Sizeof(info))
	subflows, err2 := buf.read(g.fd)
	if errors.Join(err, err2) != nil { // the leg has fallen back to TCP, or has just ended
		return unlimitedBudget, 0
	}
	bytes, rest = room(subflows)
	bytes += g.budget.offer(subflows)
	if bytes > 0 && len(subflows) > 1 {
		bytes = min(bytes-g.unassigned(info.bytesSent), inWindow(info.writeSeq-info.sndUna, subflows))
		rest = pauseTick
	}
	moved, underWay := g.given().moved.Load(), info.writeSeq-info.sndUna
	if left := ramp(max(moved-min(underWay, moved), delivered(subflows)), underWay); bytes > left {
		bytes, rest = left, pauseTick
	}
	if !g.budget.wide && moved > unlimitedBudget && nearAndFast(subflows) {
		g.budget.wide = true
		_ = setsockopt(g.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, wideBuffer) // it tunes, it does not decide
	}
	return bytes, rest
}

// nearAndFast reports whether the only subflow in use needs a send buffer that never
// fills. While the peer's relay reads, the peer acknowledges new data to TCP at once, but to
// MPTCP only with the next packet (mptcp_subflow_could_cleanup). If the send buffer is full
// no packet follows until a timer retransmits. Other legs keep the kernel's tuning of the
// buffer, which ends when its size is set.
func nearAndFast(subflows []unix.TCPInfo) bool {
	used, yes := 0, false
	for i := range subflows {
		if s := &subflows[i]; carries(s) {
			used++
			yes = rate(s) > fastRate && microseconds(s.Min_rtt) <= nearRTT
		}
	}
	return used == 1 && yes
}

// given returns the stream that ends in the leg.
func (g *leg) given() *stream {
	if g.conn.up.to == g {
		return &g.conn.up
	}
	return &g.conn.down
}

// unassigned returns the number of bytes in the leg that no subflow has yet: the subflow
// that the kernel has chosen for them has a full send buffer, and no other subflow gets
// them meanwhile (kernel: mptcp_subflow_get_send).
func (g *leg) unassigned(sent uint64) int {
	if sent == 0 {
		return 0
	}
	return max(int(g.given().moved.Load()-sent), 0)
}

// ramp returns the bytes that may still be under way, of a leg that has delivered some. The
// kernel's estimates of a new subflow are of no use: the first round trip, of a single
// packet, says nothing about a line's rate.
func ramp(delivered, underWay uint64) int {
	return int(rampBase+min(rampFactor*delivered, math.MaxInt32)) - int(min(underWay, math.MaxInt32))
}

// delivered returns the bytes that subflows have delivered. The connection acknowledges none
// of those that wait for bytes of a slow subflow.
func delivered(subflows []unix.TCPInfo) (bytes uint64) {
	for i := range subflows {
		bytes += subflows[i].Bytes_acked
	}
	return bytes
}

// offer returns the bytes for open subflows that have nothing to send, while others may
// have enough: the kernel gives bytes to an idle subflow first. It offers once, unless the
// subflows have sent meanwhile: a backup does not.
func (b *budget) offer(subflows []unix.TCPInfo) (bytes int) {
	var idle uint8
	var sent uint64
	for i := range subflows {
		if s := &subflows[i]; isOpen(s) && !carries(s) {
			idle |= 1 << i
			sent += s.Bytes_sent
			bytes += int(min(s.Snd_cwnd*s.Snd_mss, unsentLeast))
		}
	}
	if idle == 0 || idle == b.idle && sent == b.idleSent {
		return 0
	}
	b.idle, b.idleSent = idle, sent
	return bytes
}

// inWindow returns the bytes that still fit into the peer's window beside those under way.
//
// An acknowledgement may carry a smaller window and a newer DATA_ACK, but no progress of its
// own subflow. Linux takes that for a shrunken window and keeps the larger one
// (tcp_may_update_window, ack_update_msk). The peer drops the bytes beyond its window after
// TCP has acknowledged them (MPTcpExtNoDSSInWindow). A timer retransmits those piece by
// piece, and the connection stalls for seconds. A subflow overestimates the window by the
// bytes that the other subflows have delivered meanwhile, fewer than were under way: half of
// the window is safe.
func inWindow(underWay uint64, subflows []unix.TCPInfo) int {
	if underWay == 0 {
		return initialBudget // the kernel probes a closed window
	}
	window := uint32(math.MaxUint32)
	for i := range subflows {
		if s := &subflows[i]; s.Unacked > 0 && isOpen(s) {
			window = min(window, s.Snd_wnd)
		}
	}
	return int(window/2) - int(min(underWay, math.MaxInt32))
}

// room returns the bytes that a leg with these subflows may be given, or else the time until
// the subflows need some.
func room(subflows []unix.TCPInfo) (bytes int, rest time.Duration) {
	rest = longestPause
	used, distant := 0, false
	for i := range subflows {
		s := &subflows[i]
		if !carries(s) {
			rest = min(rest, unsentTime) // the subflow may be about to open, or to be chosen
			continue
		}
		used++
		distant = distant || microseconds(s.Min_rtt) > nearRTT
		switch enough, unsent := enoughUnsent(s), uint64(s.Notsent_bytes); {
		case silent(s):
			rest = min(rest, unsentTime) // the delay may be a short one
		case rate(s) > fastRate:
			bytes += unlimitedBudget
		case unsent < enough:
			bytes += int(enough - unsent)
		case slowStart(s):
			rest = min(rest, unsentTime) // the subflow may send all at once
		default:
			rest = min(rest, time.Duration((unsent-enough/2)*uint64(time.Second)/max(rate(s), 1)))
		}
	}
	switch {
	case used == 0:
		return initialBudget, 0
	case used == 1 && !distant:
		return unlimitedBudget, 0
	}
	return bytes, rest
}

// carries reports whether a subflow is open and has bytes to send.
func carries(s *unix.TCPInfo) bool {
	return isOpen(s) && (s.Unacked > 0 || s.Notsent_bytes > 0)
}

func isOpen(s *unix.TCPInfo) bool {
	return s.State == unix.BPF_TCP_ESTABLISHED || s.State == unix.BPF_TCP_CLOSE_WAIT
}

// enoughUnsent returns the number of unsent bytes that keep a subflow busy.
func enoughUnsent(s *unix.TCPInfo) uint64 {
	span := max(unsentTime, microseconds(s.Rtt)/unsentShare)
	least := uint64(s.Snd_cwnd) * uint64(s.Snd_mss)
	if slowStart(s) {
		least *= 2 // as much as in the next round trip
	} else {
		least = min(least, unsentLeast)
	}
	return max(rate(s)*uint64(span.Microseconds())/1e6, least)
}

// rate returns the rate of a subflow in bytes/s: its pacing rate, as far as it has delivered
// at such a rate. The pacing rate of a subflow whose first packets met an empty queue is far
// too large; bbr takes the burst of a token bucket for the line's rate, and keeps it.
func rate(s *unix.TCPInfo) uint64 {
	busy := s.Busy_time // µs with bytes in flight
	if busy < uint64(provenTime.Microseconds()) {
		return s.Pacing_rate
	}
	return min(s.Pacing_rate, provenFactor*s.Bytes_acked*1e6/busy)
}

// reducing is the first state in which TCP reduces its window: TCP_CA_CWR of uapi
// linux/tcp.h.
const reducing = 2

// slowStart reports whether a subflow doubles its window each round trip. The window of a
// subflow that recovers from losses is below its threshold too.
func slowStart(s *unix.TCPInfo) bool {
	return s.Snd_cwnd < s.Snd_ssthresh && s.Ca_state < reducing
}

// silent reports whether the acknowledgements of a subflow are overdue: more bytes would
// wait there in vain.
func silent(s *unix.TCPInfo) bool {
	heard := time.Duration(s.Last_ack_recv) * time.Millisecond
	return s.Unacked > 0 && heard > microseconds(s.Rtt+4*s.Rttvar)+lateAck
}

func microseconds(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }

// outOfBudget reports whether a leg has no send budget now. If so, the leg pauses and gets a
// new budget later.
func (l *loop) outOfBudget(g *leg) bool {
	if !g.mptcp || g.budget.bytes > 0 {
		return false
	}
	now := time.Now()
	if now.Before(g.budget.until) {
		return true
	}
	var rest time.Duration
	if g.budget.bytes, rest = g.askBudget(); g.budget.bytes > 0 {
		return false
	}
	l.pause(g, now.Add(rest))
	return true
}

// pause has a leg rest until some time.
func (l *loop) pause(g *leg, until time.Time) {
	g.budget.until = until
	if !g.budget.paused {
		g.budget.paused = true
		l.paused = append(l.paused, g)
	}
}

// most returns the number of bytes that may be read for a leg at once.
func (g *leg) most() int {
	if !g.mptcp {
		return chunk
	}
	return min(max(g.budget.bytes, leastRead), chunk)
}

// resumePaused serves the legs whose pause is over.
func (l *loop) resumePaused() {
	if len(l.paused) == 0 {
		return
	}
	now := time.Now()
	if now.Sub(l.looked) < pauseTick {
		return
	}
	l.looked = now
	all := l.paused
	l.paused = nil
	for _, g := range all {
		if now.Before(g.budget.until) && g.reg.loop != nil {
			l.paused = append(l.paused, g)
			continue
		}
		g.budget.paused = false
		if g.reg.loop != nil {
			g.ready(l, unix.EPOLLOUT)
		}
	}
}
