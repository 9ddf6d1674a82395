package relay

import (
	"errors"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a subflow has not sent yet goes before all that is put behind it: when
// another subflow dies, what that one had not delivered waits for its turn, and one
// that has just opened finds nothing to send. Left to itself the kernel queues twice
// the congestion window on each, some 400 ms of a line. So a multipath leg is given
// no more than its subflows need to be busy until it is looked at again.
const (
	// unasked is how many bytes a leg takes before the kernel is first asked, or when
	// nothing is under way: short connections have nothing to gain.
	unasked = 64 << 10
	// unsentTime of what a subflow sends, or a share of its round trip if that is
	// more, may be unsent: enough to last from one look to the next.
	unsentTime  = 20 * time.Millisecond
	unsentShare = 4
	// unsentLeast may be unsent, or one window if that is less: a small one is often
	// sent at once.
	unsentLeast = 64 << 10
	// fast is from which rate on, in bytes/s, a subflow is not kept short: what is
	// queued there is gone in an instant, and no look comes in time to keep it busy.
	// A rate that is not known yet is the largest number.
	fast = 125e6
	// near is up to which round trip that goes for the only subflow in use, whatever
	// its rate: kept short, it would never show how fast it can be.
	near = 2 * time.Millisecond
	// plenty is what a leg takes at once then, or when it has fallen back to TCP.
	plenty = 1 << 20
	// wideBuffer is half the send buffer, which the kernel doubles, of a leg whose only
	// subflow in use is near and fast: more than a peer's window lets be under way.
	wideBuffer = 8 << 20
	// leastRead is how many bytes are read for a leg that takes fewer.
	leastRead = 16 << 10
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
	wide    bool      // it has its wideBuffer
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
		bytes = min(bytes-g.unassigned(info.bytesSent), inWindow(info.writeSeq-info.sndUna, subflows))
		rest = restTick
	}
	if !g.allowance.wide && g.given().moved.Load() > plenty && nearAndFast(subflows) {
		g.allowance.wide = true
		_ = setsockopt(g.fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, wideBuffer) // it tunes, it does not decide
	}
	return bytes, rest
}

// nearAndFast tells whether the only subflow in use needs a send buffer that never
// fills. A peer whose relay reads all the time acknowledges what comes meanwhile to
// TCP, but to MPTCP only with the next packet that it has to acknowledge
// (mptcp_subflow_could_cleanup): none follows if the buffer has filled before, until
// a timer has something sent again. Elsewhere the kernel tunes the buffer, which
// ends when its size is set.
func nearAndFast(subflows []unix.TCPInfo) bool {
	used, yes := 0, false
	for i := range subflows {
		if s := &subflows[i]; carries(s) {
			used++
			yes = s.Pacing_rate > fast && microseconds(s.Min_rtt) <= near
		}
	}
	return used == 1 && yes
}

// given is the stream of bytes that the leg is given.
func (g *leg) given() *stream {
	if g.conn.up.to == g {
		return &g.conn.up
	}
	return &g.conn.down
}

// unassigned is how many bytes that the leg was given no subflow has: the one that
// the kernel has chosen for them has a full send buffer, and they go nowhere else
// meanwhile (kernel: mptcp_subflow_get_send).
func (g *leg) unassigned(sent uint64) int {
	if sent == 0 {
		return 0
	}
	return max(int(g.given().moved.Load()-sent), 0)
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
		return unasked // the kernel probes a window that is closed
	}
	window := uint32(math.MaxUint32)
	for i := range subflows {
		if s := &subflows[i]; s.Unacked > 0 && isOpen(s) {
			window = min(window, s.Snd_wnd)
		}
	}
	return int(window/2) - int(min(underWay, math.MaxInt32))
}

// room returns how many bytes a leg with these subflows may be given, or else how
// long it will take them to need some.
func room(subflows []unix.TCPInfo) (bytes int, rest time.Duration) {
	rest = longestRest
	used, distant := 0, false
	for i := range subflows {
		s := &subflows[i]
		if !carries(s) {
			rest = min(rest, unsentTime) // it may be about to open, or to be chosen
			continue
		}
		used++
		distant = distant || microseconds(s.Min_rtt) > near
		switch enough, unsent := enoughUnsent(s), uint64(s.Notsent_bytes); {
		case silent(s):
			rest = min(rest, unsentTime) // it may just have been held up
		case s.Pacing_rate > fast:
			bytes += plenty
		case unsent < enough:
			bytes += int(enough - unsent)
		case slowStart(s):
			rest = min(rest, unsentTime) // it may send it all at once
		default:
			rest = min(rest, time.Duration((unsent-enough/2)*uint64(time.Second)/max(s.Pacing_rate, 1)))
		}
	}
	switch {
	case used == 0:
		return unasked, 0
	case used == 1 && !distant:
		return plenty, 0
	}
	return bytes, rest
}

// carries tells whether a subflow is open and has bytes to send.
func carries(s *unix.TCPInfo) bool {
	return isOpen(s) && (s.Unacked > 0 || s.Notsent_bytes > 0)
}

func isOpen(s *unix.TCPInfo) bool {
	return s.State == unix.BPF_TCP_ESTABLISHED || s.State == unix.BPF_TCP_CLOSE_WAIT
}

// enoughUnsent is how many bytes that are not sent yet keep a subflow busy.
func enoughUnsent(s *unix.TCPInfo) uint64 {
	span := max(unsentTime, microseconds(s.Rtt)/unsentShare)
	least := uint64(s.Snd_cwnd) * uint64(s.Snd_mss)
	if slowStart(s) {
		least *= 2 // as much as in the next round trip
	} else {
		least = min(least, unsentLeast)
	}
	return max(s.Pacing_rate*uint64(span.Microseconds())/1e6, least)
}

// reducing is the first state in which TCP has less to send than before: TCP_CA_CWR
// of uapi linux/tcp.h.
const reducing = 2

// slowStart tells whether a subflow doubles its window each round trip. One that
// recovers from losses also has less than its threshold.
func slowStart(s *unix.TCPInfo) bool {
	return s.Snd_cwnd < s.Snd_ssthresh && s.Ca_state < reducing
}

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

// most is how many bytes may be read for a leg at once.
func (g *leg) most() int {
	if !g.mptcp {
		return chunk
	}
	return min(max(g.allowance.bytes, leastRead), chunk)
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
