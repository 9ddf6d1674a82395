//go:build linux

package relay

import (
	"cmp"
	"errors"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// phase is the progress of a connection.
type phase uint8

const (
	dialing   phase = iota
	asking          // the onward leg has connected to Dial.Via
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
	account        *Account       // of the client's user, or nil
	local          netip.AddrPort // of the onward leg, once it is connected
	up, down       stream         // from the client, to the client
	last           Info           // of the multipath leg: as it was when it was last asked, or closed
	noteAt         time.Time      // when to ask again
	noteEvery      time.Duration  // then
	early          *ending        // requested while the client is being paired
	halfClosed     bool           // one stream has ended
	draining       bool           // the connection is in its loop's draining
	answered       bool           // the machine at Dial.Via has
	idle           time.Duration  // after which subflows are probed, 0: the relay's
	probing        bool           // each second instead
}

// leg is one kernel connection of a relayed flow.
type leg struct {
	conn  *Conn
	fd    int
	mptcp bool   // an MPTCP socket, also if it has fallen back to TCP
	token uint32 // of MPTCP, 0 before it was asked for
	reg   registration
	// err is the error that ended the leg, or nil while the leg lives. Bytes of its host may
	// still be unread.
	err error
	// queued: the leg is in its loop's runnable.
	queued bool
	budget budget
	buffer buffer // of a TCP leg
}

func (g *leg) init(c *Conn, fd int, mptcp bool) {
	g.conn, g.fd, g.mptcp, g.budget.bytes = c, fd, mptcp, initialBudget
}

func (c *Conn) tuple() tuple {
	if c.Explicit {
		return tuple{explicit: c}
	}
	return tuple{client: c.Client, server: c.Server}
}

// multipath returns the leg on the multipath side.
func (c *Conn) multipath() *leg {
	if c.MPTCP {
		return &c.onward
	}
	return &c.client
}

// BytesUp returns the number of the client's bytes passed on.
func (c *Conn) BytesUp() uint64 { return c.up.moved.Load() }

// BytesDown returns the number of bytes passed on to the client.
func (c *Conn) BytesDown() uint64 { return c.down.moved.Load() }

// SetKeepalive sets the idle time after which the subflows of the multipath leg are
// probed, 0 for the relay's. A subflow that does not answer for some seconds ends. While
// [Conn.Push] has them probed, the time holds from later on.
func (c *Conn) SetKeepalive(idle time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.idle = idle
	if g := c.multipath(); !c.probing && g.conn != nil && g.mptcp && c.phase != closed {
		setKeepalive(g.fd, c.idleTime(), pathKeepaliveProbes)
	}
}

// idleTime returns the idle time after which the subflows are probed.
func (c *Conn) idleTime() time.Duration {
	return cmp.Or(c.idle, time.Duration(c.relay.keepalive.Load()))
}

// Local returns the address and port from which the onward leg is connected, the
// zero AddrPort if it never was.
func (c *Conn) Local() netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.local
}

// isConnected reports whether the dial has succeeded and the client is awaited.
func (c *Conn) isConnected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase == connected
}

// ClientGone reports whether the client's connection has ended in the kernel,
// though the relay may still have to hear of it: the client may use its port
// again before [Events.Closed] says so.
func (c *Conn) ClientGone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == closed || c.client.conn == nil {
		return c.phase == closed
	}
	// Of an MPTCP connection this is the first subflow, which bears the 5-tuple.
	ti, err := unix.GetsockoptTCPInfo(c.client.fd, unix.SOL_TCP, unix.TCP_INFO)
	return err != nil || ti.State == unix.BPF_TCP_CLOSE
}

// discard resets the onward leg of a connection that never got its client.
func (c *Conn) discard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == closed {
		return
	}
	c.noteEnd()
	c.phase = closed
	// Of an MPTCP socket that still waits for its SYN+ACK, SO_LINGER would send a reset that
	// belongs to no connection (kernel: mptcp_subflow_reset).
	c.onward.close(!waitsForAnswer(c.onward.fd))
}

// errUnwanted: the box gave the connection up while its client was accepted.
var errUnwanted = errors.New("unwanted")

// pair gives c its client's socket and hands both to the loop, with the first bytes of the
// client, which have been read. It runs on the
// loop that accepted the client, which need not be that of c: until the phase
// changes, c's own loop leaves the onward leg alone, whatever happens to it.
func (c *Conn) pair(fd int, mptcp bool, first []byte) error {
	c.mu.Lock()
	c.client.init(c, fd, mptcp)
	if mptcp {
		_ = c.relay.tune(fd) // it has been tried
	}
	c.client.fixBuffer()
	c.up.init(&c.client, &c.onward)
	c.down.init(&c.onward, &c.client)
	if c.account != nil {
		c.up.share.join(&c.account.Up)
		c.down.share.join(&c.account.Down)
	}
	if len(first) > 0 {
		c.up.keep(first)
	}
	if c.Through != nil {
		if rest := c.Through.Rest(); len(rest) > 0 {
			c.down.keep(rest)
		}
		c.Through = nil // with the memory of the preface
	}
	c.mu.Unlock()
	if !c.relay.cfg.Events.Paired(c) {
		return errUnwanted
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onward.fail(socketError(c.onward.fd)) // its event may have come before it was paired
	// The new leg is writable at once: its first event starts both streams.
	if err := c.onward.reg.loop.add(&c.client); err != nil {
		return err
	}
	c.phase = paired
	c.noteFirst()
	if e := c.early; e != nil {
		c.onward.reg.loop.post(func(l *loop) { c.giveUp(l, *e) })
	}
	return nil
}

// finish closes both legs, as resets when err says that one of them was.
func (c *Conn) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.noteEnd()
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
		closeSocket(g.fd)
	}
}

// ready handles the events of a leg.
func (g *leg) ready(l *loop, events uint32) {
	c := g.conn
	c.mu.Lock()
	before := c.phase
	var err error
	if before == dialing {
		err = c.dialed(events)
	}
	now := c.phase
	c.mu.Unlock()
	switch {
	case before == dialing:
		c.report(now, err)
		if err == nil && now == asking {
			c.ask(l)
		}
	case before == asking:
		c.hear(l)
	case now == paired:
		c.carry(l, g, events)
	}
	// While connected, the server may speak first or reset: pairing will read it.
}

// dialed determines the outcome of the dial. It is called with c.mu held.
func (c *Conn) dialed(events uint32) error {
	const failed = unix.EPOLLERR | unix.EPOLLHUP
	if events&(failed|unix.EPOLLOUT) != unix.EPOLLOUT { // else it has room for bytes: it is connected
		err := socketError(c.onward.fd)
		if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
			// The error of a refused SYN is ECONNREFUSED. This server has accepted and then
			// reset the connection, perhaps after a FIN: the client will see the same.
			c.onward.fail(err)
		} else if err != nil {
			return err
		} else if _, err := peerOf(c.onward.fd); err != nil {
			return nil // not yet
		}
	}
	c.phase, c.local = connected, c.Client
	if c.Through != nil {
		c.phase = asking
	}
	c.onward.fixBuffer()
	if c.OwnSource || c.OtherPort {
		c.local, _ = localOf(c.onward.fd) // it is connected
	}
	return nil
}

// report gives the box the outcome of the dial, if there is one.
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
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		g.fail(socketError(g.fd))
		if events&unix.EPOLLHUP != 0 && !to.done.Load() {
			g.fail(unix.EPIPE) // the kernel closes MPTCP sockets without an error, too
		}
	}
	l.pump(from) // also for EPOLLOUT: MPTCP sends no event for some readable bytes
	if from.done.Load() && !c.halfClosed {
		c.mu.Lock()
		c.halfClosed = true
		c.noteEnd()
		c.mu.Unlock()
	}
	c.noteSometimes()
	if to.stalled || c.broken() || to.ended && !to.done.Load() {
		l.pump(to)
	}
	c.settle(l)
}

// broken reports whether an error has ended one of the legs.
func (c *Conn) broken() bool { return c.onward.err != nil || c.client.err != nil }

// settle ends the connection after both FINs, or drains it after an error.
func (c *Conn) settle(l *loop) {
	switch {
	case c.up.done.Load() && c.down.done.Load():
		c.end(nil)
	case !c.broken():
	case c.onward.err == nil:
		l.drain(&c.up)
	case c.client.err == nil:
		l.drain(&c.down)
	default:
		c.end(c.onward.err)
	}
}

// end closes both legs and reports that to the box.
func (c *Conn) end(err error) {
	c.finish(err)
	c.relay.cfg.Events.Closed(c, err)
}

// fail notes the error that has ended a leg. Only the first one that is not nil counts.
func (g *leg) fail(err error) {
	if g.err == nil {
		g.err = err
	}
}

// socketError returns and clears the pending error of a socket.
func socketError(fd int) error {
	n, err := getsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return unix.Errno(n)
	}
	return nil
}

func protocolOf(fd int) int {
	n, _ := getsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	return n
}
