package socks

import (
	"bytes"
	"fmt"
	"net/netip"

	"github.com/things-go/go-socks5/statute"
)

// Admission is what a server accepts from a client.
type Admission struct {
	Anonymous bool // clients without a user
	Users     bool // clients with user and password; preferred, if a client offers both
}

// Server is the server of one connection. It is not safe for concurrent use.
type Server struct {
	admission Admission
	pending   buffer
	step      Step
	ended     bool // the client sends no more
	err       error

	user        string
	right       bool   // the user's password
	password    []byte // for Login, while it is checked
	destination Destination
}

// NewServer returns the server of a new connection.
func NewServer(a Admission) *Server { return &Server{admission: a} }

// Room returns the largest number of bytes that Receive takes now. At 0 the client's
// further bytes are to wait in the kernel.
func (s *Server) Room() int {
	if s.step == Over {
		return 0
	}
	return s.pending.room()
}

// Receive takes bytes of the client, at most Room of them, and clears b. It appends what to
// send to the client to out.
func (s *Server) Receive(out, b []byte) ([]byte, Want) {
	if s.step != Over && !s.pending.take(b) {
		return s.fail(out, TooMuch)
	}
	return s.advance(out)
}

// Closed takes the end of the client's stream. A client that has sent its request may do
// that, before the destination answers.
func (s *Server) Closed(out []byte) ([]byte, Want) {
	s.ended = true
	return s.advance(out)
}

// TimedOut ends the preface, because a step takes too long.
func (s *Server) TimedOut(out []byte) ([]byte, Want) {
	switch s.step {
	case Checking:
		out = append(out, statute.UserPassAuthVersion, statute.AuthFailure)
	case Dialing:
		out = appendReply(out, TTLExpired, netip.AddrPort{})
	}
	return s.fail(out, TimedOut)
}

// Login returns the client's user and password. The caller owns the password from then on
// and is to overwrite it; a second call returns none. Valid while the server wants a check.
func (s *Server) Login() (user string, password []byte) {
	password, s.password = s.password, nil
	return s.user, password
}

// Checked takes the answer to a check.
func (s *Server) Checked(out []byte, right bool) ([]byte, Want) {
	if s.step != Checking {
		return s.advance(out)
	}
	s.forget()
	if !right {
		return s.fail(append(out, statute.UserPassAuthVersion, statute.AuthFailure), WrongLogin)
	}
	s.right, s.step = true, Request
	return s.advance(append(out, statute.UserPassAuthVersion, statute.AuthSuccess))
}

// Dialed takes the success of a dial: the address from which the destination was dialed.
func (s *Server) Dialed(out []byte, bound netip.AddrPort) ([]byte, Want) {
	if s.step == Dialing {
		s.step = Over
		out = appendReply(out, Succeeded, bound)
	}
	return s.advance(out)
}

// Refused takes the failure of a dial, or the reason for which there is none. The client
// gets the reply [ReplyTo] of err, and err becomes that of the server.
func (s *Server) Refused(out []byte, err error) ([]byte, Want) {
	if s.step != Dialing {
		return s.advance(out)
	}
	if err == nil {
		err = GeneralFailure
	}
	return s.fail(appendReply(out, ReplyTo(err), netip.AddrPort{}), err)
}

// User returns the user whose password was right, "" for a client without.
func (s *Server) User() string {
	if !s.right {
		return ""
	}
	return s.user
}

// Destination returns the destination of the client's request.
func (s *Server) Destination() Destination { return s.destination }

// Step returns the part of the preface that is under way.
func (s *Server) Step() Step { return s.step }

// Err returns the reason of a failure: a [Reason], or the error given to Refused.
func (s *Server) Err() error { return s.err }

// Rest returns the first bytes of the client's stream, once, when the server is done.
func (s *Server) Rest() []byte {
	if s.step != Over {
		return nil
	}
	return s.pending.rest()
}

// Format implements [fmt.Formatter]: for all verbs it prints the step, and nothing that the
// client has sent.
func (s *Server) Format(f fmt.State, _ rune) { fmt.Fprint(f, "SOCKS server: ", s.step) }

// advance goes on as far as the received bytes go.
func (s *Server) advance(out []byte) ([]byte, Want) {
	for {
		switch s.step {
		case Checking:
			return out, WantCheck
		case Dialing:
			return out, WantDial
		case Over:
			if s.err != nil {
				return out, Failed
			}
			return out, Done
		}
		read := serverSteps[s.step]
		message, err := s.pending.next(read.frame)
		// A wrong version is wrong whatever the length.
		if len(s.pending.bytes) > 0 && s.pending.bytes[0] != read.version {
			return s.fail(append(out, read.refusal...), s.wrongVersion())
		}
		switch {
		case err != nil:
			return s.fail(appendReply(out, AddrTypeNotSupported, netip.AddrPort{}), err)
		case message == nil && s.ended:
			return s.fail(out, Truncated)
		case message == nil:
			return out, WantBytes
		}
		out, err = read.take(s, out, message)
		s.pending.drop(message)
		if err != nil {
			return s.fail(out, err)
		}
	}
}

// serverStep is a step in which a message of the client is awaited.
type serverStep struct {
	frame   frame
	version byte
	refusal []byte // the answer to another version
	// take takes a whole message, appends the answer, and sets the next step.
	take func(s *Server, out, message []byte) ([]byte, error)
}

var serverSteps = [...]serverStep{
	Greeting:       {frameGreeting, statute.VersionSocks5, nil, (*Server).greeting},
	Authentication: {frameLogin, statute.UserPassAuthVersion, []byte{statute.UserPassAuthVersion, statute.AuthFailure}, (*Server).login},
	Request:        {frameRequest, statute.VersionSocks5, appendReply(nil, GeneralFailure, netip.AddrPort{}), (*Server).request},
}

// wrongVersion is the reason why the first byte of a message is wrong.
func (s *Server) wrongVersion() Reason {
	switch {
	case s.step == Authentication:
		return BadAuthVersion
	case s.step == Request:
		return BadVersion
	case s.pending.bytes[0] == 4:
		return SOCKS4
	}
	return NotSOCKS
}

// greeting chooses a method.
func (s *Server) greeting(out, message []byte) ([]byte, error) {
	m, err := statute.ParseMethodRequest(bytes.NewReader(message))
	if err != nil {
		return out, NotSOCKS
	}
	method := statute.MethodNoAcceptable
	switch {
	case s.admission.Users && bytes.IndexByte(m.Methods, statute.MethodUserPassAuth) >= 0:
		method, s.step = statute.MethodUserPassAuth, Authentication
	case s.admission.Anonymous && bytes.IndexByte(m.Methods, statute.MethodNoAuth) >= 0:
		method, s.step = statute.MethodNoAuth, Request
	}
	out = append(out, statute.VersionSocks5, method)
	if method == statute.MethodNoAcceptable {
		return out, NoMethod
	}
	return out, nil
}

// login takes user and password.
func (s *Server) login(out, message []byte) ([]byte, error) {
	l, err := statute.ParseUserPassRequest(bytes.NewReader(message))
	if err != nil {
		return out, BadAuthVersion
	}
	if len(l.User) == 0 || len(l.Pass) == 0 {
		clear(l.Pass)
		return append(out, statute.UserPassAuthVersion, statute.AuthFailure), EmptyLogin
	}
	s.user, s.password, s.step = string(l.User), l.Pass, Checking
	return out, nil
}

// request takes the request.
func (s *Server) request(out, message []byte) ([]byte, error) {
	r, err := statute.ParseRequest(bytes.NewReader(message))
	if err != nil {
		return appendReply(out, GeneralFailure, netip.AddrPort{}), BadAddressType
	}
	if r.Command != statute.CommandConnect {
		return appendReply(out, CommandNotSupported, netip.AddrPort{}), BadCommand
	}
	s.destination, err = destinationOf(r.DstAddr)
	if err != nil {
		return appendReply(out, GeneralFailure, netip.AddrPort{}), err
	}
	s.step = Dialing
	return out, nil
}

// fail ends the preface.
func (s *Server) fail(out []byte, err error) ([]byte, Want) {
	if s.step != Over {
		s.step, s.err = Over, err
		s.forget()
		s.pending.wipe()
	}
	return s.advance(out)
}

// forget overwrites a password that nobody has asked for.
func (s *Server) forget() {
	clear(s.password)
	s.password = nil
}
