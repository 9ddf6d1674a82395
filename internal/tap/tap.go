//go:build linux

package tap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxPacket is the largest packet, in bytes. Longer ones would be cut.
const maxPacket = 1 << 16

// receiveBuffer is the size of the socket's buffer in bytes: some 10,000 packets.
const receiveBuffer = 16 << 20

// Packet is a captured packet.
type Packet struct {
	Time      time.Time // from the kernel
	Interface int       // index
	Outgoing  bool      // sent, not received
	// Data begins with the IP header and may end with Ethernet padding. It is valid until
	// the next Poll. The checksum of a packet that has not left its host yet may be
	// incomplete, for the interface to complete (CHECKSUM_PARTIAL).
	Data []byte
}

// Tap is an open packet socket. It is not safe for concurrent use.
type Tap struct {
	fd   int
	data [maxPacket]byte
	oob  [64]byte // for one timespec
}

// Open starts to capture at an interface of the calling thread's network namespace, or
// at all interfaces if name is empty. The caller must call Close.
func Open(name string) (*Tap, error) {
	// With protocol 0 no packet arrives before the filter is attached.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("tap: %w", os.NewSyscallError("socket", err))
	}
	t := &Tap{fd: fd}
	if err := t.setUp(fd, name); err != nil {
		return nil, errors.Join(fmt.Errorf("tap: %w", err), t.Close())
	}
	return t, nil
}

func (t *Tap) setUp(fd int, name string) error {
	index := 0
	if name != "" {
		var err error
		if index, err = interfaceIndex(fd, name); err != nil {
			return err
		}
	}
	program := filter()
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}); err != nil {
		return os.NewSyscallError("attach filter", err)
	}
	for _, o := range []struct{ level, which, value int }{
		{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.which, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	// Beyond net.core.rmem_max, with CAP_NET_ADMIN only.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index})
	return os.NewSyscallError("bind", err)
}

func interfaceIndex(fd int, name string) (int, error) {
	req, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req); err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return int(req.Uint32()), nil
}

// Poll reads the next packet into p. It reports false if none is waiting.
func (t *Tap) Poll(p *Packet) (bool, error) {
	n, oobn, _, from, err := unix.Recvmsg(t.fd, t.data[:], t.oob[:], unix.MSG_DONTWAIT)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("tap: %w", os.NewSyscallError("recvmsg", err))
	}
	*p = Packet{Time: timestamp(t.oob[:oobn]), Data: t.data[:n]}
	if ll, ok := from.(*unix.SockaddrLinklayer); ok {
		p.Interface, p.Outgoing = ll.Ifindex, ll.Pkttype == unix.PACKET_OUTGOING
	}
	return true, nil
}

// timestamp returns the time in the control message SCM_TIMESTAMPNS, or now without one.
func timestamp(oob []byte) time.Time {
	if len(oob) < unix.SizeofCmsghdr {
		return time.Now()
	}
	h, data, _, err := unix.ParseOneSocketControlMessage(oob)
	if err != nil || h.Level != unix.SOL_SOCKET || h.Type != unix.SCM_TIMESTAMPNS ||
		len(data) < int(unsafe.Sizeof(unix.Timespec{})) {
		return time.Now()
	}
	ts := *(*unix.Timespec)(unsafe.Pointer(&data[0]))
	return time.Unix(ts.Unix())
}

// Drops returns the number of packets that the kernel has dropped since the last call,
// because the socket's buffer was full (PACKET_STATISTICS).
func (t *Tap) Drops() uint64 {
	s, err := unix.GetsockoptTpacketStats(t.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0 // cannot be: every packet socket has the option
	}
	return uint64(s.Drops)
}

// Close closes the socket.
func (t *Tap) Close() error { return os.NewSyscallError("close", unix.Close(t.fd)) }
