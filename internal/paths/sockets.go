package paths

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// uapi linux/inet_diag.h and linux/mptcp.h: where a subflow tells of its connection.
const (
	diagInfo     = 2  // INET_DIAG_INFO; who asks for it also gets
	diagULP      = 19 // INET_DIAG_ULP_INFO
	diagULPMPTCP = 3  // INET_ULP_INFO_MPTCP, within it

	subflowToken = 2 // MPTCP_SUBFLOW_ATTR_TOKEN_LOC, within that
	subflowFlags = 8 // MPTCP_SUBFLOW_ATTR_FLAGS

	// subflowJoins are the flags of a subflow that was opened by MP_JOIN.
	subflowJoins = 1<<2 | 1<<3 // MPTCP_SUBFLOW_FLAG_JOIN_REM, _LOC
	// subflowBackup are those of one that the peer, or this end, takes for a backup.
	subflowBackup = 1<<4 | 1<<5 // MPTCP_SUBFLOW_FLAG_BKUP_REM, _LOC
)

// States of subflows that can carry bytes or could soon: all but TIME-WAIT,
// CLOSE, LISTEN and NEW-SYN-RECV (linux/tcp_states.h).
const subflowStates = (1<<13 - 2) &^ (timeWait | 1<<7 | 1<<listening | 1<<12)

// socket is a TCP socket of the kernel.
type socket struct {
	family        uint8
	state         uint8
	id            [diagIDSize]byte
	local, remote netip.AddrPort
	bound         int // interface that it is bound to, or 0

	token uint32 // of the MPTCP connection whose subflow it is, 0 for none
	join  bool   // it is not the connection's first subflow

	backup bool // for either end
}

// carries tells whether the socket can send (TCP_ESTABLISHED, TCP_CLOSE_WAIT).
func (s *socket) carries() bool { return s.state == 1 || s.state == 8 }

// parseSocket reads a struct inet_diag_msg and what follows it.
func parseSocket(b []byte) (s socket, ok bool) {
	if len(b) < diagMessageSize {
		return socket{}, false
	}
	s = socket{family: b[0], state: b[diagState], id: [diagIDSize]byte(b[diagMessageID:])}
	end := func(port, addr int) netip.AddrPort {
		ip := netip.AddrFrom16([16]byte(s.id[addr:])).Unmap()
		if s.family == unix.AF_INET {
			ip = netip.AddrFrom4([4]byte(s.id[addr:]))
		}
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(s.id[port:]))
	}
	s.local, s.remote = end(0, diagIDSource), end(2, diagIDDestination)
	s.bound = int(binary.NativeEndian.Uint32(s.id[diagIDInterface:]))
	for kind, ulp := range attributes(b[diagMessageSize:]) {
		if kind != diagULP {
			continue
		}
		for kind, b := range attributes(ulp) {
			if kind == diagULPMPTCP {
				s.parseSubflow(b)
			}
		}
	}
	return s, true
}

func (s *socket) parseSubflow(b []byte) {
	for kind, value := range attributes(b) {
		if len(value) < 4 {
			continue
		}
		switch v := binary.NativeEndian.Uint32(value); kind {
		case subflowToken:
			s.token = v
		case subflowFlags:
			s.join, s.backup = v&subflowJoins != 0, v&subflowBackup != 0
		}
	}
}

// Ends are those of a subflow.
type Ends struct{ Local, Remote netip.AddrPort }

// Backups returns the subflows of this machine that either end takes for a backup
// now.
func Backups() (map[Ends]bool, error) {
	backups := make(map[Ends]bool)
	_, err := onSockets(subflowStates, func(all []socket) []socket {
		for i := range all {
			if s := &all[i]; s.backup {
				backups[Ends{s.local, s.remote}] = true
			}
		}
		return nil // they live on
	})
	return backups, err
}

// destroy ends the TCP sockets in these states that match, and returns how many
// there were.
func destroy(states uint32, match func(*socket) bool) (int, error) {
	return onSockets(states, func(all []socket) []socket {
		return slices.DeleteFunc(all, func(s socket) bool { return !match(&s) })
	})
}

// destroySubflows ends the subflows that doomed says, where another one of the
// same connection can go on, and returns how many there were. doomed gets each
// subflow with all of its connection. What a subflow had not delivered, MPTCP
// sends at once by the others (kernel: __mptcp_retrans).
func destroySubflows(doomed func(s *socket, conn []socket) bool) (int, error) {
	return onSockets(subflowStates, func(all []socket) []socket { return victims(all, doomed) })
}

// victims returns the doomed subflows whose connections can do without.
func victims(all []socket, doomed func(s *socket, conn []socket) bool) (out []socket) {
	all = slices.DeleteFunc(all, func(s socket) bool { return s.token == 0 })
	slices.SortFunc(all, func(a, b socket) int { return cmp.Compare(a.token, b.token) })
	for len(all) > 0 {
		n := slices.IndexFunc(all, func(s socket) bool { return s.token != all[0].token })
		if n < 0 {
			n = len(all)
		}
		conn, kept, goes := all[:n], false, len(out)
		for i := range conn {
			if doomed(&conn[i], conn) {
				out = append(out, conn[i])
			} else {
				kept = kept || conn[i].carries()
			}
		}
		if !kept {
			out = out[:goes]
		}
		all = all[n:]
	}
	return out
}

// onSockets ends those of the TCP sockets in these states that choose returns,
// and returns how many they are.
func onSockets(states uint32, choose func([]socket) []socket) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("open sock_diag: %w", err)
	}
	defer unix.Close(fd)
	var all []socket
	for _, family := range []uint8{unix.AF_INET6, unix.AF_INET} {
		if all, err = dump(fd, all, family, states); err != nil {
			return 0, fmt.Errorf("list sockets: %w", err)
		}
	}
	chosen := choose(all)
	// Unacknowledged, many at a time: one that has ended meanwhile is no matter.
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
func dump(fd int, all []socket, family uint8, states uint32) ([]socket, error) {
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
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return nil, errors.New("malformed message")
			}
			body := b[unix.NLMSG_HDRLEN:size]
			switch kind := binary.NativeEndian.Uint16(b[4:]); {
			case kind == unix.NLMSG_DONE:
				return all, nil
			case kind == unix.NLMSG_ERROR && len(body) >= 4:
				return nil, unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
			case kind == sockDiagByFamily:
				if s, ok := parseSocket(body); ok {
					all = append(all, s)
				}
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

// dumpBuffer is as much as the kernel puts into one message of a dump (32 KiB).
const dumpBuffer = 32 << 10

// appendDiag appends a message of sock_diag.
func appendDiag(b []byte, kind, flags uint16, body []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(body)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	return append(append(b, make([]byte, 8)...), body...) // sequence and port number: of no use here
}
