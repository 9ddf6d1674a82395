//go:build linux

package nfq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// reinjector loops released SYNs over lo, for kernels without the expression `dup`. It
// keeps a copy of every packet until its verdict.
type reinjector struct {
	sockets map[Mark]int // of family AF_PACKET

	mu   sync.Mutex
	held map[uint32][]byte
}

func newReinjector() (*reinjector, error) {
	r := &reinjector{sockets: make(map[Mark]int), held: make(map[uint32][]byte)}
	for _, mark := range []Mark{ToPlain, ToPaths} {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // protocol 0: it receives nothing
		if err != nil {
			return nil, errors.Join(os.NewSyscallError("socket", err), r.close())
		}
		r.sockets[mark] = fd
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)); err != nil {
			return nil, errors.Join(os.NewSyscallError("setsockopt SO_MARK", err), r.close())
		}
	}
	return r, nil
}

func (r *reinjector) close() (err error) {
	for _, fd := range r.sockets {
		err = errors.Join(err, unix.Close(fd))
	}
	return err
}

// keep copies a packet.
func (r *reinjector) keep(p Packet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[p.ID] = slices.Clone(p.Payload)
}

// take forgets the copy of a packet and returns it.
func (r *reinjector) take(id uint32) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	packet := r.held[id]
	delete(r.held, id)
	return packet
}

// send sends a packet with one of the marks of released SYNs to lo.
func (r *reinjector) send(packet []byte, mark Mark) error {
	if len(packet) == 0 {
		return fmt.Errorf("loop a packet over lo: %w", unix.ENOENT)
	}
	protocol := uint16(unix.ETH_P_IPV6)
	if packet[0]>>4 == 4 {
		protocol = unix.ETH_P_IP
	}
	to := unix.SockaddrLinklayer{
		Protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, protocol)),
		Ifindex:  loopbackIndex, Halen: 6, // and the hardware address of lo, which is zero
	}
	if err := unix.Sendto(r.sockets[mark], packet, 0, &to); err != nil {
		return fmt.Errorf("loop a packet over lo: %w", err)
	}
	return nil
}
