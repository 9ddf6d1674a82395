//go:build linux

package relay

import (
	"net/netip"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// uapi linux/mptcp.h.
const (
	solMPTCP      = 284
	mptcpInfo     = 1 // MPTCP_INFO
	mptcpTCPInfo  = 2 // MPTCP_TCPINFO
	mptcpFullInfo = 4 // MPTCP_FULL_INFO, since Linux 6.5
	flagFallback  = 1 // MPTCP_INFO_FLAG_FALLBACK
	maxSubflows   = 8
)

// rawInfo is the head of struct mptcp_info, as far as it is read here.
type rawInfo struct {
	subflows, addAddrSignal, addAddrAccepted    uint8
	subflowsMax, addAddrSignalMax, addAddrAcMax uint8
	flags                                       uint32
	token                                       uint32
	writeSeq, sndUna, rcvNxt                    uint64
	_                                           [16]byte
	bytesSent                                   uint64 // that subflows were given, 0 from a kernel before 6.5
	bytesReceived                               uint64 // in order, 0 from a kernel before 6.5
	_                                           [32]byte
}

// rawSubflow is struct mptcp_subflow_info: two sockaddr_storage after an ID.
type rawSubflow struct {
	_             [2]uint32
	local, remote sockaddr
}

// rawFullInfo is struct mptcp_full_info.
type rawFullInfo struct {
	sizeTCPInfoKernel, sizeTCPInfoUser uint32
	sizeSFInfoKernel, sizeSFInfoUser   uint32
	subflows, sizeArrays               uint32
	subflowInfo, tcpInfo               uint64 // addresses of arrays, of 64 bits on every machine
	info                               rawInfo
}

// fullInfoArrays are the arrays that a rawFullInfo points to: 4 KiB, which every connection
// needs for a moment.
type fullInfoArrays struct {
	subflows [maxSubflows]rawSubflow
	tcp      [maxSubflows]unix.TCPInfo
}

var arrays = sync.Pool{New: func() any { return new(fullInfoArrays) }}

// rawTCPInfos is struct mptcp_subflow_data and the array that follows it.
type rawTCPInfos struct {
	size, subflows, sizeKernel, sizeUser uint32
	tcp                                  [maxSubflows]unix.TCPInfo
}

// read asks for the state of each subflow of an MPTCP socket. The slice is part of r.
func (r *rawTCPInfos) read(fd int) ([]unix.TCPInfo, error) {
	r.size, r.sizeUser = uint32(unsafe.Offsetof(r.tcp)), uint32(unsafe.Sizeof(r.tcp[0]))
	if err := getsockopt(fd, solMPTCP, mptcpTCPInfo, unsafe.Pointer(r), unsafe.Sizeof(*r)); err != nil {
		return nil, err
	}
	spread(&r.tcp, uintptr(r.sizeKernel))
	return r.tcp[:min(r.subflows, maxSubflows)], nil
}

// spread moves the elements of an array that the kernel has filled to their places. Where its struct
// tcp_info is shorter, of that size in bytes, they lie closer together (mptcp_getsockopt_tcpinfo).
func spread(all *[maxSubflows]unix.TCPInfo, kernel uintptr) {
	const size = unsafe.Sizeof(all[0])
	if kernel == 0 || kernel >= size {
		return
	}
	b := unsafe.Slice((*byte)(unsafe.Pointer(all)), unsafe.Sizeof(*all))
	for i := uintptr(maxSubflows); i > 0; i-- {
		at := (i - 1) * size
		copy(b[at:], b[(i-1)*kernel:i*kernel])
		clear(b[at+kernel : at+size])
	}
}

// Subflow is one subflow of a multipath leg, or a TCP leg as a whole.
type Subflow struct {
	Local, Remote            netip.AddrPort
	RTT                      time.Duration
	BytesSent, BytesReceived uint64
	Retransmitted            uint64 // bytes, among those sent
	Acknowledged             uint64 // bytes
	UnderWay                 uint64 // bytes in flight, and those not sent yet
	MinRTT                   time.Duration

	left bool // it has, although the kernel still lists it
}

// Info holds the kernel's figures of a multipath leg.
type Info struct {
	MPTCP    bool   // false after a fallback to TCP
	Token    uint32 // of this end; 0 without MPTCP
	Subflows []Subflow

	// UnderWay is the number of bytes that subflows have got, but that are not acknowledged
	// to the connection (DATA_ACK). A byte that arrives before an earlier one, of another
	// subflow, is acknowledged to its subflow only.
	UnderWay uint64
	InOrder  uint64 // bytes received in order; 0 from a kernel before 6.5
	Buffered uint64 // memory of received bytes that were not read, whether in order or not

	assigned uint64 // bytes that subflows have got; 0 from a kernel before 6.5
}

// Info returns the kernel's figures of the multipath leg, or the last ones before it was
// closed. It reports false when there is no such leg yet.
func (c *Conn) Info() (Info, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info, ok := c.info()
	if c.phase != closed {
		if info.MPTCP {
			info.Buffered = buffered(c.multipath().fd)
		}
		c.note(info)
		info.Subflows = slices.DeleteFunc(slices.Clone(info.Subflows), func(s Subflow) bool { return s.left })
	}
	return info, ok
}

func (c *Conn) info() (Info, bool) {
	g := c.multipath()
	switch {
	case c.phase == closed:
		return c.last, true
	case g.conn == nil || c.phase == dialing:
		return Info{}, false
	}
	if g.mptcp {
		if info, err := fullInfo(g.fd); err == nil && info.MPTCP {
			info.UnderWay -= min(info.UnderWay, g.unassignedOf(info))
			return info, true
		}
	}
	info, err := tcpInfo(g.fd)
	return info, err == nil
}

// Token returns the token of the multipath leg, by which path managers know the
// connection, or 0 if it is none, or had fallen back to TCP at the first call.
func (c *Conn) Token() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == closed {
		return 0
	}
	return c.token()
}

// token is [Conn.Token] of a connection that is not closed. It is called with c.mu held.
func (c *Conn) token() uint32 {
	g := c.multipath()
	if g.conn == nil || !g.mptcp {
		return 0
	}
	if g.token == 0 {
		var raw rawInfo
		if err := getsockopt(g.fd, solMPTCP, mptcpInfo, unsafe.Pointer(&raw), unsafe.Sizeof(raw)); err == nil && raw.flags&flagFallback == 0 {
			g.token = raw.token
		}
	}
	return g.token
}

func fullInfo(fd int) (Info, error) {
	a := arrays.Get().(*fullInfoArrays)
	defer arrays.Put(a)
	raw := rawFullInfo{
		sizeTCPInfoUser: uint32(unsafe.Sizeof(a.tcp[0])),
		sizeSFInfoUser:  uint32(unsafe.Sizeof(a.subflows[0])),
		sizeArrays:      maxSubflows,
		subflowInfo:     uint64(uintptr(unsafe.Pointer(&a.subflows))),
		tcpInfo:         uint64(uintptr(unsafe.Pointer(&a.tcp))),
	}
	if err := getsockopt(fd, solMPTCP, mptcpFullInfo, unsafe.Pointer(&raw), unsafe.Sizeof(raw)); err != nil {
		return Info{}, err
	}
	spread(&a.tcp, uintptr(raw.sizeTCPInfoKernel))
	info := Info{
		MPTCP: raw.info.flags&flagFallback == 0, Token: raw.info.token,
		UnderWay: raw.info.writeSeq - raw.info.sndUna, InOrder: raw.info.bytesReceived, assigned: raw.info.bytesSent,
	}
	for i := range min(raw.subflows, maxSubflows) {
		// The kernel keeps the first subflow's place after it has left, in the end
		// without an address.
		s := &a.subflows[i]
		if remote := s.remote.addrPort(); remote.Port() != 0 {
			info.Subflows = append(info.Subflows, subflowOf(s.local.addrPort(), remote, &a.tcp[i]))
		}
	}
	return info, nil
}

// unassignedOf returns the bytes that no subflow has got, while the leg may be moving bytes.
func (g *leg) unassignedOf(info Info) uint64 {
	if g.conn.phase != paired {
		return 0
	}
	return uint64(g.unassigned(info.assigned))
}

// buffered returns the memory of a socket's received bytes (SO_MEMINFO, SK_MEMINFO_RMEM_ALLOC
// of uapi linux/sock_diag.h).
func buffered(fd int) uint64 {
	var info [9]uint32
	if getsockopt(fd, unix.SOL_SOCKET, unix.SO_MEMINFO, unsafe.Pointer(&info), unsafe.Sizeof(info)) != nil {
		return 0
	}
	return uint64(info[0])
}

// tcpInfo shows a plain TCP connection as the one subflow that it is.
func tcpInfo(fd int) (Info, error) {
	ti, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	if err != nil {
		return Info{}, err
	}
	local, err := localOf(fd)
	if err != nil {
		return Info{}, err
	}
	peer, err := peerOf(fd)
	if err != nil {
		return Info{}, err
	}
	if peer.Port() == 0 { // an MPTCP socket whose subflows have all left
		return Info{}, unix.ENOTCONN
	}
	return Info{Subflows: []Subflow{subflowOf(local, peer, ti)}}, nil
}

func subflowOf(local, remote netip.AddrPort, ti *unix.TCPInfo) Subflow {
	return Subflow{
		Local: local, Remote: remote, RTT: time.Duration(ti.Rtt) * time.Microsecond,
		BytesSent: ti.Bytes_sent, BytesReceived: ti.Bytes_received, Retransmitted: ti.Bytes_retrans,
		Acknowledged: ti.Bytes_acked, UnderWay: uint64(ti.Unacked)*uint64(ti.Snd_mss) + uint64(ti.Notsent_bytes),
		MinRTT: microseconds(ti.Min_rtt),
		left:   ti.State == unix.BPF_TCP_CLOSE,
	}
}
