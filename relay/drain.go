package relay

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A reset throws away what its socket has not sent, and on another subflow it overtakes
// what is under way. So a leg is reset only when its peer has acknowledged every byte. No
// event says so: the loop asks.
const (
	// resetPatience limits the wait for a peer that is not heard of: as long as a path may
	// take to come back.
	resetPatience = time.Minute
	// closedPatience limits the wait for a peer that has closed its window and reads
	// nothing. Without boxes it would have got no more either.
	closedPatience = time.Second
	// deafPatience limits the wait for a peer that answers and takes nothing, for want of
	// memory perhaps.
	deafPatience = 5 * time.Second
	// drainShare of the time that a wait has taken passes until the next look.
	drainShare = 8
)

// draining is a connection with one leg that an error has ended, and another that is to
// be reset when its peer has acknowledged what the first had sent.
type draining struct {
	stream  *stream // from the one to the other
	moved   uint64  // bytes of the stream, at the last look
	left    int     // bytes that were not acknowledged then
	began   time.Time
	changed time.Time // when moved or left last did
	next    time.Time // when to look again
}

// drain sees to it that the leg in which s ends is reset, and with it the connection, once
// its peer has acknowledged all of s.
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

// checkDraining ends the connections whose last bytes have arrived, or will not.
func (l *loop) checkDraining() {
	if len(l.draining) == 0 {
		return
	}
	now := time.Now()
	kept := l.draining[:0]
	for _, d := range l.draining {
		s := d.stream
		switch {
		case s.to.reg.loop == nil: // it has ended otherwise
		case now.Before(d.next) || !s.acknowledged() && !d.vain(now):
			kept = append(kept, d)
		default:
			s.to.conn.end(s.from.err)
		}
	}
	clear(l.draining[len(kept):])
	l.draining = kept
}

// acknowledged reports whether the peer has acknowledged all that there will be of s.
func (s *stream) acknowledged() bool {
	if !s.over() {
		return false
	}
	left, err := unacknowledged(s.to.fd)
	return err != nil || left == 0
}

// vain reports whether the peer has taken nothing for too long, and otherwise chooses when
// to look again.
func (d *draining) vain(now time.Time) bool {
	s := d.stream
	left, _ := unacknowledged(s.to.fd) // it cannot fail on a socket that is open
	if moved := s.moved.Load(); left != d.left || moved != d.moved {
		d.left, d.moved, d.changed = left, moved, now
	}
	d.next = now.Add(min(max(now.Sub(d.began)/drainShare, restTick), longestRest))
	since := now.Sub(d.changed)
	if since <= closedPatience {
		return false
	}
	underWay, heard := s.to.underWay()
	return !underWay || since > deafPatience && heard < since-closedPatience || since > resetPatience
}

// underWay reports whether a leg has bytes on their way to its peer, and for how long it has
// not heard of it. If it has none, though there are some, the peer has closed its window.
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
	all.size, all.sizeUser = uint32(unsafe.Offsetof(all.tcp)), uint32(unsafe.Sizeof(all.tcp[0]))
	err := error(unix.EOPNOTSUPP)
	if g.mptcp {
		err = getsockopt(g.fd, solMPTCP, mptcpTCPInfo, unsafe.Pointer(&all), unsafe.Sizeof(all))
	}
	if err == nil {
		return all.tcp[:min(all.subflows, maxSubflows)]
	}
	if getsockopt(g.fd, unix.SOL_TCP, unix.TCP_INFO, unsafe.Pointer(&all.tcp[0]), unsafe.Sizeof(all.tcp[0])) == nil {
		return all.tcp[:1]
	}
	return nil
}
