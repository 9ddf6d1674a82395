//go:build linux

package relay

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Alive reports whether a subflow carries the multipath leg of a paired connection. The
// kernel keeps an MPTCP socket established after its last subflow has ended, and reports
// no event: the path manager may open another one. TCP legs and those that have fallen
// back to TCP end with their connection, and are always alive here, and so is a connection
// that drains.
func (c *Conn) Alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.multipath()
	if c.phase != paired || !g.mptcp {
		return true
	}
	var all rawTCPInfos
	subflows, err := all.read(g.fd)
	return err != nil || slices.ContainsFunc(subflows, living) || finished(g.fd)
}

// living reports whether a subflow lives: one that is being opened does not carry anything yet.
func living(s unix.TCPInfo) bool {
	return s.State != unix.BPF_TCP_CLOSE && s.State != unix.BPF_TCP_SYN_SENT
}

// finished reports whether a leg needs no subflow any more: its peer has sent all and
// acknowledged all. The bytes may still wait for a host that reads slowly.
func finished(fd int) bool {
	left, err := unacknowledged(fd)
	return hungUp(fd) && err == nil && left == 0
}

// hungUp reports whether the peer of a leg has sent all. The last bytes may still be unread.
func hungUp(fd int) bool {
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	n, err := unix.Poll(poll, 0)
	return n == 1 && err == nil && poll[0].Revents&unix.POLLRDHUP != 0
}

// Ending reports whether an end of the multipath leg has sent all that it has to send.
func (c *Conn) Ending() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != paired {
		return true
	}
	g := c.multipath()
	sent := &c.up
	if c.down.to == g {
		sent = &c.down
	}
	return sent.done.Load() || hungUp(g.fd)
}

// Unacknowledged returns the bytes of the multipath leg that the other box has not
// acknowledged yet.
func (c *Conn) Unacknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != paired {
		return 0
	}
	n, _ := unacknowledged(c.multipath().fd) // cannot fail on an open socket
	return n
}

// Progress is the progress of a paired connection.
type Progress struct {
	// Left is the number of bytes of the multipath leg that the other box has not acknowledged,
	// Acknowledged that of those which it has. A FIN counts as one in Left; as long as it is not
	// acknowledged, Acknowledged is one less.
	Left         int
	Acknowledged int64
	Moved        uint64 // bytes, in both directions
	HalfClosed   bool   // one direction has ended
}

// Progress returns the progress of a connection, zero if it is not paired.
func (c *Conn) Progress() Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != paired {
		return Progress{}
	}
	up, down := c.up.moved.Load(), c.down.moved.Load()
	given := up
	if !c.MPTCP {
		given = down
	}
	left, _ := unacknowledged(c.multipath().fd) // cannot fail on an open socket
	return Progress{left, int64(given) - int64(left), up + down, c.halfClosed}
}

// Push has the kernel send what it has given to no subflow. Bytes that it got while there was
// no subflow stay where they are when one comes: neither a timer runs, nor does the new
// subflow start them. With probe, keepalives are sent each second, which carry a FIN
// (DATA_FIN) that is not acknowledged, until Push is called without probe. They end a subflow
// after a quarter of a minute without an answer.
func (c *Conn) Push(probe bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.multipath()
	if c.phase != paired || !g.mptcp {
		return
	}
	// The option is set already. Setting it starts the bytes that wait (kernel:
	// mptcp_setsockopt_sol_tcp_nodelay, mptcp_check_and_set_pending).
	_ = setsockopt(g.fd, unix.SOL_TCP, unix.TCP_NODELAY, 1)
	switch {
	case probe == c.probing:
	case probe:
		setKeepalive(g.fd, time.Second, patientProbes)
	default:
		setKeepalive(g.fd, c.idleTime(), pathKeepaliveProbes)
	}
	c.probing = probe
}

// End ends a paired connection as if err had ended its multipath leg: the bytes that the
// leg has delivered go to the host before the reset. Of another connection it is a no-op.
// It may be called from any goroutine; [Events.Closed] reports err.
func (r *Relay) End(c *Conn, err error) { c.request(ending{err: err}) }

// Reset resets both legs of a paired connection at once. Of another connection it is a
// no-op. It may be called from any goroutine; [Events.Closed] reports err.
func (r *Relay) Reset(c *Conn, err error) { c.request(ending{err: err, atOnce: true}) }

// ending is the box's wish to end a connection.
type ending struct {
	err    error
	atOnce bool // whatever the legs have delivered
}

// request passes an ending to the connection's loop. [Events.Paired] tells others of the
// connection before it counts as paired.
func (c *Conn) request(e ending) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.phase == paired:
		c.onward.reg.loop.post(func(l *loop) { c.giveUp(l, e) })
	case c.phase != closed && c.client.conn != nil && c.early == nil:
		c.early = &e
	}
}

// giveUp carries out [Relay.End] or [Relay.Reset] on the loop of the connection.
func (c *Conn) giveUp(l *loop, e ending) {
	g := c.multipath()
	switch {
	case g.reg.loop == nil: // the connection has ended meanwhile
		return
	case e.atOnce:
		c.end(e.err)
		return
	}
	g.fail(e.err)
	// Reads then return the bytes that are there, and the end. It cannot fail on a leg
	// that was connected; were it to, the other leg would be reset without these bytes.
	_ = unix.Shutdown(g.fd, unix.SHUT_RD)
	c.carry(l, g, 0)
}
