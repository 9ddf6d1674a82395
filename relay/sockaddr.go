//go:build linux

package relay

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sockaddr is a struct sockaddr_storage. Those of x/sys cost an allocation, and
// a system call that asks for the socket's protocol, each time that one is read.
type sockaddr [128]byte

// sockaddrOf returns a as a struct sockaddr_in or sockaddr_in6, and its size.
func sockaddrOf(a netip.AddrPort) (s sockaddr, size uintptr) {
	binary.BigEndian.PutUint16(s[2:], a.Port())
	if a.Addr().Is4() {
		binary.NativeEndian.PutUint16(s[:], unix.AF_INET)
		addr := a.Addr().As4()
		copy(s[4:], addr[:])
		return s, unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(s[:], unix.AF_INET6)
	addr := a.Addr().As16()
	copy(s[8:], addr[:])
	return s, unix.SizeofSockaddrInet6
}

// addrPort returns what s says, the zero AddrPort if it is of another family.
func (s *sockaddr) addrPort() netip.AddrPort {
	port := binary.BigEndian.Uint16(s[2:])
	switch binary.NativeEndian.Uint16(s[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(s[4:8])), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(s[8:24])).Unmap(), port)
	}
	return netip.AddrPort{}
}

// bind gives a socket its own address.
func bind(fd int, a netip.AddrPort) error { return point(unix.SYS_BIND, fd, a) }

// connect begins to connect a socket.
func connect(fd int, a netip.AddrPort) error { return point(unix.SYS_CONNECT, fd, a) }

func point(call uintptr, fd int, a netip.AddrPort) error {
	s, size := sockaddrOf(a)
	_, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&s)), size)
	return errorOf(errno)
}

// localOf returns a socket's own address: for a client that TPROXY delivered, its server's.
func localOf(fd int) (netip.AddrPort, error) { return ask(unix.SYS_GETSOCKNAME, fd) }

// peerOf returns the address that a socket is connected to.
func peerOf(fd int) (netip.AddrPort, error) { return ask(unix.SYS_GETPEERNAME, fd) }

func ask(call uintptr, fd int) (netip.AddrPort, error) {
	var s sockaddr
	size := uint32(len(s))
	_, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(&s)), uintptr(unsafe.Pointer(&size)))
	return s.addrPort(), errorOf(errno)
}

// accept takes a client from a listener, and its address. Its socket does not block.
func accept(fd int) (int, netip.AddrPort, error) {
	var s sockaddr
	size := uint32(len(s))
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&s)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int(n), s.addrPort(), errorOf(errno)
}

// errorOf is nil for a call that did not fail.
func errorOf(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}
