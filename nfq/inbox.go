package nfq

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// inbox receives several netlink messages with one system call (recvmmsg(2)),
// always into the same memory.
type inbox struct {
	headers [inboxMessages]mmsghdr
	iovecs  [inboxMessages]unix.Iovec
	buf     []byte
	size    int // of a message, at most
}

// mmsghdr is struct mmsghdr of sys/socket.h.
type mmsghdr struct {
	unix.Msghdr
	len uint32
}

const (
	inboxMessages = 16
	// A message is the largest IP packet and its attributes, or those alone.
	metaSize    = 1 << 9
	messageSize = 1<<16 + metaSize
)

func newInbox(metaOnly bool) *inbox {
	in := &inbox{size: messageSize}
	if metaOnly {
		in.size = metaSize
	}
	in.buf = make([]byte, inboxMessages*in.size)
	for i := range in.headers {
		in.iovecs[i].Base = &in.buf[i*in.size]
		in.iovecs[i].SetLen(in.size)
		in.headers[i].Iov = &in.iovecs[i]
		in.headers[i].SetIovlen(1)
	}
	return in
}

// receive takes what is there, and returns how many messages that was.
func (in *inbox) receive(fd uintptr) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.headers)), inboxMessages,
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// message returns what was received as number i.
func (in *inbox) message(i int) []byte {
	return in.buf[i*in.size:][:min(int(in.headers[i].len), in.size)]
}
