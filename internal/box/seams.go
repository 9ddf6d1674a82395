//go:build linux

package box

import (
	"net/netip"
	"sync"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
)

// Seams to the kernel, at the level of packets and connections. The doubles of packages
// nfqtest and relaytest are the other implementation.

// queue gives packets their verdicts. [nfq.Queue] is one.
type queue interface {
	Accept(id uint32) error
	Drop(id uint32) error
	Replace(id uint32, packet []byte) error
	Release(id uint32, mark nfq.Mark) error
	Errors() uint64 // that the kernel has reported
}

// dialer begins connections onward, and ends those that have not been paired.
type dialer interface {
	Dial(relay.Dial) (connection, error)
	Abort(connection)
	// End ends a connection that has been paired as if the error had ended its multipath leg.
	End(connection, error)
}

// connection is one relayed connection. [relay.Conn] is one.
type connection interface {
	paths.Traffic
	paths.Keeper
	Token() uint32
	ClientGone() bool
	Alive() bool
	Progress() relay.Progress
	// Push has the kernel send what it has not sent, with keepalives if probe is set.
	Push(probe bool)
	Local() netip.AddrPort
	Info() (relay.Info, bool)
}

// subflows opens the further subflows of connections. [mptcp.Manager] is one.
type subflows interface {
	Track(token uint32, policy paths.SubflowPolicy, traffic paths.Traffic)
	SetLarge(token uint32)
	Forget(token uint32)
	// Stranded says that no subflow of a connection lives.
	Stranded(token uint32)
	// AtHAG reports whether the other end of a connection is the HAG, as far as is known.
	AtHAG(token uint32) bool
}

// halfOpen knows the kernel's connections, also those whose handshake is not
// complete. [host.Diag] is one.
type halfOpen interface {
	Connected(local, remote netip.AddrPort) (bool, error)
	// EndClosed ends what the kernel keeps of a connection that is closed, or half-open.
	EndClosed(local, remote netip.AddrPort) error
}

// sharedDiag is a [host.Diag] for several goroutines.
type sharedDiag struct {
	mu sync.Mutex
	*host.Diag
}

// Connected implements halfOpen.
func (d *sharedDiag) Connected(local, remote netip.AddrPort) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Diag.Connected(local, remote)
}

// EndClosed implements halfOpen.
func (d *sharedDiag) EndClosed(local, remote netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Diag.EndClosed(local, remote)
}

// kernelRelay is a [relay.Relay] as a dialer.
type kernelRelay struct{ *relay.Relay }

// Dial implements dialer.
func (r kernelRelay) Dial(d relay.Dial) (connection, error) {
	c, err := r.Relay.Dial(d)
	if err != nil {
		return nil, err // not a connection that holds a nil pointer
	}
	return c, nil
}

// Abort implements dialer.
func (r kernelRelay) Abort(c connection) { r.Relay.Abort(c.(*relay.Conn)) }

// End implements dialer.
func (r kernelRelay) End(c connection, err error) { r.Relay.End(c.(*relay.Conn), err) }
