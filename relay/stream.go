package relay

import (
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
}

func (s *stream) init(from, to *leg) { s.from, s.to, s.stalled = from, to, true }

// move moves bytes until a read or a write would block, the stream ends, or its
// turn is over: then it reports more. An error is the reset of one of the legs.
func (s *stream) move(l *loop) (more bool, err error) {
	for left := turn; left > 0; {
		if s.ended && len(s.pending) == 0 {
			return false, s.shut()
		}
		if l.full(s.to) {
			s.stalled = true
			return false, nil
		}
		if len(s.pending) > 0 {
			n, err := s.write(s.pending)
			if s.pending = s.pending[n:]; err != nil || len(s.pending) > 0 {
				return false, err
			}
			left -= n
			s.drop()
			continue
		}
		n, err := s.take(l)
		switch {
		case errors.Is(err, unix.EAGAIN):
			s.stalled, s.from.buffer.dry = false, true
			return false, nil
		case err != nil || len(s.pending) > 0:
			return false, err
		case n == 0:
			s.ended = true
		}
		left -= n
	}
	return true, nil
}

// take takes what is there and passes it on, but for what it keeps as pending. It
// returns how many bytes it took: 0 at the end.
func (s *stream) take(l *loop) (n int, err error) {
	if s.splices() {
		if n, err = s.splice(l); n > 0 {
			return n, err
		}
	}
	if n, err = read(s.from.fd, l.buf[:s.to.most()]); n == 0 {
		return 0, err
	}
	w, err := s.write(l.buf[:n])
	if err == nil && w < n {
		s.keep(l.buf[w:n])
	}
	return n, err
}

// write passes on what the other leg takes now.
func (s *stream) write(b []byte) (int, error) {
	n, err := write(s.to.fd, b)
	if errors.Is(err, unix.EAGAIN) {
		n, err = 0, nil
	}
	if err != nil {
		return 0, err
	}
	s.gave(n, len(b))
	return n, nil
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

// shut tells the other leg that no more will come. When both streams have ended
// that is left to the closing of the legs, which comes next.
func (s *stream) shut() error {
	if s.done {
		return nil
	}
	s.done, s.stalled = true, false
	if c := s.to.conn; c.up.done && c.down.done {
		return nil
	}
	err := shutdown(s.to.fd)
	if errors.Is(err, unix.ENOTCONN) {
		return nil // it was closed meanwhile, and has said so or will
	}
	return err
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
