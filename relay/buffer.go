//go:build linux

package relay

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bytes of a host that the relay has not passed on lie in the receive buffer of the TCP
// leg, and all later bytes wait behind them. The kernel sizes the buffer by the bytes read
// in a round trip, and a relay reads bytes as fast as the other leg takes them: hosts could
// queue megabytes. So the relay sizes the buffer. It doubles a buffer that runs empty
// although growthRTTs round trips fill it: then the buffer limits the host.
const (
	// growthRTTs is the number of round trips that must fill a buffer before it grows. In one
	// round trip a host can send a quarter of the buffer's size or more: the rest is for the
	// kernel's own needs.
	growthRTTs = 4
	// mostBuffer (bytes) is the kernel's own limit for a buffer that grows.
	mostBuffer = 16 << 20
	// leastRTT stands for the round trips of nearer hosts: fast flows need room for what
	// comes while the loop has others to serve, and slow ones none that counts.
	leastRTT = 10 * time.Millisecond
)

// buffer is the receive buffer of a TCP leg.
type buffer struct {
	size  int           // in bytes; 0 leaves it to the kernel
	dry   bool          // it ran empty since the last look
	rtt   time.Duration // of the host, at the last look
	at    time.Time     // of the last look
	moved uint64        // bytes of the stream by then
}

// fit looks at the buffer of the leg that a stream comes from: once in a round trip in
// which much was moved.
func (s *stream) fit(moved uint64) {
	b := &s.from.buffer
	some := (moved - b.moved) * growthRTTs
	if b.size == 0 || b.size >= mostBuffer || some < uint64(b.size) {
		return
	}
	now := time.Now()
	took := now.Sub(b.at)
	if took < b.rtt {
		return
	}
	if b.dry && float64(some)*b.rtt.Seconds() >= float64(b.size)*took.Seconds() {
		s.from.setBuffer(2 * b.size)
	}
	b.dry, b.rtt, b.at, b.moved = false, max(s.from.roundTrip(), leastRTT), now, moved
}

// fixBuffer ends the kernel's fitting of the buffer of a TCP leg, now that it is
// connected: the scale of its window was chosen for a buffer that grows.
func (g *leg) fixBuffer() {
	if g.mptcp || g.conn.relay.cfg.PlainReceiveBuffer == 0 {
		return
	}
	// It tunes, it does not decide. A client without MPTCP that came by the paths has
	// the larger buffer of its listener.
	_ = setsockopt(g.fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, unix.SOCK_RCVBUF_LOCK)
	g.buffer.size, _ = getsockoptInt(g.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
}

// setBuffer gives a TCP leg a larger buffer, and lets its window follow. Where a
// user namespace does not allow that size, the kernel fits the buffer from now on.
func (g *leg) setBuffer(size int) {
	g.buffer.size = size
	forceReceiveBuffer(g.fd, size)
	_ = setsockopt(g.fd, unix.SOL_TCP, unix.TCP_WINDOW_CLAMP, size)
	if got, err := getsockoptInt(g.fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil && got < size {
		g.buffer.size = 0
		unlockBuffers(g.fd)
	}
}

// roundTrip is that of a TCP leg.
func (g *leg) roundTrip() time.Duration {
	var info unix.TCPInfo
	if getsockopt(g.fd, unix.SOL_TCP, unix.TCP_INFO, unsafe.Pointer(&info), unsafe.Sizeof(info)) != nil {
		return 0 // it has ended
	}
	return microseconds(info.Rtt)
}
