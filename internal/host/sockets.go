//go:build linux

package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
	"github.com/synbond/synbond/internal/paths"
)

// Attributes of a socket that name its MPTCP connection: uapi linux/inet_diag.h and
// linux/mptcp.h.
const (
	diagInfo     = 2  // INET_DIAG_INFO; a request for it also returns
	diagULP      = 19 // INET_DIAG_ULP_INFO
	diagULPMPTCP = 3  // INET_ULP_INFO_MPTCP, within it

	subflowToken = 2 // MPTCP_SUBFLOW_ATTR_TOKEN_LOC, within that
	subflowFlags = 8 // MPTCP_SUBFLOW_ATTR_FLAGS

	// subflowJoins are the flags of a subflow that was opened by MP_JOIN.
	subflowJoins = 1<<2 | 1<<3 // MPTCP_SUBFLOW_FLAG_JOIN_REM, _LOC
	// subflowBackup are the flags of a backup, as the peer or this end sees it.
	subflowBackup = 1<<4 | 1<<5 // MPTCP_SUBFLOW_FLAG_BKUP_REM, _LOC
)

// Socket is a TCP socket of the kernel.
type Socket struct {
	paths.Subflow // its Token is 0 for plain TCP
	family, state uint8
	id            [diagIDSize]byte // struct inet_diag_sockid
}

// parseSocket reads a struct inet_diag_msg and the attributes that follow it.
func parseSocket(b []byte) (s Socket, ok bool) {
	if len(b) < diagMessageSize {
		return Socket{}, false
	}
	s = Socket{family: b[0], state: b[diagState], id: [diagIDSize]byte(b[diagMessageID:])}
	end := func(port, addr int) netip.AddrPort {
		ip := netip.AddrFrom16([16]byte(s.id[addr:])).Unmap()
		if s.family == unix.AF_INET {
			ip = netip.AddrFrom4([4]byte(s.id[addr:]))
		}
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(s.id[port:]))
	}
	s.Local, s.Remote = end(0, diagIDSource), end(2, diagIDDestination)
	s.Interface = int(binary.NativeEndian.Uint32(s.id[diagIDInterface:]))
	s.CanSend = s.state == stateEstablished || s.state == stateCloseWait
	for kind, ulp := range nl.Attributes(b[diagMessageSize:]) {
		if kind != diagULP {
			continue
		}
		for kind, b := range nl.Attributes(ulp) {
			if kind == diagULPMPTCP {
				s.parseSubflow(b)
			}
		}
	}
	return s, true
}

func (s *Socket) parseSubflow(b []byte) {
	for kind, value := range nl.Attributes(b) {
		if len(value) < 4 {
			continue
		}
		switch v := binary.NativeEndian.Uint32(value); kind {
		case subflowToken:
			s.Token = v
		case subflowFlags:
			s.Joined, s.Backup = v&subflowJoins != 0, v&subflowBackup != 0
		}
	}
}

// ForgetClosed ends the kernel's sockets of closed connections (TIME-WAIT and the
// like) at a local address and port, and reports whether there were any. Beside them
// the kernel cannot bind the listener of a join address, and a HAG would have to
// wait for a minute before it could start again.
func ForgetClosed(local netip.AddrPort) (found bool, err error) {
	n, err := EndSockets(orphanStates, only(func(s *Socket) bool { return s.Local == local }))
	return n > 0, err
}

// ForgetClosed ends the kernel's sockets of closed connections (TIME-WAIT and the
// like) whose local address this machine does not have: a client's or a server's.
// Without the box's rules, the kernel would match a client's new packets from the
// same port with them, and not forward these (ip_forward, early demux).
func (m *Machine) ForgetClosed() error {
	_, err := EndSockets(orphanStates, only(func(s *Socket) bool {
		return !s.Local.Addr().IsLoopback() && len(m.Owners(s.Local.Addr())) == 0
	}))
	return err
}

// only returns a function that chooses the sockets that match.
func only(match func(*Socket) bool) func([]Socket) []Socket {
	return func(all []Socket) []Socket {
		return slices.DeleteFunc(all, func(s Socket) bool { return !match(&s) })
	}
}

// Sockets returns the TCP sockets in these states (a bit each).
func Sockets(states uint32) (all []Socket, err error) {
	_, err = EndSockets(states, func(found []Socket) []Socket { all = found; return nil })
	return all, err
}

// EndSockets ends those TCP sockets in these states (a bit each) that choose
// returns, and returns their number. Choose may reorder its argument.
func EndSockets(states uint32, choose func(all []Socket) []Socket) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("open sock_diag: %w", err)
	}
	defer unix.Close(fd)
	var all []Socket
	for _, family := range []uint8{unix.AF_INET6, unix.AF_INET} {
		if all, err = dump(fd, all, family, states); err != nil {
			return 0, fmt.Errorf("list sockets: %w", err)
		}
	}
	chosen := choose(all)
	// Many at a time and without acknowledgements: a socket that has ended in the
	// meantime is no failure.
	for batch := range slices.Chunk(chosen, 256) {
		var b []byte
		for i := range batch {
			kill := diagRequest(batch[i].family, states)
			copy(kill[diagRequestID:], batch[i].id[:])
			b = appendDiag(b, sockDestroy, unix.NLM_F_REQUEST, kill)
		}
		if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return 0, fmt.Errorf("end sockets: %w", err)
		}
	}
	return len(chosen), nil
}

// dump appends the TCP sockets of a family in these states. There may be tens of
// thousands, and connections stall meanwhile: some 8 µs each, most of it in the kernel.
func dump(fd int, all []Socket, family uint8, states uint32) ([]Socket, error) {
	request := diagRequest(family, states)
	request[diagExtensions] = 1 << (diagInfo - 1)
	message := appendDiag(nil, sockDiagByFamily, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, request)
	if err := unix.Sendto(fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	buf := make([]byte, dumpBuffer)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return nil, err
		}
		for kind, body := range nl.Messages(buf[:n]) {
			switch {
			case body == nil:
				return nil, errors.New("malformed message")
			case kind == unix.NLMSG_DONE:
				return all, nil
			case kind == unix.NLMSG_ERROR && len(body) >= 4:
				return nil, unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
			case kind == sockDiagByFamily:
				if s, ok := parseSocket(body); ok {
					all = append(all, s)
				}
			}
		}
	}
}

// dumpBuffer is the size in bytes of the largest message of a dump.
const dumpBuffer = 32 << 10

// appendDiag appends a message of sock_diag. It leaves the sequence and port numbers
// zero: nothing needs them here.
func appendDiag(b []byte, kind, flags uint16, body []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	return append(append(b, make([]byte, 8)...), body...)
}
