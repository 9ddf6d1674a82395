//go:build linux

package relay

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Asking is the client's role of a protocol like SOCKS, by which an onward leg goes through
// another machine: the leg connects to [Dial.Via], and asks there for the server. It belongs
// to the loop of its connection. WantStream is the success of the dial; after WantClose, Err
// is its error.
type Asking interface {
	// Start appends the first bytes to send to out.
	Start(out []byte) []byte
	// Room returns the largest number of bytes that Receive takes now.
	Room() int
	// Receive takes bytes of the machine, which may be overwritten. It appends the bytes to
	// send to out, and returns what is needed next.
	Receive(out, b []byte) ([]byte, Want)
	// Closed takes the machine's FIN.
	Closed() Want
	// Rest returns the first bytes of the server's stream, which came with the answer.
	Rest() []byte
	// Err returns the reason of [WantClose].
	Err() error
}

// to returns the address and port to which the onward leg connects.
func (d *Dial) to() netip.AddrPort {
	if d.Via.IsValid() {
		return d.Via
	}
	return d.Server
}

// ask begins to ask the machine to which the onward leg has connected.
func (c *Conn) ask(l *loop) {
	c.converse(func() (bool, error) { return false, c.say(c.Through.Start(nil)) })
	c.hear(l)
}

// hear goes on with what the machine answers.
func (c *Conn) hear(l *loop) {
	for c.converse(func() (bool, error) { return c.hearSome(l) }) {
	}
}

// converse has the onward leg take a step of its preface, unless that is over. It reports the
// first answer, and the end of the dial if the step is the last one. More is set if there may
// be something to read.
func (c *Conn) converse(step func() (over bool, err error)) (more bool) {
	c.mu.Lock()
	if c.phase != asking {
		c.mu.Unlock()
		return false
	}
	first := !c.answered
	over, err := step()
	first = first && c.answered
	waits := errors.Is(err, unix.EAGAIN)
	if waits {
		err = nil
	}
	now := c.phase
	c.mu.Unlock()
	if first {
		c.relay.cfg.Events.Reached(c)
	}
	if over && err == nil {
		now = c.connects()
	}
	c.report(now, err)
	return now == asking && err == nil && !waits
}

// connects ends the preface of an onward leg, unless the connection has been given up.
func (c *Conn) connects() phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == asking {
		c.phase = connected
	}
	return c.phase
}

// hearSome takes some bytes of the machine. It is called with c.mu held.
func (c *Conn) hearSome(l *loop) (over bool, err error) {
	n, err := read(c.onward.fd, l.buf[:min(c.Through.Room(), len(l.buf))])
	if err != nil {
		return false, err
	}
	var out []byte
	var want Want
	if n == 0 {
		want = c.Through.Closed()
	} else {
		out, want = c.Through.Receive(nil, l.buf[:n])
		c.answered = true
	}
	switch want {
	case WantStream:
		return true, c.say(out)
	case WantClose:
		return true, c.Through.Err()
	}
	return false, c.say(out)
}

// say sends a part of the preface, which may hold a password. There is always room for it.
func (c *Conn) say(out []byte) error {
	if len(out) == 0 {
		return nil
	}
	defer clear(out)
	n, err := write(c.onward.fd, out)
	if n < len(out) && (err == nil || errors.Is(err, unix.EAGAIN)) {
		err = unix.ENOBUFS
	}
	return err
}
