package paths

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// uapi linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21 // needs CONFIG_INET_DIAG_DESTROY

	// struct inet_diag_req_v2: family, protocol, ext, pad (a byte each), states
	// u32, then struct inet_diag_sockid, which starts with the source port.
	diagRequestSize = 56
	diagExtensions  = 2
	diagStates      = 4
	diagRequestID   = 8
	// struct inet_diag_msg: family, state, timer, retrans (a byte each), then the
	// same struct inet_diag_sockid of 48 bytes, five words, and attributes.
	diagMessageID   = 4
	diagMessageSize = 72
	diagIDSize      = 48
	// Within it: the ports, then the addresses, the interface, the cookie.
	diagIDSource      = 4
	diagIDDestination = 20
	diagIDInterface   = 36
	diagIDCookie      = 40
	diagState         = 1 // within struct inet_diag_msg

	listening = 10 // TCP_LISTEN

	// closing are the states of connections that no process holds any more
	// (linux/tcp_states.h): FIN-WAIT-1 and 2, TIME-WAIT, LAST-ACK, CLOSING.
	timeWait = 1 << 6
	closing  = 1<<4 | 1<<5 | timeWait | 1<<9 | 1<<11
)

// Diag asks the kernel for its TCP sockets (sock_diag(7)).
type Diag struct{ conn *netlink.Conn }

// OpenDiag opens a connection to sock_diag.
func OpenDiag() (*Diag, error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	return &Diag{c}, nil
}

// Close closes the connection.
func (d *Diag) Close() error { return d.conn.Close() }

// Connected tells whether the kernel has a socket for the packets from remote to
// local, be it that of a handshake which is not complete (TCP_NEW_SYN_RECV).
func (d *Diag) Connected(local, remote netip.AddrPort) (bool, error) {
	family := uint8(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	request := diagRequest(family, ^uint32(0))
	id := request[diagRequestID:]
	binary.BigEndian.PutUint16(id, local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[diagIDSource:], local.Addr().AsSlice())
	copy(id[diagIDDestination:], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(id[diagIDCookie:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	answers, err := d.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request}, Data: request,
	})
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// Without a connection, the kernel finds a listener on that port.
	return len(answers) == 1 && len(answers[0].Data) > diagState && answers[0].Data[diagState] != listening, nil
}

// ProbeDestroy tells whether the kernel can end sockets on request. It asks for
// a socket that does not exist.
func ProbeDestroy() error {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return err
	}
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDestroy, Flags: netlink.Request | netlink.Acknowledge},
		Data:   diagRequest(unix.AF_INET, 0),
	})
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return errors.Join(err, c.Close())
}

// forgetClosed ends what the kernel keeps of closed subflows that were accepted at
// addr, TIME-WAIT above all, and reports whether there were any: it cannot bind its
// listener beside them, and a HAG would have to wait for a minute before it may
// start again.
func forgetClosed(addr netip.AddrPort) (found bool, err error) {
	n, err := destroy(closing, func(s *socket) bool { return s.local == addr })
	return n > 0, err
}

// ForgetClosed ends what the kernel still keeps of connections that were closed
// under addresses which are none of this machine's, TIME-WAIT above all. Once
// the box's rules are gone, the kernel would take packets of a client that uses
// its port again for theirs, and not forward them (ip_forward, early demux).
func (s *Set) ForgetClosed() error {
	_, err := destroy(closing, func(at *socket) bool {
		return !at.local.Addr().IsLoopback() && s.links.owner(at.local.Addr()) == 0
	})
	return err
}

func diagRequest(family uint8, states uint32) []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[diagStates:], states)
	return b
}
