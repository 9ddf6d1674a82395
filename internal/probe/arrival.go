//go:build linux

package probe

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// namesInterface has the kernel say with each datagram by which interface it has come.
func namesInterface(fd int, local netip.Addr) error {
	if local.Is4() {
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_PKTINFO, 1)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
}

// cameBy returns the index of the interface by which a datagram has come, 0 if that is not
// known: the field ipi_ifindex of struct in_pktinfo (uapi linux/in.h), or ipi6_ifindex of struct
// in6_pktinfo (uapi linux/ipv6.h).
func cameBy(control []byte) int {
	all, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range all {
		switch h := m.Header; {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return int(binary.NativeEndian.Uint32(m.Data))
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return int(binary.NativeEndian.Uint32(m.Data[16:]))
		}
	}
	return 0
}
