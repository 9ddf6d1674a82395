//go:build linux

package relay

import "golang.org/x/sys/unix"

// Room is the send budget of a leg, by the state of its subflows.
var Room = room

// InWindow is the number of bytes that still fit into a peer's window.
var InWindow = inWindow

// Rate is the rate of a subflow in bytes/s.
var Rate = rate

// Ramp is the number of bytes that may still be under way, Delivered those that subflows
// have delivered.
var (
	Ramp      = ramp
	Delivered = delivered
)

// Offers returns what a leg is offered for its idle subflows, look after look.
func Offers(looks ...[]unix.TCPInfo) (bytes []int) {
	var b budget
	for _, subflows := range looks {
		bytes = append(bytes, b.offer(subflows))
	}
	return bytes
}

// NearAndFast reports which legs need a send buffer that never fills.
var NearAndFast = nearAndFast

// SendBuffer is the size of the send buffer of a connection's multipath leg.
func (c *Conn) SendBuffer() (int, error) {
	return getsockoptInt(c.multipath().fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
}

// ReceiveBuffer is the size of the receive buffer of the other leg, and whether the
// kernel fits it to what is read.
func (c *Conn) ReceiveBuffer() (size int, fitted bool, err error) {
	g := &c.onward
	if c.MPTCP {
		g = &c.client
	}
	locked, err := getsockoptInt(g.fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	if err != nil {
		return 0, false, err
	}
	size, err = getsockoptInt(g.fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	return size, locked == 0, err
}

// Keepalive is the idle time in seconds after which the subflows of a connection's multipath
// leg are probed, 0 if the leg has no MPTCP.
func (c *Conn) Keepalive() (int, error) {
	g := c.multipath()
	if !g.mptcp {
		return 0, nil
	}
	return getsockoptInt(g.fd, unix.SOL_TCP, unix.TCP_KEEPIDLE)
}

// Left counts what a relay still holds: connections that wait for their client,
// and places in its loops beside those of its listeners and wake-ups.
func (r *Relay) Left() (waiting, slots int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.loops {
		l.mu.Lock()
		slots += len(l.slots) - len(l.free) - 1 - len(r.listeners)
		l.mu.Unlock()
	}
	return len(r.waiting), slots
}

// Unassigned is the number of bytes of each leg that no subflow has when the onward one was given
// so many and the other none.
func Unassigned(up, sent uint64) (onward, client int) {
	c := new(Conn)
	c.onward.conn, c.client.conn = c, c
	c.up.init(&c.client, &c.onward)
	c.down.init(&c.onward, &c.client)
	c.up.moved.Store(up)
	return c.onward.unassigned(sent), c.client.unassigned(sent)
}

// Unacknowledged is the number of bytes in a socket that its peer has not acknowledged.
var Unacknowledged = unacknowledged

// WaitsWithFIN reports whether a FIN may wait, by the bytes carried in both directions.
func WaitsWithFIN(up, down uint64, fromClient, mptcp bool) bool {
	c := new(Conn)
	c.onward.conn, c.client.conn = c, c
	c.onward.mptcp, c.client.mptcp = fromClient && mptcp, !fromClient && mptcp
	c.up.init(&c.client, &c.onward)
	c.down.init(&c.onward, &c.client)
	c.up.moved.Store(up)
	c.down.moved.Store(down)
	if fromClient {
		return c.up.expectsMore()
	}
	return c.down.expectsMore()
}

// LimitSegments sets the MSS of a socket as a dial does, with a function for sockets that refuse the option.
func LimitSegments(fd int, bytes uint16, otherwise func(int, uint16) error) {
	r := &Relay{cfg: Config{LimitSegments: otherwise}}
	r.limitSegments(fd, bytes)
}

// Carried reports whether a socket with MPTCP has a subflow. One of TCP has none to lose.
func Carried(fd int) bool {
	return protocolOf(fd) != unix.IPPROTO_MPTCP || (&leg{fd: fd, mptcp: true}).carried()
}
