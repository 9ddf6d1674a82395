package relay

import (
	"cmp"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	// chunk is how many bytes are read at once: large enough that a system call
	// costs little per byte, small enough to stay in the cache until written.
	chunk = 256 << 10
	// turn is how many bytes a stream may move before others have their turn: new
	// connections, above all, which wait for each stream that is busy.
	turn = 256 << 10
)

// chunks are buffers for bytes that one leg has given and the other does not take yet.
var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// stream is one direction of a relayed connection.
type stream struct {
	from, to *leg
	moved    atomic.Uint64
	pending  []byte       // read from one leg, not yet taken by the other
	held     *[chunk]byte // where pending lies
	stalled  bool         // waits for to, not for from
	ended    bool         // from has sent its FIN
	done     bool         // and to was told so
	cut      bool         // an error has ended from before a FIN, and all that came before is read
}

func (s *stream) init(from, to *leg) { s.from, s.to, s.stalled = from, to, true }

// move moves bytes until a read or a write would block, the stream ends, or its
// turn is over: then it reports more. An error ends a leg, not the stream: what came
// before it is still there to be read. Where the leg has ended that takes the bytes,
// they are read all the same and dropped: a server that has to send before it reads
// would otherwise never get what its client sent before a reset.
func (s *stream) move(l *loop) (more bool) {
	for left := turn; left > 0; {
		if s.to.err != nil {
			s.stalled = false
			s.drop()
		}
		switch {
		case len(s.pending) == 0 && (s.ended || s.cut):
			s.shut()
			return false
		case s.to.err == nil && l.full(s.to):
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

// endOf notes the end of the stream, which a read has found with that error or none. The
// first one that asks for the error of a socket gets it, others then find an end like
// that after a FIN. After a FIN the error is EPIPE (kernel: tcp_reset, mptcp_check_fastclose).
func (s *stream) endOf(err error) {
	s.from.fail(err)
	if gone := cmp.Or(err, s.from.err); gone == nil || errors.Is(gone, unix.EPIPE) {
		s.ended = true
	} else {
		s.cut = true
	}
}

// over reports whether the leg that takes the bytes has got all that there will be.
func (s *stream) over() bool { return len(s.pending) == 0 && (s.done || s.cut) }

// take takes what is there and passes it on, but for what it keeps as pending. It
// returns how many bytes it took: 0 at the end.
func (s *stream) take(l *loop) (n int, err error) {
	var before error
	if s.splices() {
		if n, before = s.splice(l); n > 0 {
			return n, nil
		}
	}
	n, err = read(s.from.fd, l.buf[:s.to.most()])
	if n == 0 && err == nil && !errors.Is(before, unix.EAGAIN) {
		err = before // the splice was given the error of the socket
	}
	if n > 0 && s.to.err == nil {
		if w := s.write(l.buf[:n]); w < n && s.to.err == nil {
			s.keep(l.buf[w:n])
		}
	}
	return n, err
}

// write passes on what the other leg takes now.
func (s *stream) write(b []byte) int {
	n, err := write(s.to.fd, b)
	if s.failed(err) {
		return 0
	}
	s.gave(n, len(b))
	return n
}

// failed reports whether the leg that takes the bytes has ended, by the error of a write.
func (s *stream) failed(err error) bool {
	if err == nil || errors.Is(err, unix.EAGAIN) {
		return false
	}
	s.to.fail(err)
	return true
}

// gave notes that the other leg took n of the bytes that there were for it.
func (s *stream) gave(n, of int) {
	now := s.moved.Add(uint64(n))
	if now >= Grown && now-uint64(n) < Grown {
		s.to.conn.relay.cfg.Events.Grown(s.to.conn)
	}
	s.fit(now)
	s.stalled = n < of
	s.to.allowance.bytes -= n
}

// shut tells the other leg that no more will come after a FIN. When both streams have
// ended that is left to the closing of the legs, which comes next.
func (s *stream) shut() {
	if s.done || s.cut || s.to.err != nil {
		return
	}
	s.done, s.stalled = true, false
	if c := s.to.conn; c.up.done && c.down.done {
		return
	}
	// ENOTCONN: the leg was closed meanwhile, and has said so or will.
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
