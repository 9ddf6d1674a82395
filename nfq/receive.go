//go:build linux

package nfq

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// receiver reads several netlink messages with one system call (recvmmsg(2)), into
// memory that it reuses.
type receiver struct {
	headers [receiverMessages]mmsghdr
	iovecs  [receiverMessages]unix.Iovec
	buf     []byte
	size    int // of the largest message, in bytes
}

// mmsghdr is struct mmsghdr of sys/socket.h.
type mmsghdr struct {
	unix.Msghdr
	len uint32
}

const (
	receiverMessages = 16
	// Bytes of a message: attributes alone, or with the largest IP packet.
	metaSize    = 1 << 9
	messageSize = 1<<16 + metaSize
)

func newReceiver(metaOnly bool) *receiver {
	r := &receiver{size: messageSize}
	if metaOnly {
		r.size = metaSize
	}
	r.buf = make([]byte, receiverMessages*r.size)
	for i := range r.headers {
		r.iovecs[i].Base = &r.buf[i*r.size]
		r.iovecs[i].SetLen(r.size)
		r.headers[i].Iov = &r.iovecs[i]
		r.headers[i].SetIovlen(1)
	}
	return r
}

// receive reads the messages that wait, without blocking, and returns their number.
func (r *receiver) receive(fd uintptr) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&r.headers)), receiverMessages,
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// message returns the i-th message of the last call of receive, which overwrites it.
func (r *receiver) message(i int) []byte {
	return r.buf[i*r.size:][:min(int(r.headers[i].len), r.size)]
}
