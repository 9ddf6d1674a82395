package relay

import (
	"errors"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the loops are made without a word to Go's scheduler. It
// would take the processor from a goroutine that is in a call for more than 20 µs,
// as if it were blocked: these never block, the sockets are non-blocking, but
// moving 256 KiB takes longer than that. Handing processors to and fro costs more
// than the calls save by it (docs/adr/0016-loops.md).

// awake is how long a loop waits for events while it keeps its processor. Then it
// is idle and may wait as others do.
const awake = 2 * time.Millisecond

// read reads what is there into b, at most all of it.
func read(fd int, b []byte) (int, error) { return raw(unix.SYS_READ, fd, b) }

// write writes as much of b as there is room for.
func write(fd int, b []byte) (int, error) { return raw(unix.SYS_WRITE, fd, b) }

// raw repeats a call that a signal has interrupted.
func raw(call uintptr, fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// shutdown ends what is sent.
func shutdown(fd int) error {
	if _, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0); errno != 0 {
		return errno
	}
	return nil
}

// wait waits for events for some milliseconds, without end if these are negative.
// It may find none before.
func wait(epfd int, events []unix.EpollEvent, ms int) (int, error) {
	first := min(uint(ms), uint(awake.Milliseconds())) // a negative number is a large one
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(first), 0, 0)
	var err error
	switch {
	case errno != 0:
		n, err = 0, errno
	case n == 0 && ms != int(first):
		var found int
		found, err = unix.EpollWait(epfd, events, max(ms-int(first), -1))
		n = uintptr(max(found, 0))
	}
	if errors.Is(err, unix.EINTR) {
		return 0, nil
	}
	return int(n), err
}
