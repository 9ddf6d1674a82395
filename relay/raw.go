//go:build linux

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
// moving 256 KiB takes longer than that, and so may a connect or a close, whose
// packets the kernel takes on their way. Handing processors to and fro costs more
// than the calls save by it (docs/adr/0016-loops.md).

// awake is the time that a loop waits for events without giving its processor up. Then it
// is idle and may wait as others do.
const awake = 2 * time.Millisecond

// read reads available bytes into b, at most len(b).
func read(fd int, b []byte) (int, error) { return raw(unix.SYS_READ, fd, b) }

// write writes as much of b as there is room for.
func write(fd int, b []byte) (int, error) { return raw(unix.SYS_WRITE, fd, b) }

// raw repeats a call that a signal has interrupted.
func raw(call uintptr, fd int, b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

// splice moves at most so many bytes that are there from one descriptor to another,
// one of them that of a pipe.
func splice(from, to, most int) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), unix.SPLICE_F_NONBLOCK)
		if errno != unix.EINTR {
			return result(n, errno)
		}
	}
}

// result of a call that has moved n bytes, if it has not failed.
func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// shutdown sends a FIN after the bytes of the send queue.
func shutdown(fd int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	return errorOf(errno)
}

// closeSocket closes a socket. That cannot fail, and sends a FIN meanwhile.
func closeSocket(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// setsockopt sets an option that is a number.
func setsockopt(fd, level, name, value int) error {
	n := int32(value)
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&n)), unsafe.Sizeof(n), 0)
	return errorOf(errno)
}

// getsockopt reads an option of that size.
func getsockopt(fd, level, name int, value unsafe.Pointer, size uintptr) error {
	n := uint32(size)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(value), uintptr(unsafe.Pointer(&n)), 0)
	return errorOf(errno)
}

// getsockoptInt reads an option that is a number.
func getsockoptInt(fd, level, name int) (int, error) {
	var n int32
	err := getsockopt(fd, level, name, unsafe.Pointer(&n), unsafe.Sizeof(n))
	return int(n), err
}

// unacknowledged returns the number of bytes in a socket, a FIN included, that its peer has
// not acknowledged: for an MPTCP socket by DATA_ACK (kernel: tcp_ioctl, mptcp_ioctl_outq).
func unacknowledged(fd int) (int, error) {
	var n int32
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCOUTQ, uintptr(unsafe.Pointer(&n)))
	return int(n), errorOf(errno)
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
