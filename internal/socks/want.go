package socks

// Want is the next thing that a machine needs.
type Want uint8

const (
	// WantBytes: bytes of the peer, by Receive.
	WantBytes Want = iota
	// WantCheck: whether [Server.Login] is right, by [Server.Checked].
	WantCheck
	// WantDial: the outcome of the dial to [Server.Destination], by [Server.Dialed] or
	// [Server.Refused].
	WantDial
	// Done: nothing; the stream follows, from Rest on.
	Done
	// Failed: nothing; send the returned bytes, and close the connection. Err has the reason.
	Failed
)

// String returns the name of the want in lower case, such as "check".
func (w Want) String() string {
	return [...]string{"bytes", "check", "dial", "done", "failed"}[w]
}

// Step is a part of the preface. Owners choose time-outs by it.
type Step uint8

const (
	// Greeting: the client's methods, and the server's choice.
	Greeting Step = iota
	// Authentication: user and password (RFC 1929).
	Authentication
	// Checking: a server checks user and password.
	Checking
	// Request: the client's request, and for a client the server's reply.
	Request
	// Dialing: a server dials the destination.
	Dialing
	// Over: the machine is done, or has failed.
	Over
)

// String returns the name of the step in lower case, such as "greeting".
func (s Step) String() string {
	return [...]string{"greeting", "authentication", "checking", "request", "dialing", "over"}[s]
}
