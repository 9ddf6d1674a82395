//go:build linux

package relay

import (
	"cmp"
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Client is a client of [Explicit] from the moment that it has connected until it is paired
// or has left. Its preface and its socket belong to the loop that has accepted it.
type Client struct {
	Addr, At netip.AddrPort // of the client; of the listener
	MPTCP    bool           // the client speaks MPTCP
	// Caller is for the box: package relay only keeps it.
	Caller any

	relay   *Relay
	loop    *loop
	preface Preface
	fd      int
	reg     registration
	want    Want
	turn    uint32 // of waiting for the client
	left    bool   // Left has been reported
}

// greet begins the preface of a client that has connected.
func (l *loop) greet(fd int, mptcp bool, client, at netip.AddrPort) {
	if !l.makeRoom() {
		closeWithReset(fd)
		return
	}
	c := &Client{Addr: client, At: at, MPTCP: mptcp, relay: l.relay, loop: l, fd: fd}
	if mptcp {
		_ = l.relay.tune(fd) // it has been tried
	}
	c.preface = l.relay.cfg.Explicit.Preface(c)
	l.relay.prefaces.Add(1)
	if err := l.register(fd, interest, c, &c.reg); err != nil {
		c.reg.loop = l
		c.end(err)
		return
	}
	l.await(c) // the first event comes at once, with the first bytes if they are there
}

// ready handles the events of the client's socket.
func (c *Client) ready(l *loop, events uint32) {
	if events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		err := socketError(c.fd)
		if err != nil || c.want != WantClose { // else there have been FINs in both directions
			c.end(cmp.Or[error](err, unix.EPIPE))
			return
		}
	}
	c.read(l)
}

// read gives the preface what the client has sent, as long as the preface wants it. After a
// preface that has failed it waits for the client's FIN: a socket that is closed with unread
// bytes is reset, and the client may lose the answer.
func (c *Client) read(l *loop) {
	for c.reg.loop != nil && (c.want == WantBytes || c.want == WantClose) {
		room := len(l.buf)
		if c.want == WantBytes {
			room = min(c.preface.Room(), room)
		}
		n, err := read(c.fd, l.buf[:room])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			c.end(err)
		case c.want == WantClose && n > 0:
			clear(l.buf[:n])
		case c.want == WantClose:
			c.end(nil)
		case n == 0:
			c.step(l, c.preface.Closed)
		default:
			c.step(l, func(out []byte) ([]byte, Want) { return c.preface.Receive(out, l.buf[:n]) })
		}
	}
}

// step has the preface take a step.
func (c *Client) step(l *loop, take func([]byte) ([]byte, Want)) {
	out, want := take(nil)
	if c.want = want; !c.send(out) {
		return
	}
	switch want {
	case WantBytes:
		l.await(c)
	case WantAnswer:
		c.turn++ // the box has its own deadline
		c.relay.cfg.Explicit.Events.Asks(c)
	case WantClose:
		c.leave(c.preface.Err())
		if shutdown(c.fd) != nil {
			c.end(nil)
			return
		}
		l.await(c)
	}
}

// send sends what a preface says. There is always room for it: a client that does not read
// while it asks is none.
func (c *Client) send(out []byte) bool {
	if len(out) == 0 {
		return true
	}
	n, err := write(c.fd, out)
	if err == nil && n < len(out) {
		err = unix.EAGAIN
	}
	if err != nil {
		c.end(err)
	}
	return err == nil
}

// timedOut ends a client that is too slow.
func (c *Client) timedOut(l *loop) {
	if c.want == WantClose {
		c.end(nil)
		return
	}
	c.step(l, c.preface.TimedOut)
}

// leave reports that the client has left, once.
func (c *Client) leave(err error) {
	if !c.left {
		c.left = true
		c.relay.cfg.Explicit.Events.Left(c, err)
	}
}

// end closes the client's connection: with a reset, unless its preface has failed and it has
// the answer.
func (c *Client) end(err error) {
	if c.reg.loop == nil {
		return
	}
	c.reg.cancel()
	c.relay.prefaces.Add(-1)
	if err == nil {
		closeSocket(c.fd)
	} else {
		closeWithReset(c.fd)
	}
	c.leave(err)
}

// Answer has the preface of a client take the answer that it has asked for, on its loop. It
// may be called from any goroutine. A client that has left gets none.
func (c *Client) Answer(take func(out []byte) ([]byte, Want)) {
	c.loop.post(func(l *loop) {
		if c.reg.loop != nil && c.want == WantAnswer {
			c.step(l, take)
			c.read(l) // what has come meanwhile: there is no further event of it
		}
	})
}

// Welcome pairs a client with the connection that has been dialed for it, after the answer,
// by which the preface must want its stream. The account counts its bytes; nil for none. A
// client that has left is not paired.
func (r *Relay) Welcome(c *Client, onward *Conn, account *Account, take func(out []byte) ([]byte, Want)) {
	c.loop.post(func(l *loop) {
		if c.reg.loop == nil || c.want != WantAnswer {
			return // Left has been reported, and the box aborts the connection
		}
		if r.take(onward.tuple()) == nil {
			c.end(unix.ECONNABORTED) // the connection has been aborted
			return
		}
		c.step(l, take)
		if c.reg.loop == nil || c.want != WantStream {
			c.end(unix.ECONNABORTED)
			onward.discard()
			return
		}
		_ = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, c.fd, nil) // it is there
		c.reg.cancel()
		r.prefaces.Add(-1)
		onward.account = account
		r.pair(onward, c.fd, c.MPTCP, c.preface.Rest())
	})
}
