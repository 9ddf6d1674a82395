//go:build linux

package relay

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// option is an integer socket option.
type option struct {
	name         string
	level, which int
	value        int
	// optional ones may fail: they tune, they do not decide.
	optional bool
}

// options of every socket of a box, by address family, and its mark. An own socket uses
// addresses of this machine only.
func (r *Relay) options(family int, mark uint32, own bool) []option {
	transparent := option{"IPV6_TRANSPARENT", unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1, false}
	if family == unix.AF_INET {
		transparent = option{"IP_TRANSPARENT", unix.SOL_IP, unix.IP_TRANSPARENT, 1, false}
	}
	idle := int(time.Duration(r.keepalive.Load()).Seconds())
	var onPath []option
	if !own && !r.cfg.OwnAddresses {
		onPath = []option{transparent, {"SO_MARK", unix.SOL_SOCKET, unix.SO_MARK, int(mark), false}}
	}
	return append(onPath, []option{
		// A client may use one port towards many servers.
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, false},
		{"TCP_NODELAY", unix.SOL_TCP, unix.TCP_NODELAY, 1, true},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, true},
		// Urgent data arrives in line. An MPTCP socket has none.
		{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 1, true},
		{"TCP_KEEPIDLE", unix.SOL_TCP, unix.TCP_KEEPIDLE, idle, true},
	}...)
}

// socket makes a non-blocking stream socket with the box's options, and that mark
// or the one of its side.
func (r *Relay) socket(family int, mptcp bool, mark uint32, own bool) (int, error) {
	protocol, of := unix.IPPROTO_TCP, r.cfg.PlainMark
	if mptcp {
		protocol, of = unix.IPPROTO_MPTCP, r.cfg.PathMark
	}
	mark = cmp.Or(mark, of)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	for _, o := range r.options(family, mark, own) {
		if err := setsockopt(fd, o.level, o.which, o.value); err != nil && !o.optional {
			unix.Close(fd)
			return -1, fmt.Errorf("setsockopt %s: %w", o.name, err)
		}
	}
	if size := r.cfg.PlainReceiveBuffer; !mptcp && size > 0 {
		setReceiveBuffer(fd, size)
	}
	return fd, nil
}

const (
	// pathKeepaliveInterval and pathKeepaliveProbes: a subflow ends that has answered none
	// of that many keepalives, one each interval. The kernel's default is 9 in 75 s each.
	pathKeepaliveInterval = time.Second
	pathKeepaliveProbes   = 4
	// patientProbes is the number of those that a subflow may leave without an answer if its
	// end is the end of the connection.
	patientProbes = 15
	// maxKeepalive is the kernel's limit (MAX_TCP_KEEPIDLE).
	maxKeepalive = 32767 * time.Second
)

// setKeepalive sets the idle time after which the subflows of an MPTCP socket are probed,
// those to come too (since Linux 6.10), and the number of probes without an answer that end one.
func setKeepalive(fd int, idle time.Duration, probes int) {
	for _, o := range []struct{ which, value int }{
		{unix.TCP_KEEPINTVL, int(pathKeepaliveInterval.Seconds())},
		{unix.TCP_KEEPCNT, probes},
		{unix.TCP_KEEPIDLE, int(min(max(idle, time.Second), maxKeepalive).Seconds())},
	} {
		_ = setsockopt(fd, unix.SOL_TCP, o.which, o.value) // it tunes, it does not decide
	}
}

// setReceiveBuffer gives a TCP socket a receive buffer of that size in bytes. The
// kernel goes on to fit it to what is read, which it does not to one that is locked,
// as setting it does.
func setReceiveBuffer(fd, size int) {
	forceReceiveBuffer(fd, size)
	unlockBuffers(fd)
}

// forceReceiveBuffer sets the size in bytes of a socket's receive buffer and locks
// it there. In a user namespace, which may not force it, the size is at most twice
// net.core.rmem_max. The size tunes, it does not decide: errors do not matter.
func forceReceiveBuffer(fd, size int) {
	size /= 2 // the kernel doubles it
	if setsockopt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		_ = setsockopt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
}

// unlockBuffers has the kernel fit a socket's buffers to what is read and written.
func unlockBuffers(fd int) {
	_ = setsockopt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0) // it tunes, it does not decide
}

// setTraits makes the socket's SYN like the client's, as far as the kernel allows it.
func (r *Relay) setTraits(fd int, d Dial) {
	tclass := option{"IPV6_TCLASS", unix.SOL_IPV6, unix.IPV6_TCLASS, int(d.DSCP) << 2, true}
	hops := option{"IPV6_UNICAST_HOPS", unix.SOL_IPV6, unix.IPV6_UNICAST_HOPS, int(d.HopLimit), true}
	if d.to().Addr().Is4() {
		tclass = option{"IP_TOS", unix.SOL_IP, unix.IP_TOS, int(d.DSCP) << 2, true}
		hops = option{"IP_TTL", unix.SOL_IP, unix.IP_TTL, int(d.HopLimit), true}
	}
	for _, o := range []option{tclass, hops} {
		if o.value != 0 {
			_ = setsockopt(fd, o.level, o.which, o.value) // it tunes, it does not decide
		}
	}
	if d.MSS != 0 {
		r.limitSegments(fd, d.MSS)
	}
}

// limitSegments sets a socket's MSS in bytes, if the kernel allows it.
func (r *Relay) limitSegments(fd int, bytes uint16) {
	err := setsockopt(fd, unix.SOL_TCP, unix.TCP_MAXSEG, int(bytes))
	if err != nil && r.cfg.LimitSegments != nil {
		_ = r.cfg.LimitSegments(fd, bytes) // it tunes, it does not decide
	}
}

// tune makes an MPTCP socket carry its bytes as configured, by subflows to come, too.
func (r *Relay) tune(fd int) error {
	if r.cfg.CongestionControl == "" {
		return nil
	}
	if err := unix.SetsockoptString(fd, unix.SOL_TCP, unix.TCP_CONGESTION, r.cfg.CongestionControl); err != nil {
		there, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_available_congestion_control") // without it the list is empty
		return fmt.Errorf("--congestion-control %q: %w; net.ipv4.tcp_available_congestion_control has %s", r.cfg.CongestionControl, err, strings.Join(strings.Fields(string(there)), ", "))
	}
	return nil
}

// tryTuning checks that the kernel knows the congestion control. It asks a TCP socket: an
// MPTCP socket accepts any name as long as it has no subflow.
func (r *Relay) tryTuning() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	return r.tune(fd)
}

// listener accepts the clients of one side and address family, or those that come to an
// address of this machine.
type listener struct {
	fd       int
	mptcp    bool
	local    netip.AddrPort
	explicit bool
}

// listen opens a listener on a free loopback port. One of MPTCP serves clients
// without it as well: the kernel hands those out as plain TCP sockets
// (mptcp_stream_accept). On loopback nobody but TPROXY reaches it.
func (r *Relay) listen(family int, mptcp bool) (listener, error) {
	loopback := netip.IPv6Loopback()
	if family == unix.AF_INET {
		loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return r.listenAt(netip.AddrPortFrom(loopback, 0), mptcp, false)
}

// listenAt opens a listener, an own socket or one of a side.
func (r *Relay) listenAt(addr netip.AddrPort, mptcp, own bool) (listener, error) {
	fd, err := r.socket(familyOf(addr.Addr()), mptcp, 0, own)
	if err != nil {
		return listener{}, err
	}
	local, err := bindAndListen(fd, addr)
	if err != nil {
		unix.Close(fd)
		return listener{}, err
	}
	return listener{fd: fd, mptcp: mptcp, local: local}, nil
}

// backlog of the listeners, cut by the kernel to net.core.somaxconn. Were it to
// overflow, SYN cookies would leave an ACK without a socket to be delivered to.
const backlog = 1 << 16

func bindAndListen(fd int, addr netip.AddrPort) (netip.AddrPort, error) {
	// There may be a listener of all IPv4 addresses beside one of all IPv6 addresses. Others do
	// without the option: its connections get no subflows over IPv4 (kernel: ipv6_only_sock).
	if addr.Addr() == netip.IPv6Unspecified() {
		_ = setsockopt(fd, unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err := bind(fd, addr); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("listen", err)
	}
	local, err := localOf(fd)
	return local, os.NewSyscallError("getsockname", err)
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// waitsForAnswer reports whether a socket has sent its SYN and got no answer. Of an MPTCP
// socket that is its first subflow.
func waitsForAnswer(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	return err == nil && info.State == unix.BPF_TCP_SYN_SENT
}

// closeWithReset closes fd so that its peer gets a reset (on an MPTCP
// connection an MP_FASTCLOSE, RFC 8684, section 3.5) instead of a FIN.
func closeWithReset(fd int) {
	// The option cannot fail on a stream socket; were it to, the close still ends the leg.
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	closeSocket(fd)
}
