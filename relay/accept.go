//go:build linux

package relay

import (
	"errors"

	"golang.org/x/sys/unix"
)

// acceptor is a listening socket, as one loop sees it.
type acceptor struct {
	listener
	// spare is a descriptor to give up when there are no more, so that a client
	// which cannot be served is told so, and the listener does not stay readable.
	spare int
}

func newAcceptor(l listener) *acceptor { return &acceptor{l, spareFD()} }

func spareFD() int {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return fd
}

// ready accepts clients and pairs each with the onward leg that waits for it.
func (a *acceptor) ready(l *loop, _ uint32) {
	for {
		fd, client, err := accept(a.fd)
		switch {
		case err == nil:
			server, _ := localOf(fd) // of a socket that is open
			mptcp := a.mptcp && protocolOf(fd) == unix.IPPROTO_MPTCP
			if a.mptcp && !mptcp {
				// The subflow of an MPTCP listener lacks this option.
				_ = setsockopt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
			}
			if a.explicit {
				l.greet(fd, mptcp, client, server)
				continue
			}
			l.relay.welcome(fd, mptcp, tuple{client: client, server: server})
		case errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE):
			if !a.turnAway() {
				return // other connections have their turn before the next attempt
			}
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED):
		default:
			return // EAGAIN: all done, or another loop was faster
		}
	}
}

// turnAway resets one client for want of a descriptor. It reports false when it
// could not: another loop may have been faster to take the spare one.
func (a *acceptor) turnAway() bool {
	a.release()
	fd, _, err := accept(a.fd)
	if err == nil {
		closeWithReset(fd)
	}
	a.spare = spareFD()
	return err == nil
}

// release gives the spare descriptor up.
func (a *acceptor) release() {
	if a.spare >= 0 {
		unix.Close(a.spare)
		a.spare = -1
	}
}

// welcome pairs an accepted client with its onward leg.
func (r *Relay) welcome(fd int, mptcp bool, t tuple) {
	c := r.take(t)
	if c == nil {
		closeWithReset(fd) // the onward leg has gone meanwhile
		return
	}
	r.pair(c, fd, mptcp, nil)
}

// pair pairs a connection with its client, or ends it.
func (r *Relay) pair(c *Conn, fd int, mptcp bool, first []byte) {
	if err := c.pair(fd, mptcp, first); err != nil {
		c.finish(err)
		r.cfg.Events.Closed(c, err)
	}
}
