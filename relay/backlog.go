package relay

import (
	"errors"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a subflow has not sent yet goes before all that is put behind it: when
// another subflow dies, what that one had not delivered waits for its turn. Left
// to itself the kernel queues twice the congestion window on each, some 400 ms of
// a line. So a multipath leg is given no more than its subflows need to be busy
// until it is looked at again.
const (
	// unasked is how many bytes a leg takes before the kernel is first asked: short
	// connections have nothing to gain.
	unasked = 256 << 10
	// unsentTime of what a subflow sends, or a share of its round trip if that is
	// more, may be unsent: enough to last from one look to the next.
	unsentTime  = 20 * time.Millisecond
	unsentShare = 4
	// unsentLeast may be unsent, or one window if that is less: a small one is often
	// sent at once.
	unsentLeast = 64 << 10
	// plenty is what a leg takes at once that has one subflow only.
	plenty = 1 << 20
	// windowLeast is what a leg takes when nothing is under way.
	windowLeast = 64 << 10
	// lateAck is by how much acknowledgements may come later than usual, beside
	// their variation, before a subflow is given nothing more.
	lateAck = 20 * time.Millisecond
	// longestRest is when a leg is looked at again at the latest.
	longestRest = 100 * time.Millisecond
	// restTick is between two looks at the legs that rest.
	restTick = 5 * time.Millisecond
)

// allowance is how much a multipath leg takes. It belongs to the leg's loop.
type allowance struct {
	bytes   int       // that it may be given before the kernel is asked again
	until   time.Time // when it has none: how long it is given nothing
	resting bool      // it is in its loop's resting
}

// unsent asks the kernel how much the subflows of a leg have not sent, and returns
// how many bytes it may be given now, or else how long to wait.
func (g *leg) unsent() (bytes int, rest time.Duration) {
	var buf rawTCPInfos
	buf.size, buf.sizeUser = uint32(unsafe.Offsetof(buf.tcp)), uint32(unsafe.Sizeof(buf.tcp[0]))
	var info rawInfo
	err := errors.Join(
		getsockopt(g.fd, solMPTCP, mptcpInfo, unsafe.Pointer(&info), unsafe.Sizeof(info)),
		getsockopt(g.fd, solMPTCP, mptcpTCPInfo, unsafe.Pointer(&buf), unsafe.Sizeof(buf)),
	)
	if err != nil { // it has fallen back to TCP, or has just ended
		return plenty, 0
	}
	subflows := buf.tcp[:min(buf.subflows, maxSubflows)]
	if bytes, rest = room(subflows); bytes > 0 && len(subflows) > 1 {
		bytes = min(bytes, inWindow(info.writeSeq-info.sndUna, subflows))
		rest = restTick
	}
	return bytes, rest
}

// inWindow returns how much more fits into what the peer can receive, when so much
// is under way.
//
// Linux takes an acknowledgement that bears a smaller window, and moves on what
// MPTCP has received but nothing of its own subflow, for one that shrinks the
// window, and goes on with the larger one (tcp_may_update_window, ack_update_msk).
// The peer drops what is beyond after TCP has acknowledged it
// (MPTcpExtNoDSSInWindow); it is sent again by a timer, a piece each time, and the
// connection stands still for seconds. What a subflow takes the window for is too
// large by what the others have brought meanwhile, which is less than what was
// under way: half of it is safe.
func inWindow(underWay uint64, subflows []unix.TCPInfo) int {
	if underWay == 0 {
		return windowLeast // the kernel probes a window that is closed
	}
	window := uint32(math.MaxUint32)
	for i := range subflows {
		if subflows[i].Unacked > 0 {
			window = min(window, subflows[i].Snd_wnd)
		}
	}
	return int(window/2) - int(min(underWay, math.MaxInt32))
}

// room returns how many bytes a leg with these subflows may be given, or else how
// long it will take them to need some.
func room(subflows []unix.TCPInfo) (bytes int, rest time.Duration) {
	rest = longestRest
	used := 0
	for i := range subflows {
		s := &subflows[i]
		ended := s.State != unix.BPF_TCP_ESTABLISHED && s.State != unix.BPF_TCP_CLOSE_WAIT
		if ended || s.Unacked == 0 && s.Notsent_bytes == 0 { // or the kernel has not chosen it
			continue
		}
		used++
		switch enough, unsent := enoughUnsent(s), uint64(s.Notsent_bytes); {
		case silent(s):
			rest = min(rest, unsentTime) // it may just have been held up
		case unsent < enough:
			bytes += int(enough - unsent)
		case slowStart(s):
			rest = min(rest, unsentTime) // it may send it all at once
		default:
			rest = min(rest, time.Duration((unsent-enough/2)*uint64(time.Second)/max(s.Pacing_rate, 1)))
		}
	}
	if used < 2 {
		return plenty, 0
	}
	return bytes, rest
}

// enoughUnsent is how many bytes that are not sent yet keep a subflow busy.
func enoughUnsent(s *unix.TCPInfo) uint64 {
	const most = 1 << 40 // bytes/s; a rate that is not known yet is the largest number
	span := max(unsentTime, microseconds(s.Rtt)/unsentShare)
	least := uint64(s.Snd_cwnd) * uint64(s.Snd_mss)
	if slowStart(s) {
		least *= 2 // as much as in the next round trip
	} else {
		least = min(least, unsentLeast)
	}
	return max(min(s.Pacing_rate, most)*uint64(span.Microseconds())/1e6, least)
}

// slowStart tells whether a subflow doubles its window each round trip.
func slowStart(s *unix.TCPInfo) bool { return s.Snd_cwnd < s.Snd_ssthresh }

// silent tells whether nothing acknowledges what a subflow has sent: more bytes
// would wait there in vain.
func silent(s *unix.TCPInfo) bool {
	heard := time.Duration(s.Last_ack_recv) * time.Millisecond
	return s.Unacked > 0 && heard > microseconds(s.Rtt+4*s.Rttvar)+lateAck
}

func microseconds(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }

// full tells whether a leg takes nothing now. It will be given more later.
func (l *loop) full(g *leg) bool {
	if !g.mptcp || g.allowance.bytes > 0 {
		return false
	}
	now := time.Now()
	if now.Before(g.allowance.until) {
		return true
	}
	var rest time.Duration
	if g.allowance.bytes, rest = g.unsent(); g.allowance.bytes > 0 {
		return false
	}
	g.allowance.until = now.Add(rest)
	if !g.allowance.resting {
		g.allowance.resting = true
		l.resting = append(l.resting, g)
	}
	return true
}

// rouse gives a turn to the legs that have rested.
func (l *loop) rouse() {
	if len(l.resting) == 0 {
		return
	}
	now := time.Now()
	if now.Sub(l.roused) < restTick {
		return
	}
	l.roused = now
	all := l.resting
	l.resting = nil
	for _, g := range all {
		if now.Before(g.allowance.until) && g.reg.loop != nil {
			l.resting = append(l.resting, g)
			continue
		}
		g.allowance.resting = false
		if g.reg.loop != nil {
			g.ready(l, unix.EPOLLOUT)
		}
	}
}
