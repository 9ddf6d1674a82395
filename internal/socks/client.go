package socks

import (
	"fmt"
	"net/netip"

	"github.com/things-go/go-socks5/statute"
)

// Login is user and password of a client (RFC 1929), of 1 to 255 bytes each. No user means
// no authentication.
type Login struct {
	User     string
	Password Secret
}

// Secret is a password. It has no text form.
type Secret []byte

// hidden stands for a password in texts.
const hidden = "[password]"

// Format implements [fmt.Formatter], for all verbs.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, hidden) }

// MarshalText implements [encoding.TextMarshaler].
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Client is the client of one connection. It is not safe for concurrent use.
type Client struct {
	login       Login // the password is the caller's
	destination Destination
	early       bool
	pending     buffer
	step        Step
	ended       bool
	err         error
	bound       netip.AddrPort
}

// NewClient returns the client of a new connection, which asks for a destination. It keeps
// the password, and does not change it.
//
// An early client sends all of its messages at once: it offers one method only, and does not
// wait for the choice. Not all servers can take that, see [Client.StepByStep].
//
// The error is [BadName], [BadPort] or [EmptyLogin].
func NewClient(d Destination, l Login, early bool) (*Client, error) {
	switch {
	case l.User == "" && len(l.Password) > 0, l.User != "" && len(l.Password) == 0:
		return nil, EmptyLogin
	case len(l.User) > 255, len(l.Password) > 255:
		return nil, fmt.Errorf("user and password of %d and %d bytes: want at most 255 (RFC 1929)", len(l.User), len(l.Password))
	}
	if err := d.validate(); err != nil {
		return nil, err
	}
	return &Client{login: l, destination: d, early: early}, nil
}

// Start appends the first bytes for the server to out. They may contain the password: the
// caller is to overwrite them once they are sent, here and in Receive.
func (c *Client) Start(out []byte) []byte {
	methods := c.methods()
	out = append(out, statute.NewMethodRequest(statute.VersionSocks5, methods).Bytes()...)
	if !c.early {
		return out
	}
	if methods[0] == statute.MethodUserPassAuth {
		out = appendLogin(out, c.login)
	}
	return c.appendRequest(out)
}

// methods returns the methods to offer.
func (c *Client) methods() []byte {
	switch {
	case c.login.User == "":
		return []byte{statute.MethodNoAuth}
	case c.early:
		return []byte{statute.MethodUserPassAuth}
	}
	return []byte{statute.MethodUserPassAuth, statute.MethodNoAuth}
}

func (c *Client) appendRequest(out []byte) []byte {
	r := statute.Request{Version: statute.VersionSocks5, Command: statute.CommandConnect, DstAddr: specOf(c.destination)}
	return append(out, r.Bytes()...)
}

// Room returns the largest number of bytes that Receive takes now.
func (c *Client) Room() int {
	if c.step == Over {
		return 0
	}
	return c.pending.room()
}

// Receive takes bytes of the server, at most Room of them, and clears b. It appends what to
// send to the server to out.
func (c *Client) Receive(out, b []byte) ([]byte, Want) {
	if c.step != Over && !c.pending.take(b) {
		return out, c.fail(TooMuch)
	}
	return c.advance(out)
}

// Closed takes the end of the server's stream, or a reset.
func (c *Client) Closed() Want {
	c.ended = true
	_, want := c.advance(nil) // what there is to send comes too late
	return want
}

// TimedOut ends the preface, because the server is silent for too long.
func (c *Client) TimedOut() Want { return c.fail(TimedOut) }

// Bound returns the address from which the server has dialed, as far as it says so, when
// the client is done.
func (c *Client) Bound() netip.AddrPort { return c.bound }

// Step returns the part of the preface that is under way.
func (c *Client) Step() Step { return c.step }

// Err returns the reason of a failure: a [Reason], or the [Reply] of the server.
func (c *Client) Err() error { return c.err }

// Rest returns the first bytes of the server's stream, once, when the client is done.
func (c *Client) Rest() []byte {
	if c.step != Over {
		return nil
	}
	return c.pending.rest()
}

// StepByStep reports whether a client has failed for a reason that its early messages may
// have caused: see [Reason.StepByStep].
func (c *Client) StepByStep() bool {
	r, _ := c.err.(Reason)
	if (r == NoMethod || r == OtherMethod) && c.login.User == "" {
		return false // the greeting would be the same
	}
	return c.early && r.StepByStep()
}

// Format implements [fmt.Formatter]: for all verbs it prints destination and step.
func (c *Client) Format(f fmt.State, _ rune) {
	fmt.Fprint(f, "SOCKS client for ", c.destination, ": ", c.step)
}
