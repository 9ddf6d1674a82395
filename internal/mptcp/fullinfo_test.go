//go:build linux

package mptcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// subflowAddrs returns the local address of each subflow of an MPTCP socket
// (MPTCP_FULL_INFO, uapi linux/mptcp.h).
func subflowAddrs(fd int) ([]string, error) {
	const solMPTCP, fullInfo, most = 284, 4, 8
	type subflowInfo struct { // struct mptcp_subflow_info
		_             [2]uint32
		local, remote [128]byte
	}
	var subflows [most]subflowInfo
	var tcp [most]unix.TCPInfo
	full := struct { // struct mptcp_full_info
		tcpInfoKernel, tcpInfoUser uint32
		infoKernel, infoUser       uint32
		subflows, arrays           uint32
		subflowInfo, tcpInfo       unsafe.Pointer
		info                       [128]byte
	}{infoUser: uint32(unsafe.Sizeof(subflows[0])), arrays: most, subflowInfo: unsafe.Pointer(&subflows),
		tcpInfoUser: uint32(unsafe.Sizeof(tcp[0])), tcpInfo: unsafe.Pointer(&tcp)}
	var pin runtime.Pinner // the kernel writes through pointers inside full
	defer pin.Unpin()
	pin.Pin(&subflows)
	pin.Pin(&tcp)
	size := uint32(unsafe.Sizeof(full))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), solMPTCP, fullInfo,
		uintptr(unsafe.Pointer(&full)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, errno
	}
	var local []string
	states := unsafe.Slice((*byte)(unsafe.Pointer(&tcp)), unsafe.Sizeof(tcp)) // each the first byte of an element
	stride := min(full.tcpInfoKernel, full.tcpInfoUser)
	for i, s := range subflows[:full.subflows] {
		if binary.BigEndian.Uint16(s.remote[2:]) == 0 || states[uint32(i)*stride] == unix.BPF_TCP_CLOSE {
			continue // the place of the first subflow, which has left
		}
		a := netip.AddrFrom4([4]byte(s.local[4:8]))
		if binary.NativeEndian.Uint16(s.local[:]) == unix.AF_INET6 {
			a = netip.AddrFrom16([16]byte(s.local[8:24])).Unmap()
		}
		local = append(local, a.String())
	}
	return local, nil
}

// tokenOf returns the token of an MPTCP connection at this end (MPTCP_INFO, struct
// mptcp_info: six bytes of counts, padding, flags u32, token u32).
func tokenOf(t *testing.T, c net.Conn) (token uint32) {
	t.Helper()
	const solMPTCP, info, offToken = 284, 1, 12
	raw, err := c.(*net.TCPConn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) {
		var b [64]byte
		size := uint32(len(b))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, solMPTCP, info,
			uintptr(unsafe.Pointer(&b)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			err = errno
			return
		}
		token = binary.NativeEndian.Uint32(b[offToken:])
	}))
	check(t, err)
	return token
}
