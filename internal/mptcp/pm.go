//go:build linux

package mptcp

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/nl"
	"github.com/synbond/synbond/internal/paths"
)

// uapi linux/mptcp_pm.h: commands.
const (
	cmdAddAddr        = 1
	cmdDelAddr        = 2
	cmdGetAddr        = 3
	cmdSetLimits      = 5
	cmdGetLimits      = 6
	cmdSetFlags       = 7
	cmdRemove         = 9
	cmdSubflowCreate  = 10
	cmdSubflowDestroy = 11
)

// Top-level attributes and those of an address.
const (
	attrAddr       = 1
	attrRcvAddAddr = 2
	attrSubflows   = 3
	attrToken      = 4
	attrLocID      = 5
	attrAddrRemote = 6

	addrFamily  = 1
	addrID      = 2
	addr4       = 3
	addr6       = 4
	addrPort    = 5
	addrFlags   = 6
	addrIfIndex = 7

	flagSignal   = 1 << 0 // MPTCP_PM_ADDR_FLAG_SIGNAL
	flagSubflow  = 1 << 1 // MPTCP_PM_ADDR_FLAG_SUBFLOW
	flagBackup   = 1 << 2 // MPTCP_PM_ADDR_FLAG_BACKUP
	flagFullmesh = 1 << 3 // MPTCP_PM_ADDR_FLAG_FULLMESH
)

const (
	familyName = "mptcp_pm"
	eventGroup = "mptcp_pm_events"
)

// ErrNoMPTCP means that the kernel has no MPTCP path manager.
var ErrNoMPTCP = errors.New("kernel has no MPTCP (CONFIG_MPTCP)")

// PM is a connection to the kernel's path manager. It is safe for concurrent use.
type PM struct {
	mu     sync.Mutex
	conn   *genetlink.Conn
	family genetlink.Family
}

// Open connects to the kernel's path manager.
func Open() (*PM, error) {
	conn, family, err := dial()
	if err != nil {
		return nil, err
	}
	// An acknowledgement need not repeat the request.
	if err := conn.SetOption(netlink.CapAcknowledge, true); err != nil {
		return nil, errors.Join(fmt.Errorf("set up generic netlink: %w", err), conn.Close())
	}
	return &PM{conn: conn, family: family}, nil
}

func dial() (*genetlink.Conn, genetlink.Family, error) {
	conn, err := genetlink.Dial(nil)
	if err != nil {
		return nil, genetlink.Family{}, fmt.Errorf("open generic netlink: %w", err)
	}
	family, err := conn.GetFamily(familyName)
	if errors.Is(err, unix.ENOENT) {
		err = ErrNoMPTCP
	}
	if err != nil {
		return nil, genetlink.Family{}, errors.Join(fmt.Errorf("find netlink family %s: %w", familyName, err), conn.Close())
	}
	return conn, family, nil
}

// Close ends the connection to the kernel.
func (p *PM) Close() error { return p.conn.Close() }

// do sends one command with these attributes and returns the replies.
func (p *PM) do(cmd uint8, flags netlink.HeaderFlags, attributes []byte) ([]genetlink.Message, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.conn.Execute(genetlink.Message{
		Header: genetlink.Header{Command: cmd, Version: p.family.Version}, Data: attributes,
	}, p.family.ID, netlink.Request|flags)
}

// Address is one end of a subflow, or an endpoint of the path manager.
type Address struct {
	netip.AddrPort
	ID        uint8 // address ID, RFC 8684, section 3.2
	Flags     uint32
	Interface int // index, 0 for any
}

// Signals reports whether the kernel announces the endpoint, and takes joins at its port.
func (a Address) Signals() bool { return a.Flags&flagSignal != 0 }

// append appends the address as a nest of attributes.
func (a Address) append(b []byte, kind uint16) []byte {
	b, start := nl.OpenAttribute(b, kind|unix.NLA_F_NESTED)
	if ip := a.Addr(); ip.Is4() {
		four := ip.As4()
		b = nl.AppendUint16(b, addrFamily, unix.AF_INET)
		b = nl.AppendBytes(b, addr4, four[:])
	} else {
		six := ip.As16()
		b = nl.AppendUint16(b, addrFamily, unix.AF_INET6)
		b = nl.AppendBytes(b, addr6, six[:])
	}
	if a.ID != 0 {
		b = nl.AppendUint8(b, addrID, a.ID)
	}
	if a.Port() != 0 {
		b = nl.AppendUint16(b, addrPort, a.Port())
	}
	if a.Flags != 0 {
		b = nl.AppendUint32(b, addrFlags, a.Flags)
	}
	if a.Interface != 0 {
		b = nl.AppendUint32(b, addrIfIndex, uint32(a.Interface))
	}
	return nl.CloseAttribute(b, start)
}

func (a *Address) decode(ad *netlink.AttributeDecoder) error {
	var ip netip.Addr
	var port uint16
	for ad.Next() {
		switch ad.Type() {
		case addr4, addr6:
			ip, _ = netip.AddrFromSlice(ad.Bytes())
		case addrPort:
			port = ad.Uint16()
		case addrID:
			a.ID = ad.Uint8()
		case addrFlags:
			a.Flags = ad.Uint32()
		case addrIfIndex:
			a.Interface = int(ad.Int32())
		}
	}
	a.AddrPort = netip.AddrPortFrom(ip, port)
	return ad.Err()
}

// CreateSubflow is [Batch.Create] for a single subflow.
func (p *PM) CreateSubflow(token uint32, local, remote Address) error {
	b := p.NewBatch()
	b.Create(token, local, remote)
	errs, err := p.Send(b)
	if err != nil {
		return err
	}
	return errs[0]
}

// AddEndpoint makes the kernel accept joins at addr and announce it. It replaces an
// endpoint that an earlier box has left.
func (p *PM) AddEndpoint(addr netip.AddrPort) error {
	if err := p.RemoveEndpoint(addr); err != nil {
		return err
	}
	add := func() error {
		_, err := p.do(cmdAddAddr, netlink.Acknowledge, Address{AddrPort: addr, Flags: flagSignal}.append(nil, attrAddr))
		return err
	}
	err := add()
	if errors.Is(err, unix.EADDRINUSE) {
		if found, _ := host.ForgetClosed(addr); found {
			err = add()
		}
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("join address %s: port %d is in use (see `ss -tan sport = %d`), choose another with --join", addr, addr.Port(), addr.Port())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("join address %s: %s is no address of this machine", addr, addr.Addr())
	case err != nil:
		return fmt.Errorf("join address %s: %w", addr, err)
	}
	return nil
}

// RemoveEndpoint undoes [PM.AddEndpoint]. It is no error if there is no endpoint.
func (p *PM) RemoveEndpoint(addr netip.AddrPort) error {
	all, err := p.Endpoints()
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.AddrPort != addr {
			continue
		}
		_, err := p.do(cmdDelAddr, netlink.Acknowledge, Address{AddrPort: addr, ID: e.ID}.append(nil, attrAddr))
		if err != nil {
			return fmt.Errorf("remove join address %s: %w", addr, err)
		}
	}
	return nil
}

// Endpoints lists the endpoints of the in-kernel path manager.
func (p *PM) Endpoints() ([]Address, error) {
	msgs, err := p.do(cmdGetAddr, netlink.Dump, nil)
	if err != nil {
		return nil, fmt.Errorf("list MPTCP endpoints: %w", err)
	}
	var all []Address
	for _, m := range msgs {
		ad, err := netlink.NewAttributeDecoder(m.Data)
		if err != nil {
			return nil, err
		}
		for ad.Next() {
			if ad.Type() == attrAddr {
				var a Address
				ad.Nested(a.decode)
				all = append(all, a)
			}
		}
		if err := ad.Err(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Limits returns the limits of the in-kernel path manager.
func (p *PM) Limits() (paths.SubflowLimits, error) {
	msgs, err := p.do(cmdGetLimits, 0, nil)
	if err != nil {
		return paths.SubflowLimits{}, fmt.Errorf("read MPTCP limits: %w", err)
	}
	var l paths.SubflowLimits
	for _, m := range msgs {
		ad, err := netlink.NewAttributeDecoder(m.Data)
		if err != nil {
			return paths.SubflowLimits{}, err
		}
		for ad.Next() {
			switch ad.Type() {
			case attrSubflows:
				l.Subflows = ad.Uint32()
			case attrRcvAddAddr:
				l.Announcements = ad.Uint32()
			}
		}
	}
	return l, nil
}

// SetLimits sets the limits of the in-kernel path manager.
func (p *PM) SetLimits(l paths.SubflowLimits) error {
	limits := nl.AppendUint32(nl.AppendUint32(nil, attrSubflows, l.Subflows), attrRcvAddAddr, l.Announcements)
	_, err := p.do(cmdSetLimits, netlink.Acknowledge, limits)
	if err != nil {
		return fmt.Errorf("set MPTCP limits: %w", err)
	}
	return nil
}
