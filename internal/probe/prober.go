//go:build linux

package probe

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/encap"
	"github.com/synbond/synbond/internal/paths"
)

// Conn is a connected datagram socket. Read returns ECONNREFUSED where the port is
// unreachable, and net.ErrClosed after Close. Knock reports whether TCP gets an answer from
// there, a reset included, before ctx ends.
type Conn interface {
	Read(b []byte) (int, error)
	Write(b []byte) (int, error)
	Close() error
	Knock(ctx context.Context) bool
}

// Dialer opens a socket on an interface, from a local address to a join address.
type Dialer func(ifname string, local netip.Addr, join netip.AddrPort) (Conn, error)

// DialUDP is the [Dialer] of the kernel's sockets.
func DialUDP(ifname string, local netip.Addr, join netip.AddrPort) (Conn, error) {
	d := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)),
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			bind := func(fd uintptr) {
				err = errors.Join(unix.BindToDevice(int(fd), ifname), dontFragment(int(fd), join.Addr()))
				enlarge(int(fd))
			}
			return errors.Join(raw.Control(bind), err)
		},
	}
	conn, err := d.Dial("udp", join.String())
	if err != nil {
		return nil, err
	}
	return udpConn{conn, ifname, local, join}, nil
}

// udpConn is a [Conn] of the kernel's.
type udpConn struct {
	net.Conn
	ifname string
	local  netip.Addr
	join   netip.AddrPort
}

// Knock implements [Conn]. A HAG's kernel answers a SYN without MP_JOIN by a reset
// (subflow_check_req: pm_listener).
func (c udpConn) Knock(ctx context.Context) bool { return knock(ctx, c.ifname, c.local, c.join) }

// knock reports whether TCP is answered by an address, over an interface.
func knock(ctx context.Context, ifname string, local netip.Addr, at netip.AddrPort) bool {
	d := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)),
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), ifname) }), err)
		},
	}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return errors.Is(err, unix.ECONNREFUSED)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	return conn.Close() == nil
}

// dontFragment has a socket send whole packets whatever the kernel knows of the path's MTU.
func dontFragment(fd int, peer netip.Addr) error {
	if peer.Is4() {
		return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	}
	return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE)
}

// socketBuffer is the size in bytes of the buffers of UDP sockets: probes must not be lost
// among the datagrams of encapsulated subflows.
const socketBuffer = 2 << 20

// enlarge gives a socket such buffers. Without the right to that it keeps what it has.
func enlarge(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, socketBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, socketBuffer)
}

// prober probes a path over one address family.
type prober struct {
	conn  Conn
	index int // of the interface
	local netip.Addr
	join  netip.AddrPort

	cookie     uint64    // the HAG's, for the local address as the HAG sees it
	confirmed  bool      // the HAG has got the cookie back
	heard      bool      // the HAG has replied
	unanswered int       // probes since the last reply
	waits      time.Time // when the first of them was sent
	knocked    time.Time // when TCP was last tried
	knocking   bool      // its outcome is awaited
	deaf       bool      // it was not answered
	refused    time.Time // since when its port is unreachable; zero if it is not

	extends bool      // the HAG takes extended probes
	asked   time.Time // time of the last extended probe
	sizes   *paths.SizeCheck
	seen    netip.AddrPort // from which the HAG sees the probes come; zero: not known
}

const (
	// extendedSize is the size of an extended probe in bytes: room for the items of its reply.
	extendedSize = 128
	// extendEvery is the longest time between two extended probes.
	extendEvery = 30 * time.Second
)

// extend reports whether the next probe shall be an extended one, because there is
// something to ask or it is time.
func (p *prober) extend(now time.Time, ask bool) bool {
	return p.extends && (ask || !p.seen.IsValid() || now.Sub(p.asked) >= extendEvery)
}

// response is a datagram for a prober, or an ICMP error.
type response struct {
	to      *prober
	at      time.Time
	data    []byte
	refused bool
	tooBig  bool          // no datagram, but an ICMP error: the last one was too large
	knock   bool          // no datagram, but the outcome of [Conn.Knock]
	opens   bool          // TCP is answered
	took    time.Duration // that that took
}

// receive hands on the responses, and the datagrams of encapsulated subflows, until the prober
// is closed or ctx ends.
func (p *prober) receive(ctx context.Context, responses chan<- response, deliver func(datagram []byte)) {
	var buf [maxMessageSize + 1]byte // one byte more than a message, to notice longer ones
	for {
		n, err := p.conn.Read(buf[:])
		r := response{to: p, at: time.Now(), refused: errors.Is(err, unix.ECONNREFUSED), tooBig: errors.Is(err, unix.EMSGSIZE)}
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case !r.refused && !r.tooBig && err != nil:
			continue
		case encap.Is(buf[:n]):
			deliver(buf[:n])
			continue
		}
		r.data = bytes.Clone(buf[:n])
		select {
		case responses <- r:
		case <-ctx.Done():
			return
		}
	}
}

// silent reports whether replies to the prober are missing, and TCP is not answered either.
func (p *prober) silent() bool {
	return p.unanswered >= paths.SilenceProbes && (p.deaf || !p.knocking)
}

// unheard reports whether the prober's family is of no use now: it is silent, or its port is
// unreachable.
func (p *prober) unheard() bool { return !p.refused.IsZero() || p.silent() }

// connects reports whether the prober's socket is the one for these ends.
func (p *prober) connects(index int, local netip.Addr, join netip.AddrPort) bool {
	return p.index == index && p.local == local && p.join == join
}
