//go:build linux

package relay

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A reset discards the unsent data of its socket, and on one subflow it overtakes data in
// flight on another. So the relay resets a leg only after its peer has acknowledged every
// byte. The kernel has no event for that: the loop polls.
const (
	// resetPatience limits the wait for a silent peer: its path may come back.
	resetPatience = time.Minute
	// closedPatience limits the wait for a peer with a closed window. Without boxes the peer
	// would get no more bytes either.
	closedPatience = time.Second
	// deafPatience limits the wait for a peer that answers but acknowledges no data, for
	// example for want of memory.
	deafPatience = 5 * time.Second
	// drainShare: the next look follows after this part of the time already spent.
	drainShare = 8
)

// draining is a connection with one leg ended by an error, and another leg that will be
// reset when its peer has acknowledged all bytes of the first.
type draining struct {
	stream  *stream // from the ended leg to the other
	moved   uint64  // bytes of the stream, at the last look
	left    int     // unacknowledged bytes, at the last look
	began   time.Time
	changed time.Time // last change of moved or left
	next    time.Time // next look
}

// drain resets the receiving leg of s, and ends the connection, as soon as the peer of that
// leg has acknowledged all of s.
func (l *loop) drain(s *stream) {
	c := s.to.conn
	if s.acknowledged() {
		c.end(s.from.err)
	} else if !c.draining {
		c.draining = true
		now := time.Now()
		l.draining = append(l.draining, draining{stream: s, began: now, changed: now})
	}
}

// checkDraining ends the connections whose last bytes are acknowledged, or never will be.
func (l *loop) checkDraining() {
	if len(l.draining) == 0 {
		return
	}
	now := time.Now()
	kept := l.draining[:0]
	for _, d := range l.draining {
		s := d.stream
		switch {
		case s.to.reg.loop == nil: // the connection has ended meanwhile
		case now.Before(d.next) || !s.acknowledged() && !d.vain(now):
			kept = append(kept, d)
		default:
			s.to.conn.end(s.from.err)
		}
	}
	clear(l.draining[len(kept):])
	l.draining = kept
}

// acknowledged reports whether s is over and the peer has acknowledged all of it.
func (s *stream) acknowledged() bool {
	if !s.over() {
		return false
	}
	left, err := unacknowledged(s.to.fd)
	return err != nil || left == 0
}

// vain reports whether the peer has made no progress for too long. Otherwise it sets the
// time of the next look.
func (d *draining) vain(now time.Time) bool {
	s := d.stream
	left, _ := unacknowledged(s.to.fd) // cannot fail on an open socket
	if moved := s.moved.Load(); left != d.left || moved != d.moved {
		d.left, d.moved, d.changed = left, moved, now
	}
	d.next = now.Add(min(max(now.Sub(d.began)/drainShare, pauseTick), longestPause))
	since := now.Sub(d.changed)
	if since <= closedPatience {
		return false
	}
	underWay, heard := s.to.underWay()
	return !underWay || since > deafPatience && heard < since-closedPatience || since > resetPatience
}

// underWay reports whether a leg has bytes in flight, and the time since its peer was last
// heard. A leg with unacknowledged bytes but none in flight has a peer with a closed window.
func (g *leg) underWay() (yes bool, heard time.Duration) {
	heard = resetPatience
	for _, s := range g.tcpInfos() {
		if s.State != unix.BPF_TCP_CLOSE {
			yes = yes || s.Unacked > 0
			heard = min(heard, time.Duration(s.Last_ack_recv)*time.Millisecond)
		}
	}
	return yes, heard
}

// tcpInfos returns the state of each subflow of a leg, or of its only connection.
func (g *leg) tcpInfos() []unix.TCPInfo {
	var all rawTCPInfos
	if g.mptcp {
		if subflows, err := all.read(g.fd); err == nil {
			return subflows
		}
	}
	if getsockopt(g.fd, unix.SOL_TCP, unix.TCP_INFO, unsafe.Pointer(&all.tcp[0]), unsafe.Sizeof(all.tcp[0])) == nil {
		return all.tcp[:1]
	}
	return nil
}
