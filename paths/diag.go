package paths

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// uapi linux/sock_diag.h and linux/inet_diag.h.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21 // needs CONFIG_INET_DIAG_DESTROY
	tcpTimeWait      = 6

	// struct inet_diag_req_v2: family, protocol, ext, pad (a byte each), states
	// u32, then struct inet_diag_sockid, which starts with the source port.
	diagRequestSize = 56
	diagStates      = 4
	diagRequestID   = 8
	// struct inet_diag_msg: family, state, timer, retrans (a byte each), then the
	// same struct inet_diag_sockid of 48 bytes.
	diagMessageID = 4
	diagIDSize    = 48
	diagIDSource  = 4 // within it
)

// ProbeDestroy tells whether the kernel can end sockets on request, as a HAG
// needs it to restart at once. It asks for a socket that does not exist.
func ProbeDestroy() error {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return err
	}
	request := make([]byte, diagRequestSize)
	request[0], request[1] = unix.AF_INET, unix.IPPROTO_TCP
	_, err = c.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDestroy, Flags: netlink.Request | netlink.Acknowledge}, Data: request,
	})
	if errors.Is(err, unix.ENOENT) {
		err = nil
	}
	return errors.Join(err, c.Close())
}

// forgetClosed ends the TIME-WAIT of subflows that were accepted at addr, and
// reports whether there were any: the kernel cannot bind its listener beside
// them, and a HAG would have to wait for a minute before it may start again.
func forgetClosed(addr netip.AddrPort) (found bool, err error) {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	request := make([]byte, diagRequestSize)
	request[0], request[1] = unix.AF_INET6, unix.IPPROTO_TCP
	if addr.Addr().Is4() {
		request[0] = unix.AF_INET
	}
	binary.NativeEndian.PutUint32(request[diagStates:], 1<<tcpTimeWait)
	binary.BigEndian.PutUint16(request[diagRequestID:], addr.Port())
	sockets, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump}, Data: request,
	})
	if err != nil {
		return false, err
	}
	for _, s := range sockets {
		if len(s.Data) < diagMessageID+diagIDSize {
			continue
		}
		id := s.Data[diagMessageID : diagMessageID+diagIDSize]
		source, _ := netip.AddrFromSlice(id[diagIDSource:][:len(addr.Addr().AsSlice())])
		if source != addr.Addr() {
			continue
		}
		copy(request[diagRequestID:], id)
		_, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: sockDestroy, Flags: netlink.Request | netlink.Acknowledge}, Data: request,
		})
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return found, err
		}
		found = true
	}
	return found, nil
}
