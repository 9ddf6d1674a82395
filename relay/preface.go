//go:build linux

package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Preface is the protocol with which a client's connection begins that says where to connect
// to, such as SOCKS: a state machine without a socket. It belongs to the loop of its client.
//
// Each method appends the bytes to send to out, and returns what the machine needs next.
type Preface interface {
	// Room returns the largest number of bytes that Receive takes now. Others wait in the
	// kernel.
	Room() int
	// Receive takes bytes of the client. They are in a buffer of the loop: the machine keeps
	// none, and may overwrite them.
	Receive(out, b []byte) ([]byte, Want)
	// Closed takes the client's FIN.
	Closed(out []byte) ([]byte, Want)
	// TimedOut ends a preface whose client is too slow.
	TimedOut(out []byte) ([]byte, Want)
	// Rest returns the first bytes of the client's stream, which came with the preface.
	Rest() []byte
	// Err returns the reason of [WantClose].
	Err() error
}

// Want is the next thing that a preface needs.
type Want uint8

const (
	WantBytes  Want = iota // of the client
	WantAnswer             // of the box, which gets Asks: [Client.Answer]
	WantStream             // nothing: the preface is over, and the client's stream follows
	WantClose              // nothing but the end of the connection: Err has the reason
)

// Explicit configures listeners at addresses of this machine, for clients that say in a
// preface where to connect to. They speak MPTCP, with clients that do.
type Explicit struct {
	Listen []netip.AddrPort
	// Preface returns the machine of a client that has connected.
	Preface func(*Client) Preface
	// Timeout bounds the wait for each message of a client.
	Timeout time.Duration
	// Most bounds the clients whose preface is under way: a further one takes the place of the
	// one that has been awaited for the longest.
	Most   int
	Events ClientEvents
}

// ClientEvents are the reports about the clients of [Explicit]. They are called from the
// relay's loops and must not block.
type ClientEvents interface {
	// Asks reports that the preface of a client waits for the box: [Client.Answer] or
	// [Relay.Welcome]. These may be called at once or later, from any goroutine.
	Asks(c *Client)
	// Left reports that a client has left before it was paired, once: its preface has
	// failed, or the error is that of the connection.
	Left(c *Client, err error)
}

// ErrCrowded is the reason for which a client has left if another one took its place.
var ErrCrowded = errors.New("too many clients whose preface is under way")

// listenExplicitly opens the listeners of [Explicit].
func (r *Relay) listenExplicitly() error {
	if r.cfg.Explicit == nil {
		return nil
	}
	for _, at := range r.cfg.Explicit.Listen {
		l, err := r.listenAt(at, true, true)
		if err != nil {
			return fmt.Errorf("listen at %s: %w", at, err)
		}
		l.explicit = true
		r.listeners = append(r.listeners, l)
	}
	return nil
}

// deadline is the end of a client's time.
type deadline struct {
	client *Client
	turn   uint32 // of the client: it has another deadline, or none, in its next turn
	at     time.Time
}

// stale reports whether the client has gone on or has left.
func (d *deadline) stale() bool { return d.client.reg.loop == nil || d.client.turn != d.turn }

// await gives a client its time. All clients have the same: the first deadline is always the
// first to come.
func (l *loop) await(c *Client) {
	c.turn++
	l.prefaces = append(l.prefaces, deadline{c, c.turn, time.Now().Add(l.relay.cfg.Explicit.Timeout)})
}

// checkPrefaces ends the clients whose time is up.
func (l *loop) checkPrefaces() {
	if len(l.prefaces) == 0 {
		return
	}
	now := time.Now()
	for len(l.prefaces) > 0 {
		switch first := &l.prefaces[0]; {
		case first.stale():
		case first.at.After(now):
			return
		default:
			first.client.timedOut(l)
		}
		l.dropDeadline()
	}
}

// dropDeadline forgets the first deadline.
func (l *loop) dropDeadline() {
	l.prefaces[0] = deadline{}
	if l.prefaces = l.prefaces[1:]; len(l.prefaces) == 0 {
		l.prefaces = nil // with the memory of those before
	}
}

// makeRoom ends the client that has been awaited for the longest, if there are too many. It
// reports false if the loop awaits none.
func (l *loop) makeRoom() bool {
	if l.relay.prefaces.Load() < int64(l.relay.cfg.Explicit.Most) {
		return true
	}
	for len(l.prefaces) > 0 {
		d := l.prefaces[0]
		l.dropDeadline()
		if !d.stale() {
			d.client.end(ErrCrowded)
			return true
		}
	}
	return false
}
