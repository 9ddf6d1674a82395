//go:build linux

package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Events are the reports of a relay to its box. They are called from the relay's
// loops and must not block. For one connection they come in this order:
// Reached if it is dialed through another machine, Connected, then Paired if the client completed its handshake, then Carried if it
// carries much, then Closed if the connection had been paired.
type Events interface {
	// Reached reports that the machine at [Dial.Via] has answered with first bytes: the dial goes
	// on, or its end follows.
	Reached(c *Conn)
	// Connected reports the end of a dial: nil, or the error of connect(2) as a
	// [unix.Errno], or of [Dial.Through]. After an error the connection is gone.
	Connected(c *Conn, err error)
	// Paired reports that both legs are there and bytes may flow. If the box no
	// longer wants the connection it returns false, and both are reset.
	Paired(c *Conn) bool
	// Carried reports that a stream of the connection has moved [CarriedBytes]: once for
	// each stream.
	Carried(c *Conn)
	// Closed reports that both legs are gone: nil after a FIN in each
	// direction, else the error that reset them.
	Closed(c *Conn, err error)
}

// CarriedBytes is the size from which a connection is worth further subflows: more than most
// requests and responses, and some 10 ms of a slow line.
const CarriedBytes = 32 << 10

// Config of a relay.
type Config struct {
	// PlainMark and PathMark are the SO_MARKs of the sockets that face each side.
	PlainMark, PathMark uint32

	Keepalive time.Duration // idle time before a leg is probed, default 2 h 4 min (RFC 5382, REQ-5)
	Loops     int           // default: one per core
	// PlainReceiveBuffer is the receive buffer in bytes with which TCP sockets begin; 0 is
	// the kernel's (net.ipv4.tcp_rmem), with which those of MPTCP do.
	PlainReceiveBuffer int
	// SinglePath says that connections get no further subflows.
	SinglePath bool
	// CongestionControl is for the multipath legs, "" for the kernel's default.
	CongestionControl string
	// LimitSegments sets the MSS in bytes of an MPTCP socket where the kernel refuses
	// TCP_MAXSEG on it; nil if nothing else can.
	LimitSegments func(fd int, bytes uint16) error
	Events        Events
	// Explicit is for clients that say where to connect to; nil for none.
	Explicit *Explicit
	// OwnAddresses says that all sockets use addresses of this machine only. They have no
	// mark, and need no privilege.
	OwnAddresses bool
}

// Relay owns the sockets of a box.
type Relay struct {
	cfg       Config
	listeners []listener
	loops     []*loop
	keepalive atomic.Int64 // as [Config] has it, in nanoseconds
	prefaces  atomic.Int64 // clients whose preface is under way

	mu      sync.Mutex // guards the fields below; taken before a Conn's
	waiting map[tuple]*Conn
	next    int  // loop of the next dial
	stopped bool // takes no more dials
}

// tuple is the 5-tuple by which an accepted client finds its onward leg.
type tuple struct {
	client, server netip.AddrPort
	explicit       *Conn // the connection itself, in the place of the 5-tuple, if it is [Dial.Explicit]
}

// New opens the listeners and loops. Families are unix.AF_INET, unix.AF_INET6.
func New(cfg Config, families ...int) (*Relay, error) {
	if cfg.Loops == 0 {
		cfg.Loops = runtime.NumCPU()
	}
	if cfg.Keepalive == 0 {
		cfg.Keepalive = 124 * time.Minute
	}
	r := &Relay{cfg: cfg, waiting: make(map[tuple]*Conn)}
	r.keepalive.Store(int64(cfg.Keepalive))
	if err := r.open(families); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// SetKeepalive replaces the idle time before a leg is probed, for connections to come.
func (r *Relay) SetKeepalive(idle time.Duration) {
	r.keepalive.Store(int64(idle))
	for _, l := range r.listeners { // accepted sockets inherit it
		_ = setsockopt(l.fd, unix.SOL_TCP, unix.TCP_KEEPIDLE, int(idle.Seconds())) // as optional as at first
	}
}

func (r *Relay) open(families []int) error {
	if err := r.tryTuning(); err != nil {
		return err
	}
	for _, family := range families {
		for _, mptcp := range []bool{false, true} {
			l, err := r.listen(family, mptcp)
			if err != nil {
				return fmt.Errorf("open listener: %w", err)
			}
			r.listeners = append(r.listeners, l)
		}
	}
	if err := r.listenExplicitly(); err != nil {
		return err
	}
	for range r.cfg.Loops {
		l, err := newLoop(r)
		if err != nil {
			return err
		}
		r.loops = append(r.loops, l)
	}
	return nil
}

// Close closes the listeners and loops of a relay that does not run.
func (r *Relay) Close() error {
	r.end()
	for _, l := range r.listeners {
		unix.Close(l.fd)
	}
	for _, l := range r.loops {
		l.close()
	}
	r.listeners, r.loops = nil, nil
	return nil
}

// Listeners returns where the released SYNs of a side must be delivered, by address
// family: those of the multipath side speak MPTCP, with clients that do.
func (r *Relay) Listeners(mptcp bool) (at []netip.AddrPort) {
	for _, l := range r.listeners {
		if l.mptcp == mptcp && !l.explicit {
			at = append(at, l.local)
		}
	}
	return at
}

// Run moves bytes until ctx ends, then resets every connection.
func (r *Relay) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range r.loops {
		g.Go(l.run)
	}
	g.Go(func() error {
		<-ctx.Done()
		for _, l := range r.loops {
			l.stop()
		}
		return nil
	})
	err := g.Wait()
	r.end()
	for _, l := range r.loops {
		l.reset()
	}
	return err
}

// end resets the connections that wait for their client, and refuses further dials.
func (r *Relay) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
	for _, c := range r.waiting {
		c.discard()
	}
	clear(r.waiting)
}

// ID names a connection for the caller of [Relay.Dial]: package relay only keeps it.
type ID uint64

// Dial is the server of a connection, its client, and the traits of the onward SYN.
type Dial struct {
	Client, Server netip.AddrPort
	// OwnSource dials from an address of this machine instead of the client's: from
	// the one that From names, or where that is zero as the kernel chooses.
	OwnSource bool
	From      netip.Addr
	Interface string // by which to dial, "" for what the kernel chooses
	// MPTCP reports whether the onward leg is the one on the multipath side. It speaks MPTCP
	// unless it is Plain.
	MPTCP, Plain bool
	// OtherPort has the kernel choose the port, beside the client's address.
	OtherPort bool
	// Through asks for the server at Via, to which the onward leg connects in its place; nil
	// for a leg that connects to the server itself.
	Through Asking
	Via     netip.AddrPort
	// Explicit says that the client has asked for the server in a preface: [Relay.Welcome]
	// pairs the two.
	Explicit bool
	// Mark is the socket's SO_MARK; 0 is the one of its side.
	Mark uint32
	// DSCP, MSS (bytes) and HopLimit are for the SYN and all that follows, as far as
	// the kernel allows: MPTCP sockets take no hop limit, and a DSCP for IPv4 only.
	// Zero is the kernel's choice.
	DSCP     uint8
	MSS      uint16
	HopLimit uint8
	ID       ID // the caller's name for the connection
}

// Dial starts a connection to d.Server. Its outcome arrives as [Events.Connected].
// An error means that nothing was sent; it wraps a [unix.Errno].
func (r *Relay) Dial(d Dial) (*Conn, error) {
	mptcp := d.MPTCP && !d.Plain
	mark := r.cfg.PlainMark
	if d.MPTCP {
		mark = r.cfg.PathMark
	}
	fd, err := r.socket(familyOf(d.to().Addr()), mptcp, cmp.Or(d.Mark, mark), d.Explicit)
	if err != nil {
		return nil, err
	}
	r.setTraits(fd, d)
	if mptcp {
		_ = r.tune(fd) // it has been tried
	}
	c := &Conn{Dial: d, relay: r}
	c.onward.init(c, fd, mptcp)
	if err := r.connect(c); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return c, nil
}

func (r *Relay) connect(c *Conn) error {
	fd := c.onward.fd
	if err := c.bind(fd); err != nil {
		return err
	}
	if err := connect(fd, c.to()); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return os.NewSyscallError("connect", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return fmt.Errorf("relay has stopped: %w", unix.ESHUTDOWN)
	}
	if old := r.waiting[c.tuple()]; old != nil {
		old.discard() // given up by its client, and by now by the box
	}
	l := r.loops[r.next]
	r.next = (r.next + 1) % len(r.loops)
	r.waiting[c.tuple()] = c
	if err := l.add(&c.onward); err != nil {
		delete(r.waiting, c.tuple())
		return err
	}
	return nil
}

// bind gives a socket the end from which it is to connect.
func (d *Dial) bind(fd int) error {
	if d.Interface != "" {
		if err := unix.BindToDevice(fd, d.Interface); err != nil {
			return os.NewSyscallError("bind to "+d.Interface, err)
		}
	}
	local := d.Client
	if d.OwnSource || d.OtherPort {
		local = netip.AddrPortFrom(d.Client.Addr(), 0)
		if d.OwnSource {
			local = netip.AddrPortFrom(d.From, 0)
		}
		// The port is chosen when the server is known, so that many servers can share
		// it. Where the kernel does not do that, there are fewer ports.
		_ = setsockopt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}
	if !local.Addr().IsValid() {
		return nil
	}
	return os.NewSyscallError("bind", bind(fd, local))
}

// take removes the connection that waits for its client, if it is there. A
// client that comes while its connection is still dialing is a late one, of an
// earlier connection with the same 5-tuple.
func (r *Relay) take(t tuple) *Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.waiting[t]
	if c == nil || !c.isConnected() {
		return nil
	}
	delete(r.waiting, t)
	return c
}

// forget removes c from the waiting connections and reports whether it was one.
func (r *Relay) forget(c *Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waiting[c.tuple()] != c {
		return false
	}
	delete(r.waiting, c.tuple())
	return true
}

// Abort resets a connection that has not been paired. The box gets no event of
// it afterwards, except one that was on its way already. Of a connection that
// has been paired, or is gone, it is a no-op.
func (r *Relay) Abort(c *Conn) {
	if r.forget(c) {
		c.discard()
	}
}
