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
	chunk = 64 << 10
	// turn is how many chunks a stream may move before others have their turn.
	turn = 16
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
func (s *stream) move(buf []byte) (more bool, err error) {
	for range turn {
		if len(s.pending) > 0 {
			n, err := s.write(s.pending)
			if s.pending = s.pending[n:]; err != nil || len(s.pending) > 0 {
				return false, err
			}
			s.drop()
		}
		if s.ended {
			return false, s.shut()
		}
		n, err := retry(unix.Read, s.from.fd, buf)
		switch {
		case errors.Is(err, unix.EAGAIN):
			s.stalled = false
			return false, nil
		case err != nil:
			return false, err
		case n == 0:
			s.ended = true
			continue
		}
		w, err := s.write(buf[:n])
		if err != nil {
			return false, err
		}
		if w < n {
			s.keep(buf[w:n])
			return false, nil
		}
	}
	return true, nil
}

// write passes on what the other leg takes now.
func (s *stream) write(b []byte) (int, error) {
	n, err := retry(unix.Write, s.to.fd, b)
	if errors.Is(err, unix.EAGAIN) {
		n, err = 0, nil
	}
	if err != nil {
		return 0, err
	}
	s.moved.Add(uint64(n))
	s.stalled = n < len(b)
	return n, nil
}

// shut tells the other leg that no more will come.
func (s *stream) shut() error {
	if s.done {
		return nil
	}
	s.done, s.stalled = true, false
	err := unix.Shutdown(s.to.fd, unix.SHUT_WR)
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

// retry repeats a system call that a signal has interrupted.
func retry(call func(int, []byte) (int, error), fd int, b []byte) (int, error) {
	for {
		n, err := call(fd, b)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
