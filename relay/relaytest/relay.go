//go:build linux

// Package relaytest has a double of package relay, at the level of connections: it
// remembers the dials that it is asked for, and a test says how they go on.
package relaytest

import (
	"net/netip"
	"sync"
	"time"

	"github.com/synbond/synbond/relay"
)

// Relay is a double of [relay.Relay].
type Relay struct {
	// Err, unless it is nil, decides at once about a dial.
	Err func(relay.Dial) error

	mu    sync.Mutex
	conns []*Conn
}

// Conn is a double of [relay.Conn]. A test sets its exported fields before
// it reports what they are about.
type Conn struct {
	relay.Dial
	Up, Down uint64
	Tok      uint32
	Gone     bool // the client's leg has ended
	Dead     bool // the multipath leg has no subflow
	At       relay.Progress

	relay   *Relay
	pushed  int
	probed  int
	probing bool
	idle    time.Duration
	aborted bool
	ended   error
}

// Dial begins a connection.
func (r *Relay) Dial(d relay.Dial) (*Conn, error) {
	if r.Err != nil {
		if err := r.Err(d); err != nil {
			return nil, err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &Conn{Dial: d, relay: r}
	r.conns = append(r.conns, c)
	return c, nil
}

// Conns returns the connections that were begun, in order.
func (r *Relay) Conns() []*Conn {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*Conn(nil), r.conns...)
}

// Abort ends a connection.
func (r *Relay) Abort(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.aborted = true
}

// End ends a connection: the error is then in Ended.
func (r *Relay) End(c *Conn, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.ended = err
}

// Ended returns the error with which the box has ended a connection.
func (c *Conn) Ended() error {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	return c.ended
}

// Aborted reports whether a connection has been aborted.
func (c *Conn) Aborted() bool {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	return c.aborted
}

// BytesUp returns Up.
func (c *Conn) BytesUp() uint64 { return c.Up }

// BytesDown returns Down.
func (c *Conn) BytesDown() uint64 { return c.Down }

// SetKeepalive records the time in Keepalive.
func (c *Conn) SetKeepalive(idle time.Duration) {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	c.idle = idle
}

// Keepalive returns the time that was last set, and whether Push has the subflows probed
// meanwhile.
func (c *Conn) Keepalive() (idle time.Duration, probing bool) {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	return c.idle, c.probing
}

// Alive returns !Dead.
func (c *Conn) Alive() bool { return !c.Dead }

// Progress returns At.
func (c *Conn) Progress() relay.Progress { return c.At }

// Push counts the calls in Pushed, those with probe in Probed.
func (c *Conn) Push(probe bool) {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	c.pushed, c.probing = c.pushed+1, probe
	if probe {
		c.probed++
	}
}

// Pushed returns how often Push was called, and how often with probe.
func (c *Conn) Pushed() (all, probed int) {
	c.relay.mu.Lock()
	defer c.relay.mu.Unlock()
	return c.pushed, c.probed
}

// Unacknowledged returns 0.
func (c *Conn) Unacknowledged() int { return 0 }

// Ending reports false.
func (c *Conn) Ending() bool { return false }

// Token returns Tok.
func (c *Conn) Token() uint32 { return c.Tok }

// ClientGone returns Gone.
func (c *Conn) ClientGone() bool { return c.Gone }

// Local returns the address from which the connection is dialed.
func (c *Conn) Local() netip.AddrPort {
	if c.OwnSource {
		return netip.AddrPortFrom(c.From, c.Client.Port())
	}
	return c.Client
}

// Info returns that nothing is known of the multipath leg but its token.
func (c *Conn) Info() (relay.Info, bool) {
	return relay.Info{MPTCP: c.Tok != 0, Token: c.Tok}, true
}
