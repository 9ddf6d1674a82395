//go:build linux

package relay

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// chunk (bytes) limits one read: large enough that a system call costs little per
	// byte, small enough to stay in the cache until written.
	chunk = 256 << 10
	// quantum (bytes) is the share of a stream before the loop serves others, above all new
	// connections, which wait for each busy stream.
	quantum = 256 << 10
)

// chunks are buffers for bytes read from one leg that the other does not take yet.
var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// stream is one direction of a relayed connection.
type stream struct {
	from, to *leg
	moved    atomic.Uint64
	pending  []byte       // read from one leg, not yet taken by the other
	held     *[chunk]byte // where pending lies
	stalled  bool         // the stream waits for to, not for from
	ended    bool         // the FIN of from is read
	done     atomic.Bool  // the FIN is passed on to to
	hold     hold         // of the FIN
	cut      bool         // an error has ended from without a FIN, and all bytes before are read
	share    metered      // of the meter of a user
}

func (s *stream) init(from, to *leg) { s.from, s.to, s.stalled = from, to, true }

// move moves bytes until a read or a write would block or the stream ends, or up to a
// quantum: then it reports more. An error ends a leg, not the stream: the bytes before the
// error are still there to be read. If an error has ended the receiving leg, the stream
// reads and drops the bytes. Otherwise a server that sends before it reads would never get
// the bytes of its client before a reset.
func (s *stream) move(l *loop) (more bool) {
	for left := quantum; left > 0; {
		if s.to.err != nil {
			s.stalled = false
			s.drop()
		}
		switch {
		case len(s.pending) == 0 && (s.ended || s.cut):
			s.shut(l)
			return false
		case s.to.err == nil && (l.outOfBudget(s.to) || l.beforeItsTurn(s)):
			s.stalled = true
			return false
		case len(s.pending) > 0:
			n := s.write(s.pending)
			s.pending = s.pending[n:]
			if s.blocked() {
				return false
			}
			left -= n
			s.drop()
			continue
		}
		n, err := s.take(l)
		switch {
		case errors.Is(err, unix.EAGAIN):
			s.stalled, s.from.buffer.dry = false, true
			return false
		case n == 0:
			s.endOf(err)
		case s.blocked():
			return false
		}
		left -= n
	}
	return true
}

// blocked reports whether the stream waits for room in the leg that takes the bytes.
func (s *stream) blocked() bool { return s.stalled && s.to.err == nil }

// endOf notes the end of the stream, found by a read with or without an error. The kernel
// gives the error of a socket to one call only; later reads return 0, as after a FIN. The
// error of a reset after a FIN is EPIPE (kernel: tcp_reset, mptcp_check_fastclose).
func (s *stream) endOf(err error) {
	s.from.fail(err)
	if gone := cmp.Or(err, s.from.err); gone == nil || errors.Is(gone, unix.EPIPE) {
		s.ended = true
	} else {
		s.cut = true
	}
}

// over reports whether the stream has ended and its receiving leg has all bytes.
func (s *stream) over() bool { return len(s.pending) == 0 && (s.done.Load() || s.cut) }

// take reads available bytes and passes them on; the rest becomes pending. It returns the
// number of bytes read: 0 at the end.
func (s *stream) take(l *loop) (n int, err error) {
	var before error
	if s.splices() {
		if n, before = s.splice(l); n > 0 {
			return n, nil
		}
	}
	n, err = read(s.from.fd, l.buf[:s.most()])
	if n == 0 && err == nil && !errors.Is(before, unix.EAGAIN) {
		err = before // the splice has consumed the error of the socket
	}
	if n > 0 && s.to.err == nil {
		if w := s.write(l.buf[:n]); w < n && s.to.err == nil {
			s.keep(l.buf[w:n])
		}
	}
	return n, err
}

// write passes on as many bytes as the other leg has room for.
func (s *stream) write(b []byte) int {
	n, err := write(s.to.fd, b)
	if s.failed(err) {
		return 0
	}
	s.gave(n, len(b))
	return n
}

// failed notes the error of a write and reports whether it has ended the receiving leg.
func (s *stream) failed(err error) bool {
	if err == nil || errors.Is(err, unix.EAGAIN) {
		return false
	}
	s.to.fail(err)
	return true
}

// gave notes that the other leg took n of some bytes.
func (s *stream) gave(n, of int) {
	now := s.moved.Add(uint64(n))
	if now >= CarriedBytes && now-uint64(n) < CarriedBytes {
		s.to.conn.relay.cfg.Events.Carried(s.to.conn)
	}
	s.fit(now)
	s.stalled = n < of
	s.to.budget.bytes -= n
	s.share.charge(n)
}

// shut passes a FIN on to the other leg, now or later. The second FIN of a connection is left to the close
// of the legs, which follows.
func (s *stream) shut(l *loop) {
	if s.done.Load() || s.cut || s.to.err != nil || l.holds(s) {
		return
	}
	s.done.Store(true)
	s.stalled = false
	if c := s.to.conn; c.up.done.Load() && c.down.done.Load() {
		return
	}
	// ENOTCONN: the leg was closed meanwhile; its event has come or will.
	if err := shutdown(s.to.fd); err != nil && !errors.Is(err, unix.ENOTCONN) {
		s.to.fail(err)
	}
}

// keep holds on to bytes until the other leg takes them.
func (s *stream) keep(b []byte) {
	buf := chunks.Get().(*[chunk]byte)
	s.pending = buf[:copy(buf[:], b)]
	s.held = buf
}

// drop gives the buffer of pending back.
func (s *stream) drop() {
	if s.held != nil {
		chunks.Put(s.held)
		s.held, s.pending = nil, nil
	}
}
