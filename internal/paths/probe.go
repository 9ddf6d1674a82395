package paths

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// prober probes a path over one address family.
type prober struct {
	conn  *net.UDPConn // connected, so that the kernel tells of a port without a box
	index int          // of the interface
	local netip.Addr
	join  netip.AddrPort

	cookie     uint64 // the HAG's, for the local address as it sees it
	known      bool   // the HAG has had it back
	unanswered int    // probes since the last answer
}

// dialProber opens a prober that is bound to an interface and an address of it.
func dialProber(ifname string, index int, local netip.Addr, join netip.AddrPort) (*prober, error) {
	d := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)),
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			bind := func(fd uintptr) { err = unix.BindToDevice(int(fd), ifname) }
			return errors.Join(raw.Control(bind), err)
		},
	}
	c, err := d.Dial("udp", join.String())
	if err != nil {
		return nil, err
	}
	return &prober{conn: c.(*net.UDPConn), index: index, local: local, join: join}, nil
}

// echo is what came back to a prober: a datagram, or word that nobody takes its probes.
type echo struct {
	from    *prober
	at      time.Time
	data    [messageSize]byte
	refused bool
}

// listen hands on what comes back, until the prober is closed or ctx ends.
func (p *prober) listen(ctx context.Context, to chan<- echo) {
	var buf [messageSize + 1]byte // one more, to notice what is longer
	for {
		n, err := p.conn.Read(buf[:])
		e := echo{from: p, at: time.Now(), refused: errors.Is(err, unix.ECONNREFUSED)}
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case !e.refused && (err != nil || n != messageSize):
			continue
		}
		copy(e.data[:], buf[:])
		select {
		case to <- e:
		case <-ctx.Done():
			return
		}
	}
}

// deaf tells that answers to the prober stay away.
func (p *prober) deaf() bool { return p.unanswered >= silenceProbes }

// fits tells whether the prober is what these ends call for.
func (p *prober) fits(index int, local netip.Addr, join netip.AddrPort) bool {
	return p != nil && p.index == index && p.local == local && p.join == join
}
