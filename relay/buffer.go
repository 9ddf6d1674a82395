package relay

import (
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What a host has sent and the relay has not passed on lies in the receive buffer of
// the TCP leg, and all that the host sends later has to wait behind it. The kernel
// sizes the buffer by what is read in a round trip, and a relay reads at once what the
// other leg takes at once: hosts could queue megabytes. So the relay sizes it, once
// there is something to carry. A buffer that is passed on in less than one and a half
// round trips is doubled: a host is not waited for, and waits for little.
const (
	// mostBuffer is what the kernel would let a buffer grow to as well.
	mostBuffer = 16 << 20
	// leastRTT stands for the round trips of nearer hosts: fast flows need room for what
	// comes while the loop has others to serve, and slow ones none that counts.
	leastRTT = 10 * time.Millisecond
)

// buffer is the receive buffer of a TCP leg.
type buffer struct {
	size  int       // in bytes; 0 is the kernel's choice
	moved uint64    // bytes of the stream, and
	at    time.Time // the time, when the size was last looked at
}

// fit looks at the buffer of the leg that a stream comes from, when as much as it
// holds has been moved since the last look.
func (s *stream) fit(moved uint64) {
	b := &s.from.buffer
	if s.from.mptcp || moved < Grown || moved-b.moved < uint64(b.size) {
		return
	}
	now := time.Now()
	switch {
	case b.size == 0:
		s.from.fixBuffer()
	case b.size < mostBuffer && now.Sub(b.at) < 3*max(s.from.rtt(), leastRTT)/2:
		s.from.setBuffer(2 * b.size)
	}
	b.moved, b.at = moved, now
}

// fixBuffer ends the kernel's fitting of the buffer. Before the handshake that would
// limit the window for good: it scales with the size of the buffer.
func (g *leg) fixBuffer() {
	_ = setsockopt(g.fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, unix.SOCK_RCVBUF_LOCK)
	g.buffer.size, _ = getsockoptInt(g.fd, unix.SOL_SOCKET, unix.SO_RCVBUF) // of a leg that is open
}

// setBuffer gives a TCP leg a larger buffer, and lets its window follow.
func (g *leg) setBuffer(size int) {
	g.buffer.size = size
	_ = setsockopt(g.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size/2) // the kernel doubles it
	_ = setsockopt(g.fd, unix.SOL_TCP, unix.TCP_WINDOW_CLAMP, size)
}

// rtt is the round trip of a TCP leg.
func (g *leg) rtt() time.Duration {
	var info unix.TCPInfo
	if getsockopt(g.fd, unix.SOL_TCP, unix.TCP_INFO, unsafe.Pointer(&info), unsafe.Sizeof(info)) != nil {
		return math.MaxInt32 // it has ended
	}
	return microseconds(info.Rtt)
}
