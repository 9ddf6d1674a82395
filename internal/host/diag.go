//go:build linux

package host

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
	// Within inet_diag_sockid: the ports, then the addresses, the interface, the cookie.
	diagIDSource      = 4
	diagIDDestination = 20
	diagIDInterface   = 36
	diagIDCookie      = 40
	diagState         = 1 // within struct inet_diag_msg
)

// TCP states (linux/tcp_states.h), and sets of them.
const (
	stateEstablished = 1
	stateSynRecv     = 3 // as the kernel reports TCP_NEW_SYN_RECV
	stateFinWait1    = 4
	stateFinWait2    = 5
	stateTimeWait    = 6
	stateClose       = 7
	stateCloseWait   = 8
	stateLastAck     = 9
	stateListen      = 10
	stateClosing     = 11
	stateNewSynRecv  = 12

	// orphanStates are the states of connections that no process holds any more.
	orphanStates = 1<<stateFinWait1 | 1<<stateFinWait2 | 1<<stateTimeWait | 1<<stateLastAck | 1<<stateClosing
	// SubflowStates are the states in which a subflow carries bytes or soon may.
	SubflowStates = (1<<13 - 2) &^ (1<<stateTimeWait | 1<<stateClose | 1<<stateListen | 1<<stateNewSynRecv)
	// AllStates are all TCP states.
	AllStates = ^uint32(0)
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

// Connected reports whether the kernel has a socket for the packets from remote to
// local. A handshake that is not complete counts, too (TCP_NEW_SYN_RECV).
func (d *Diag) Connected(local, remote netip.AddrPort) (bool, error) {
	s, err := d.find(local, remote)
	return s != nil, err
}

// EndClosed ends the kernel's socket of a closed connection (TIME-WAIT and the like), or of a
// handshake that is not complete, between local and remote, if there is one.
func (d *Diag) EndClosed(local, remote netip.AddrPort) error {
	s, err := d.find(local, remote)
	const ends = orphanStates | 1<<stateNewSynRecv | 1<<stateSynRecv
	if s == nil || ends&(1<<s[diagState]) == 0 {
		return err
	}
	kill := diagRequest(s[0], ends)
	copy(kill[diagRequestID:], s[diagMessageID:diagMessageID+diagIDSize]) // with its cookie: this socket, and no other
	_, err = d.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDestroy, Flags: netlink.Request | netlink.Acknowledge}, Data: kill,
	})
	if errors.Is(err, unix.ENOENT) {
		return nil // it has ended by itself
	}
	return err
}

// find returns the message about the kernel's socket between local and remote, nil if there
// is none.
func (d *Diag) find(local, remote netip.AddrPort) ([]byte, error) {
	family := uint8(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	request := diagRequest(family, AllStates)
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
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// Without a connection, the kernel finds a listener on that port.
	if len(answers) != 1 || len(answers[0].Data) < diagMessageSize || answers[0].Data[diagState] == stateListen {
		return nil, nil
	}
	return answers[0].Data, nil
}

// CanEndSockets returns nil if the kernel ends sockets on request
// (CONFIG_INET_DIAG_DESTROY). It asks for the end of a socket that does not exist.
func CanEndSockets() error {
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

func diagRequest(family uint8, states uint32) []byte {
	b := make([]byte, diagRequestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[diagStates:], states)
	return b
}
