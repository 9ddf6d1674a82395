// Package handshaketest has a table of handshakes, and the end of each that a client
// and a box are to see. The tests of package box run it on doubles of the kernel, the
// end-to-end tests on real kernels.
package handshaketest

import (
	"errors"
	"syscall"
	"testing"

	"github.com/synbond/synbond/state"
)

// Server is the way in which the far end, or a router before it, takes a SYN.
type Server uint8

// The ways of a server.
const (
	Answers  Server = iota
	Refuses         // with a reset
	NoRoute         // a router has no route to it
	NoHost          // a router does not find it
	Forbids         // a filter prohibits it
	IsSilent        // nothing comes back
	Resets          // the connection, as soon as it is there
)

// Handshake is one handshake.
type Handshake struct {
	Name   string
	Server Server
	Err    error        // of the client's connect(2): nil or a syscall.Errno
	State  state.State  // of the flow at the box, in the end
	Reason state.Reason // of the flow
}

// All is the table. Every client closes a connection that it gets.
var All = []Handshake{
	{"server answers", Answers, nil, state.Closed, state.FIN},
	{"server refuses", Refuses, syscall.ECONNREFUSED, state.Refused, state.WasRefused},
	{"no route to the server", NoRoute, syscall.ENETUNREACH, state.Unreachable, state.NoRoute},
	{"no such host", NoHost, syscall.EHOSTUNREACH, state.Unreachable, state.HostUnreachable},
	{"filter prohibits", Forbids, syscall.EACCES, state.Unreachable, state.Prohibited},
	{"server is silent", IsSilent, syscall.ETIMEDOUT, state.Passed, state.Unanswered},
	{"server resets at once", Resets, nil, state.Closed, state.Reset},
}

// Network is a place for handshakes.
type Network interface {
	// Connect has a client connect to a server that behaves so, close the connection if
	// it gets one, and returns the error of its connect(2).
	Connect(t *testing.T, s Server) error
	// Flow returns the state and the reason of that flow at the box, when it is over.
	Flow(t *testing.T) (state.State, state.Reason)
}

// Check runs the handshake and compares its end.
func (h Handshake) Check(t *testing.T, n Network) {
	t.Helper()
	if err := n.Connect(t, h.Server); !errors.Is(err, h.Err) {
		t.Errorf("the client sees %v, want %v", err, h.Err)
	}
	if s, why := n.Flow(t); s != h.State || why != h.Reason {
		t.Errorf("the flow is %v because of %q, want %v because of %q", s, why, h.State, h.Reason)
	}
}
