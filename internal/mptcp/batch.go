//go:build linux

package mptcp

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

// Batch is a list of requests about subflows that the kernel gets in one system
// call: see [PM.Send]. It holds at most [paths.MaxRequests], because all
// acknowledgements must fit into the socket's receive buffer (net.core.rmem_default,
// some 200 KiB). It can be reset and used again.
type Batch struct {
	family genetlink.Family
	b      []byte // the messages; their sequence numbers count from 0
	n      int
	errs   []error
	in     [256]byte // one acknowledgement
}

// NewBatch returns an empty batch.
func (p *PM) NewBatch() *Batch { return &Batch{family: p.family} }

// Len returns the number of requests in the batch.
func (b *Batch) Len() int { return b.n }

// Reset empties the batch.
func (b *Batch) Reset() { b.b, b.n = b.b[:0], 0 }

// Create opens a subflow of the connection with that token. Its socket is bound to
// the local address and interface; with port 0 the kernel chooses the port.
func (b *Batch) Create(token uint32, local, remote Address) {
	b.request(cmdSubflowCreate, token, &local, &remote)
}

// Destroy closes the subflow between these addresses and ports. MPTCP sends what it
// has not delivered by others (kernel: mptcp_pm_nl_subflow_destroy_doit).
func (b *Batch) Destroy(token uint32, local, remote netip.AddrPort) {
	b.request(cmdSubflowDestroy, token, &Address{AddrPort: local}, &Address{AddrPort: remote})
}

// SetBackup makes the subflow between these addresses and ports a backup or a normal
// one for both directions: it sends MP_PRIO (RFC 8684, section 3.3.8).
func (b *Batch) SetBackup(token uint32, local, remote netip.AddrPort, backup bool) {
	from := Address{AddrPort: local}
	if backup {
		from.Flags = flagBackup
	}
	b.request(cmdSetFlags, token, &from, &Address{AddrPort: remote})
}

// Remove takes a local address ID from the connection and tells the peer
// (REMOVE_ADDR, RFC 8684, section 3.4.2), which closes the subflows that use it. The
// kernel binds an ID to one address until it is removed.
func (b *Batch) Remove(token uint32, id uint8) {
	start := b.open(cmdRemove, token)
	b.b = nl.AppendUint8(b.b, attrLocID, id)
	b.close(start)
}

func (b *Batch) request(cmd uint8, token uint32, local, remote *Address) {
	start := b.open(cmd, token)
	b.b = local.append(b.b, attrAddr)
	b.b = remote.append(b.b, attrAddrRemote)
	b.close(start)
}

// open begins a message: struct nlmsghdr, struct genlmsghdr and the token.
func (b *Batch) open(cmd uint8, token uint32) (start int) {
	start = len(b.b)
	b.b = append(b.b, 0, 0, 0, 0) // the length
	b.b = binary.NativeEndian.AppendUint16(b.b, b.family.ID)
	b.b = binary.NativeEndian.AppendUint16(b.b, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	b.b = binary.NativeEndian.AppendUint32(b.b, uint32(b.n))
	b.b = append(b.b, 0, 0, 0, 0) // the port ID: the socket's
	b.b = append(b.b, cmd, b.family.Version, 0, 0)
	b.b = nl.AppendUint32(b.b, attrToken, token)
	return start
}

func (b *Batch) close(start int) {
	binary.NativeEndian.PutUint32(b.b[start:], uint32(len(b.b)-start))
	b.n++
}

// Send has the kernel carry out the requests of a batch, in order, and returns
// the outcome of each: nil or a [unix.Errno]. The outcomes are valid until the batch
// is sent again.
func (p *PM) Send(b *Batch) ([]error, error) {
	b.errs = append(b.errs[:0], make([]error, b.n)...)
	if b.n == 0 {
		return nil, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	raw, err := p.conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if ctl := raw.Control(func(fd uintptr) { err = b.exchange(int(fd)) }); ctl != nil {
		err = ctl
	}
	if err != nil {
		return nil, fmt.Errorf("speak to the MPTCP path manager: %w", err)
	}
	return b.errs, nil
}

// exchange writes the requests and reads their acknowledgements. It never waits: the
// kernel carries out the requests within the system call that writes them.
func (b *Batch) exchange(fd int) error {
	if _, err := unix.Write(fd, b.b); err != nil {
		return err
	}
	for range b.n {
		n, err := unix.Read(fd, b.in[:])
		if err != nil {
			return err
		}
		if err := b.acknowledged(b.in[:n]); err != nil {
			return err
		}
	}
	return nil
}

// acknowledged takes an acknowledgement (struct nlmsgerr).
func (b *Batch) acknowledged(ack []byte) error {
	if len(ack) < unix.NLMSG_HDRLEN+4 || binary.NativeEndian.Uint16(ack[4:]) != uint16(netlink.Error) {
		return fmt.Errorf("acknowledgement of %d bytes: %w", len(ack), unix.EPROTO)
	}
	seq := binary.NativeEndian.Uint32(ack[8:])
	if seq >= uint32(b.n) {
		return fmt.Errorf("acknowledgement of request %d of %d: %w", seq, b.n, unix.EPROTO)
	}
	if errno := -int32(binary.NativeEndian.Uint32(ack[unix.NLMSG_HDRLEN:])); errno != 0 {
		b.errs[seq] = unix.Errno(errno)
	}
	return nil
}
