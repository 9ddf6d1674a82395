//go:build linux

package tests

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/pcaps"
)

// port is a place to capture: an interface of a host, or all interfaces, which are the
// interface "any" of the capture.
type port struct {
	host   *netlab.Host
	ifname string
	link   pcaps.LinkType // how frames are kept
	// inbound leaves out the host's own packets.
	inbound bool
}

// anyInterface is libpcap's name for all interfaces of a host.
const anyInterface = "any"

// framing has, by link type, the type of the packet socket, and the header to prepend
// to its frames (https://www.tcpdump.org/linktypes.html).
var framing = map[pcaps.LinkType]struct {
	socket int
	header func(*unix.SockaddrLinklayer) []byte
}{
	pcaps.LinkEthernet: {unix.SOCK_RAW, func(*unix.SockaddrLinklayer) []byte { return nil }},
	pcaps.LinkRaw:      {unix.SOCK_DGRAM, func(*unix.SockaddrLinklayer) []byte { return nil }},
	pcaps.LinkCooked:   {unix.SOCK_DGRAM, cooked},
	pcaps.LinkCooked2:  {unix.SOCK_DGRAM, cooked2},
}

// cooked returns the header of LINKTYPE_LINUX_SLL.
func cooked(from *unix.SockaddrLinklayer) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(from.Pkttype))
	b = binary.BigEndian.AppendUint16(b, from.Hatype)
	b = binary.BigEndian.AppendUint16(b, uint16(from.Halen))
	b = append(b, from.Addr[:]...)
	return binary.NativeEndian.AppendUint16(b, from.Protocol) // it is in network order
}

// cooked2 returns the header of LINKTYPE_LINUX_SLL2.
func cooked2(from *unix.SockaddrLinklayer) []byte {
	b := binary.NativeEndian.AppendUint16(nil, from.Protocol)
	b = append(b, 0, 0) // reserved
	b = binary.BigEndian.AppendUint32(b, uint32(from.Ifindex))
	b = binary.BigEndian.AppendUint16(b, from.Hatype)
	b = append(b, from.Pkttype, from.Halen)
	return append(b, from.Addr[:]...)
}

// sniffer captures whole frames on interfaces, like tcpdump.
type sniffer struct {
	socks   []*os.File
	readers sync.WaitGroup

	mu   sync.Mutex
	seen []pcaps.Frame
	last time.Time // of the last frame
}

// sniff starts to capture everything except UDP. It ends with stop, or with the test. The hosts must
// complete checksums: see [netlab.Host.CompleteChecksums].
func sniff(t *testing.T, ports ...port) *sniffer {
	t.Helper()
	s := &sniffer{last: time.Now()}
	t.Cleanup(func() { s.stop() })
	for i, p := range ports {
		var fd int
		err := p.host.Do(func() (err error) {
			fd, err = p.open()
			return err
		})
		if err != nil {
			t.Fatalf("sniff at %s:%s: %v", p.host.Name, p.ifname, err)
		}
		sock := os.NewFile(uintptr(fd), p.ifname)
		s.socks = append(s.socks, sock)
		s.readers.Go(func() { s.read(sock, i, p) })
	}
	return s
}

// open makes a socket that receives all frames of the port. It must be called on the host's thread.
func (p port) open() (_ int, err error) {
	fd, err := unix.Socket(unix.AF_PACKET, framing[p.link].socket|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}()
	to := &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))}
	if p.ifname != anyInterface {
		req, err := unix.NewIfreq(p.ifname)
		if err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, req)
		}
		if err != nil {
			return -1, err
		}
		to.Ifindex = int(req.Uint32())
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1); err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, to)
}

// read takes frames of the i-th port until its socket is closed.
func (s *sniffer) read(sock *os.File, i int, p port) {
	raw, err := sock.SyscallConn()
	if err != nil {
		return // closed already
	}
	buf, oob := make([]byte, 1<<16), make([]byte, 128)
	for err == nil {
		err = raw.Read(func(fd uintptr) bool {
			n, oobn, _, addr, err := unix.Recvmsg(int(fd), buf, oob, 0)
			if from, ok := addr.(*unix.SockaddrLinklayer); err == nil && ok {
				s.keep(p, i, from, buf[:n], oob[:oobn])
			}
			return !errors.Is(err, unix.EAGAIN)
		})
	}
}

func (s *sniffer) keep(p port, i int, from *unix.SockaddrLinklayer, b, oob []byte) {
	f := pcaps.Frame{Time: stamp(oob), Interface: i, Direction: pcaps.Inbound}
	if from.Pkttype == unix.PACKET_OUTGOING {
		f.Direction = pcaps.Outbound
	}
	if p.inbound && f.Direction == pcaps.Outbound || isUDP(p.link, b) {
		return
	}
	f.Data = append(framing[p.link].header(from), b...)
	f.Length = len(f.Data)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen, s.last = append(s.seen, f), time.Now()
}

// isUDP reports whether a frame is a UDP packet. The boxes probe their paths with UDP all the time.
func isUDP(link pcaps.LinkType, b []byte) bool {
	if link == pcaps.LinkEthernet {
		b = b[min(14, len(b)):]
	}
	if len(b) < 20 {
		return false
	}
	if b[0]>>4 == 4 {
		return b[9] == unix.IPPROTO_UDP
	}
	return b[0]>>4 == 6 && b[6] == unix.IPPROTO_UDP
}

// stamp returns the kernel's time of a packet (SCM_TIMESTAMPNS).
func stamp(oob []byte) time.Time {
	all, err := unix.ParseSocketControlMessage(oob)
	if err == nil && len(all) == 1 && len(all[0].Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
		return time.Unix((*unix.Timespec)(unsafe.Pointer(&all[0].Data[0])).Unix())
	}
	return time.Now()
}

// quiet waits until no frame has come for 300 ms.
func (s *sniffer) quiet(t *testing.T) {
	t.Helper()
	eventually(t, "a pause on the captured interfaces", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return time.Since(s.last) > 300*time.Millisecond
	})
}

// stop ends the capture and returns the frames in order of the kernel's clock.
func (s *sniffer) stop() []pcaps.Frame {
	for _, sock := range s.socks {
		sock.Close()
	}
	s.readers.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortStableFunc(s.seen, func(a, b pcaps.Frame) int { return a.Time.Compare(b.Time) })
	return s.seen
}
