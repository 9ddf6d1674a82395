package socks

// Reason is the reason why a machine has failed, beside [Reply] and the errors of callers.
// It serves as the label of a counter, too. The zero Reason means none.
type Reason uint8

// The reasons.
const (
	// NotSOCKS: the first byte is not the version of SOCKS, of a greeting or an answer to one.
	NotSOCKS Reason = iota + 1
	// SOCKS4: the client speaks version 4.
	SOCKS4
	// NoMethod: the server accepts no method of those that the client offers.
	NoMethod
	// OtherMethod: the server has chosen a method that the client does not offer.
	OtherMethod
	// BadAuthVersion: user and password come in an unknown version.
	BadAuthVersion
	// EmptyLogin: user or password have no byte.
	EmptyLogin
	// WrongLogin: the server does not accept user and password.
	WrongLogin
	// BadVersion: a request or a reply has another version than the greeting.
	BadVersion
	// BadCommand: a command other than CONNECT.
	BadCommand
	// BadAddressType: neither IPv4, IPv6 nor a name.
	BadAddressType
	// BadName: a destination's name that is no host name: empty, longer than 253 bytes, or
	// with other bytes than letters, digits, hyphens and underscores between dots.
	BadName
	// BadPort: the destination has port 0.
	BadPort
	// Truncated: the peer has closed the connection in the middle of the preface.
	Truncated
	// TimedOut: the peer has been silent for too long.
	TimedOut
	// TooMuch: Receive was called with more bytes than Room.
	TooMuch

	// NumReasons is the length of an array with an element for each Reason, such as an
	// array of counters.
	NumReasons
)

// reasons has the names of reasons, and their meaning for people.
var reasons = [NumReasons]struct{ name, meaning string }{
	0:              {"none", "none"},
	NotSOCKS:       {"not-socks", "the peer does not speak SOCKS"},
	SOCKS4:         {"socks4", "the client speaks SOCKS 4, and SOCKS 5 is needed"},
	NoMethod:       {"no-method", "no method of authentication is acceptable to both"},
	OtherMethod:    {"other-method", "the server has chosen a method of authentication that was not offered"},
	BadAuthVersion: {"bad-auth-version", "user and password come in an unknown version"},
	EmptyLogin:     {"empty-login", "user or password are empty"},
	WrongLogin:     {"wrong-login", "user and password are not accepted"},
	BadVersion:     {"bad-version", "a message has another version than SOCKS 5"},
	BadCommand:     {"bad-command", "a command other than CONNECT"},
	BadAddressType: {"bad-address-type", "an address that is neither IPv4, IPv6 nor a name"},
	BadName:        {"bad-name", "the destination's name is no host name"},
	BadPort:        {"bad-port", "the destination has port 0"},
	Truncated:      {"truncated", "the connection ends in the middle of the SOCKS messages"},
	TimedOut:       {"timed-out", "no SOCKS message for too long"},
	TooMuch:        {"too-much", "more bytes than asked for"},
}

// StepByStep reports whether messages that were sent early may be the cause of a client's
// failure, so that a new connection without them may succeed: the server has chosen another
// method, or none; it fell silent, or closed, as servers may that read each message into an
// empty buffer; or its answers make no sense.
func (r Reason) StepByStep() bool {
	switch r {
	case NoMethod, OtherMethod, Truncated, TimedOut, BadVersion, BadAddressType:
		return true
	}
	return false
}

// Label returns the reason in lower case with hyphens, such as "bad-name", for use as a
// metric label.
func (r Reason) Label() string {
	if r >= NumReasons {
		return "invalid"
	}
	return reasons[r].name
}

// Error returns the reason in words.
func (r Reason) Error() string {
	if r >= NumReasons {
		return "invalid"
	}
	return reasons[r].meaning
}
