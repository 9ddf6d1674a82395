//go:build linux

package relay

import (
	"os"

	"golang.org/x/sys/unix"
)

// bulk (bytes) is the size from which a stream is spliced: for a few bytes now and then a copy
// is cheaper than two system calls.
const bulk = 1 << 20

// pipe is the intermediate pipe of splice(2). A loop has one: it is empty between
// two uses, so bytes of one connection never wait for another.
type pipe struct{ r, w int }

func newPipe() (pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		return pipe{}, os.NewSyscallError("pipe2", err)
	}
	// It holds as many pieces of packets as it has pages: more than a chunk has. Where
	// there is no more memory for pipes it takes less at once.
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, 4*chunk)
	return pipe{fds[0], fds[1]}, nil
}

func (p pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// drain reads the bytes that a splice has left in the pipe.
func (p pipe) drain(b []byte) {
	for len(b) > 0 {
		n, err := read(p.r, b)
		if err != nil || n == 0 {
			panic("relay: a pipe has fewer bytes than were put into it")
		}
		b = b[n:]
	}
}

// splices reports whether bytes of a stream go from socket to socket without a copy. From MPTCP the kernel (6.18) would copy them into
// fresh pages, which costs more than to read and write them. For a leg with a
// send budget it saves nothing that counts, and bbr got less out of a line with losses.
func (s *stream) splices() bool {
	return !s.from.mptcp && s.to.err == nil && s.moved.Load() >= bulk && s.most() == chunk
}

// splice is take without a copy into the process. It returns the error of the sending leg. A
// splice of 0 bytes may mean the end or urgent data: a read distinguishes them, and gets
// past urgent data.
func (s *stream) splice(l *loop) (taken int, err error) {
	if taken, err = splice(s.from.fd, l.pipe.w, s.most()); err != nil {
		return 0, err
	}
	given, n := 0, taken
	for n > 0 && given < taken {
		n, err = splice(l.pipe.r, s.to.fd, taken-given)
		given += n
	}
	s.gave(given, taken)
	if given < taken {
		l.pipe.drain(l.buf[:taken-given])
		if !s.failed(err) {
			s.keep(l.buf[:taken-given])
		}
	}
	return taken, nil
}
