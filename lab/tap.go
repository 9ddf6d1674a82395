package lab

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxHandshakes is how many packets a tap keeps; what comes later is only counted.
const maxHandshakes = 1 << 16

// Handshake is one TCP SYN or SYN+ACK that a tap has seen.
type Handshake struct {
	Time     time.Time // by the kernel
	Packet   []byte    // from the IP header on; an outgoing one may lack its TCP checksum
	Outgoing bool      // sent by the tapped host
}

// Tap keeps the handshakes that pass one interface.
type Tap struct {
	sock *os.File
	done chan struct{}

	mu     sync.Mutex
	seen   []Handshake
	missed int
}

// OpenTap starts to watch an interface of the host. The caller owes it a Close.
func OpenTap(h *Host, ifname string) (*Tap, error) {
	var fd int
	err := h.Do(func() (err error) {
		fd, err = openPacketSocket(ifname)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("tap %s:%s: %w", h.Name, ifname, err)
	}
	t := &Tap{sock: os.NewFile(uintptr(fd), "tap "+ifname), done: make(chan struct{})}
	go t.watch()
	return t, nil
}

// openPacketSocket makes a socket that gets the handshakes of one interface.
func openPacketSocket(ifname string) (_ int, err error) {
	// Without a protocol nothing arrives before the filter is in place.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}()
	index, err := interfaceIndex(fd, ifname)
	if err != nil {
		return -1, err
	}
	filter := handshakeFilter()
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return -1, os.NewSyscallError("attach filter", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return -1, os.NewSyscallError("setsockopt", err)
	}
	all := uint16(unix.ETH_P_ALL)
	err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all<<8 | all>>8, Ifindex: index})
	return fd, os.NewSyscallError("bind", err)
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

// watch reads packets until the socket is closed.
func (t *Tap) watch() {
	defer close(t.done)
	raw, err := t.sock.SyscallConn()
	if err != nil {
		return // closed already
	}
	buf := make([]byte, 1<<16)
	oob := make([]byte, unix.CmsgSpace(int(unsafe.Sizeof(unix.Timespec{}))))
	for {
		err := raw.Read(func(fd uintptr) bool {
			n, oobn, _, from, err := unix.Recvmsg(int(fd), buf, oob, 0)
			if err == nil {
				t.keep(buf[:n], oob[:oobn], from)
			}
			return !errors.Is(err, unix.EAGAIN)
		})
		if err != nil {
			return // closed
		}
	}
}

// keep notes the packet if it is of a handshake.
func (t *Tap) keep(packet, oob []byte, from unix.Sockaddr) {
	if !isHandshake(packet) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.seen) == maxHandshakes {
		t.missed++
		return
	}
	ll, ok := from.(*unix.SockaddrLinklayer)
	t.seen = append(t.seen, Handshake{
		Time:     timestamp(oob),
		Packet:   slices.Clone(packet),
		Outgoing: ok && ll.Pkttype == unix.PACKET_OUTGOING,
	})
}

// timestamp reads SCM_TIMESTAMPNS, or the clock if there is none.
func timestamp(oob []byte) time.Time {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err == nil {
		for _, m := range msgs {
			if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_TIMESTAMPNS &&
				len(m.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
				ts := *(*unix.Timespec)(unsafe.Pointer(&m.Data[0]))
				return time.Unix(ts.Unix())
			}
		}
	}
	return time.Now()
}

// Handshakes are the packets seen so far, in order. They must not be changed.
func (t *Tap) Handshakes() []Handshake {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.seen)
}

// Missed counts handshakes seen after the tap was full.
func (t *Tap) Missed() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.missed
}

// Close ends the watch. What was seen stays available.
func (t *Tap) Close() error {
	err := t.sock.Close()
	<-t.done
	return err
}
