package relay

import (
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// phase is how far a connection has come.
type phase uint8

const (
	dialing   phase = iota
	connected       // waits for its client
	paired
	closed
)

// Conn is one relayed connection: an onward leg and, once paired, the client's.
type Conn struct {
	Dial
	relay *Relay

	// mu guards phase, and with it the life of the sockets: while it is held
	// they are not closed. Moving bytes does not take it.
	mu             sync.Mutex
	phase          phase
	onward, client leg
	up, down       stream // from the client, to the client
	last           Info   // of the multipath leg, when it was closed
}

// leg is one kernel connection of a relayed flow.
type leg struct {
	conn  *Conn
	fd    int
	mptcp bool // an MPTCP socket, also if it has fallen back to TCP
	reg   registration
}

func (g *leg) init(c *Conn, fd int, mptcp bool) { g.conn, g.fd, g.mptcp = c, fd, mptcp }

func (c *Conn) tuple() tuple { return tuple{c.Client, c.Server} }

// multipath returns the leg on the multipath side.
func (c *Conn) multipath() *leg {
	if c.MPTCP {
		return &c.onward
	}
	return &c.client
}

// BytesUp returns how many bytes the client sent that were passed on.
func (c *Conn) BytesUp() uint64 { return c.up.moved.Load() }

// BytesDown returns how many bytes were passed on to the client.
func (c *Conn) BytesDown() uint64 { return c.down.moved.Load() }

// Local returns the address and port from which the onward leg was dialed.
func (c *Conn) Local() netip.AddrPort {
	if !c.OwnSource {
		return c.Client
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == closed {
		return netip.AddrPort{}
	}
	return localOf(c.onward.fd)
}

// discard resets the onward leg of a connection that never got its client.
func (c *Conn) discard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == closed {
		return
	}
	c.phase = closed
	c.onward.close(true)
}

// pair gives c its client's socket and hands both to the loop.
func (c *Conn) pair(fd int) error {
	c.mu.Lock()
	c.client.init(c, fd, protocolOf(fd) == unix.IPPROTO_MPTCP)
	c.up.init(&c.client, &c.onward)
	c.down.init(&c.onward, &c.client)
	c.phase = paired
	c.mu.Unlock()
	c.relay.cfg.Events.Paired(c)
	// The new leg is writable at once: its first event starts both streams.
	return c.onward.reg.loop.add(&c.client)
}

// finish closes both legs, as resets when err says that one of them was.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last, _ = c.info()
	c.phase = closed
	c.onward.close(err != nil)
	c.client.close(err != nil)
	c.up.drop()
	c.down.drop()
}

func (g *leg) close(reset bool) {
	g.reg.cancel()
	if reset {
		closeWithReset(g.fd)
	} else {
		unix.Close(g.fd)
	}
}

// ready handles what epoll says about a leg.
func (g *leg) ready(l *loop, events uint32) {
	c := g.conn
	c.mu.Lock()
	before := c.phase
	var err error
	if before == dialing {
		err = c.dialed()
	}
	now := c.phase
	c.mu.Unlock()
	switch {
	case before == dialing:
		c.report(now, err)
	case now == paired:
		c.carry(l, g, events)
	}
	// While connected, the server may speak first or reset: pairing will read it.
}

// dialed looks for the outcome of the dial. It is called with c.mu held.
func (c *Conn) dialed() error {
	if err := socketError(c.onward.fd); err != nil {
		return err
	}
	if _, err := unix.Getpeername(c.onward.fd); err == nil {
		c.phase = connected
	}
	return nil
}

// report tells the box the outcome of the dial, if there is one.
func (c *Conn) report(now phase, err error) {
	switch {
	case err != nil && c.relay.forget(c):
		c.discard()
		c.relay.cfg.Events.Connected(c, err)
	case err == nil && now == connected:
		c.relay.cfg.Events.Connected(c, nil)
	}
}

// carry moves the bytes that an event of leg g promises.
func (c *Conn) carry(l *loop, g *leg, events uint32) {
	from, to := &c.up, &c.down
	if g == &c.onward {
		from, to = to, from
	}
	var err error
	if events&unix.EPOLLERR != 0 {
		err = socketError(g.fd)
	}
	if err == nil {
		err = l.pump(from)
	}
	if err == nil && to.stalled {
		err = l.pump(to)
	}
	if err != nil || from.done && to.done {
		c.finish(err)
		c.relay.cfg.Events.Closed(c, err)
	}
}

// socketError returns and clears the pending error of a socket.
func socketError(fd int) error {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return unix.Errno(n)
	}
	return nil
}

// localOf returns a socket's own address: for a client that TPROXY delivered, its server's.
func localOf(fd int) netip.AddrPort {
	sa, _ := unix.Getsockname(fd)
	return addrPort(sa)
}

func protocolOf(fd int) int {
	n, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return n
}
