package sim

import (
	"cmp"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/synbond/synbond/rewrite"
)

// phase is how far a connection has come.
type phase uint8

const (
	synSent phase = iota
	synReceived
	established
	closed
)

// tuple names a connection of a stack.
type tuple struct{ local, remote netip.AddrPort }

// conn is one end of a TCP connection.
type conn struct {
	stack *stack
	tuple
	phase     phase
	isn, peer uint32 // initial sequence numbers
	capable   bool   // MP_CAPABLE in its SYN or SYN+ACK
	mptcp     bool   // the other end has answered with it
	path      int    // to which its packets are bound, -1 for none
	attempt   int
	begun     time.Duration

	finSent, finAcked, finGot bool
	tries                     int
	timer                     int // its number: older ones are void
	challenged                time.Duration

	// What its owner hears of it; each may be nil.
	connected func(error)
	fin       func()
	reset     func()
}

// stack is the TCP of one machine.
type stack struct {
	w     *world
	name  string
	conns map[tuple]*conn
	send  func(*conn, packet) // hands a packet to the network; conn may be nil
	// listen takes a SYN for which there is no connection.
	listen func(packet)
}

func newStack(w *world, name string) *stack {
	return &stack{w: w, name: name, conns: make(map[tuple]*conn)}
}

// all returns the connections in a fixed order, as maps have none.
func (s *stack) all() []*conn {
	var out []*conn
	for _, c := range s.conns {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *conn) int {
		return cmp.Or(a.local.Compare(b.local), a.remote.Compare(b.remote))
	})
	return out
}

// Retransmissions: the first after a second, then twice as long each time.
const (
	firstTimeout = time.Second
	synTries     = 6
	// A SYN with MP_CAPABLE is repeated without it from then on
	// (net.mptcp.syn_retrans_before_tcp_fallback).
	capableRepeats = 2
	finTries       = 5
	// A connection that nothing was heard on is probed, and given up after three probes.
	keepaliveEvery = 20 * time.Second
	keepaliveTries = 3
)

// open adds a connection.
func (s *stack) open(c *conn) *conn {
	c.stack, c.isn, c.begun = s, s.w.rnd.Uint32(), s.w.now
	s.conns[c.tuple] = c
	return c
}

// dial begins a connection.
func (s *stack) dial(c *conn) *conn {
	s.open(c)
	c.phase = synSent
	c.transmit(rewrite.SYN)
	c.again(firstTimeout, func() bool { return c.phase == synSent }, synTries, func() { c.over(syscall.ETIMEDOUT) })
	return c
}

// accept answers a SYN.
func (s *stack) accept(p packet, capable bool) *conn {
	c := s.open(&conn{tuple: tuple{p.dst, p.src}, phase: synReceived, peer: p.seq, capable: capable, path: -1, attempt: p.attempt})
	c.transmit(synACK)
	c.again(firstTimeout, func() bool { return c.phase == synReceived }, synTries, c.drop)
	return c
}

// transmit sends a segment of the connection.
func (c *conn) transmit(flags rewrite.Flags) {
	p := packet{src: c.local, dst: c.remote, flags: flags, seq: c.isn, ack: c.peer, attempt: c.attempt}
	if flags&rewrite.ACK == 0 {
		p.ack = 0
	}
	if flags&rewrite.SYN != 0 {
		p = p.withData(c.capable)
	}
	c.stack.send(c, p)
}

// again repeats the last segment as long as wanted says, and then gives up.
func (c *conn) again(timeout time.Duration, wanted func() bool, tries int, giveUp func()) {
	c.timer++
	mine := c.timer
	c.stack.w.after(timeout, func() {
		switch {
		case c.timer != mine || c.phase == closed || !wanted():
		case tries == 0:
			giveUp()
		default:
			switch {
			case c.phase == synSent:
				c.capable = c.capable && tries > synTries-capableRepeats
				c.transmit(rewrite.SYN)
			case c.phase == synReceived:
				c.transmit(synACK)
			case c.finSent:
				c.transmit(rewrite.FIN | rewrite.ACK)
			}
			c.again(2*timeout, wanted, tries-1, giveUp)
		}
	})
}

// establish completes the handshake.
func (c *conn) establish() {
	c.phase, c.tries = established, 0
	c.probe()
	if c.connected != nil {
		c.connected(nil)
	}
}

// probe keeps looking whether the other end is still there.
func (c *conn) probe() {
	c.stack.w.after(keepaliveEvery, func() {
		if c.phase != established {
			return
		}
		if c.tries++; c.tries > keepaliveTries {
			c.over(syscall.ETIMEDOUT)
			return
		}
		c.stack.send(c, packet{src: c.local, dst: c.remote, flags: rewrite.ACK, seq: c.isn, ack: c.peer, keepalive: true, attempt: c.attempt})
		c.probe()
	})
}

// drop forgets the connection without a word.
func (c *conn) drop() {
	c.phase = closed
	if c.stack.conns[c.tuple] == c {
		delete(c.stack.conns, c.tuple)
	}
}

// over ends the connection for its owner.
func (c *conn) over(err error) {
	was := c.phase
	c.drop()
	switch {
	case was == synSent && c.connected != nil:
		c.connected(err)
	case was == established && c.reset != nil:
		c.reset()
	}
}

// abort resets the connection.
func (c *conn) abort() {
	if c.phase == established || c.phase == synReceived {
		c.transmit(rewrite.RST | rewrite.ACK)
	}
	c.drop()
}

// close ends one direction.
func (c *conn) close() {
	if c.phase != established || c.finSent {
		return
	}
	c.finSent = true
	c.transmit(rewrite.FIN | rewrite.ACK)
	c.again(firstTimeout, func() bool { return !c.finAcked }, finTries, func() { c.over(syscall.ETIMEDOUT) })
}

// finished forgets the connection when both directions have ended.
func (c *conn) finished() {
	if c.finAcked && c.finGot {
		c.drop()
	}
}

// receive takes a packet for this machine.
func (s *stack) receive(p packet) {
	c := s.conns[tuple{p.dst, p.src}]
	if p.unreachable {
		if c != nil && c.phase == synSent && p.ack == c.isn {
			c.over(syscall.EHOSTUNREACH)
		}
		return
	}
	switch {
	case c == nil && p.is(rewrite.SYN):
		s.listen(p)
	case c == nil && p.flags&rewrite.RST == 0: // RFC 9293, section 3.5.2
		s.send(nil, packet{src: p.dst, dst: p.src, flags: rewrite.RST | rewrite.ACK, seq: p.ack, ack: p.seq, attempt: p.attempt})
	case c == nil:
	case p.flags&rewrite.RST != 0:
		c.receiveReset(p)
	case p.is(rewrite.SYN):
		c.receiveSYN(p)
	case c.phase == synSent:
		c.receiveAnswer(p)
	case p.seq != c.peer || p.ack != c.isn:
		c.challenge()
	default:
		c.receiveSegment(p)
	}
}

// challenge answers a segment that is out of the window (RFC 5961), not too often
// (tcp_invalid_ratelimit), as two ends that do not agree would never stop.
func (c *conn) challenge() {
	const limit = 500 * time.Millisecond
	if (c.phase == established || c.phase == synReceived) && (c.challenged == 0 || c.stack.w.now-c.challenged > limit) {
		c.challenged = c.stack.w.now
		c.transmit(rewrite.ACK)
	}
}

func (c *conn) receiveReset(p packet) {
	switch {
	case c.phase == synSent && p.ack == c.isn && p.flags&rewrite.ACK != 0:
		c.over(syscall.ECONNREFUSED)
	case c.phase == synSent || p.seq != c.peer:
	case c.phase == synReceived:
		c.drop() // the kernel tells nobody
	default:
		c.over(syscall.ECONNRESET)
	}
}

func (c *conn) receiveSYN(p packet) {
	switch {
	case c.phase == synReceived && p.seq == c.peer:
		c.transmit(synACK)
	case c.phase != synSent:
		c.challenge()
	}
}

// receiveAnswer takes a segment in SYN-SENT.
func (c *conn) receiveAnswer(p packet) {
	if p.ack != c.isn { // RFC 9293, section 3.10.7.3
		c.stack.send(c, packet{src: c.local, dst: c.remote, flags: rewrite.RST, seq: p.ack, ack: p.seq, attempt: c.attempt})
		return
	}
	if p.is(synACK) {
		c.peer, c.mptcp = p.seq, c.capable && p.capable()
		c.stack.w.heardAnswer(c, &p)
		c.transmit(rewrite.ACK)
		c.establish()
	}
}

// receiveSegment takes a segment that belongs to the connection.
func (c *conn) receiveSegment(p packet) {
	if p.is(synACK) { // the ACK was lost
		c.transmit(rewrite.ACK)
		return
	}
	c.tries = 0
	if c.phase == synReceived {
		c.establish()
	}
	switch {
	case c.phase != established:
	case p.keepalive:
		c.transmit(rewrite.ACK)
	case p.finACK:
		c.finAcked = true
		c.finished()
	case p.flags&rewrite.FIN != 0:
		c.stack.send(c, packet{src: c.local, dst: c.remote, flags: rewrite.ACK, seq: c.isn, ack: c.peer, finACK: true, attempt: c.attempt})
		if !c.finGot {
			c.finGot = true
			if c.fin != nil {
				c.fin()
			}
		}
		c.finished()
	}
}
