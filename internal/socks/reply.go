package socks

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/things-go/go-socks5/statute"
)

// Reply is the reply to a request (RFC 1928, section 6). All but Succeeded are errors: a
// client's machine fails with the reply of the server, and a server's caller can choose
// the reply by an error that wraps one.
type Reply uint8

// The replies.
const (
	Succeeded            Reply = Reply(statute.RepSuccess)
	GeneralFailure       Reply = Reply(statute.RepServerFailure)
	NotAllowed           Reply = Reply(statute.RepRuleFailure)
	NetworkUnreachable   Reply = Reply(statute.RepNetworkUnreachable)
	HostUnreachable      Reply = Reply(statute.RepHostUnreachable)
	ConnectionRefused    Reply = Reply(statute.RepConnectionRefused)
	TTLExpired           Reply = Reply(statute.RepTTLExpired)
	CommandNotSupported  Reply = Reply(statute.RepCommandNotSupported)
	AddrTypeNotSupported Reply = Reply(statute.RepAddrTypeNotSupported)
)

// replies has the RFC's words for each reply, and the error of connect(2) that says the
// same, 0 if none does.
var replies = [...]struct {
	words string
	errno syscall.Errno
}{
	Succeeded:            {"succeeded", 0},
	GeneralFailure:       {"general SOCKS server failure", 0},
	NotAllowed:           {"connection not allowed by ruleset", syscall.EACCES},
	NetworkUnreachable:   {"network unreachable", syscall.ENETUNREACH},
	HostUnreachable:      {"host unreachable", syscall.EHOSTUNREACH},
	ConnectionRefused:    {"connection refused", syscall.ECONNREFUSED},
	TTLExpired:           {"TTL expired", syscall.ETIMEDOUT},
	CommandNotSupported:  {"command not supported", 0},
	AddrTypeNotSupported: {"address type not supported", 0},
}

// Error returns the words of RFC 1928, or the number of an unassigned reply.
func (r Reply) Error() string {
	if int(r) < len(replies) {
		return replies[r].words
	}
	return fmt.Sprintf("SOCKS reply %#02x", uint8(r))
}

// Unwrap returns the [syscall.Errno] of connect(2) that says the same as the reply, so that
// the failure of a dial through a SOCKS server is treated like that of a dial. It is nil
// for replies that say nothing about the destination.
func (r Reply) Unwrap() error {
	if int(r) < len(replies) && replies[r].errno != 0 {
		return replies[r].errno
	}
	return nil
}

// dialErrors are further errors of connect(2), with their replies.
var dialErrors = map[syscall.Errno]Reply{
	syscall.EHOSTDOWN: HostUnreachable,
	syscall.ENETDOWN:  NetworkUnreachable,
	syscall.EPERM:     NotAllowed, // of a filter of this machine
}

// ReplyTo returns the reply to a request whose dial ended with err: the [Reply] or the
// [syscall.Errno] that err wraps. No answer in time (ETIMEDOUT) is TTLExpired, as of
// microsocks; an unknown error is GeneralFailure.
func ReplyTo(err error) Reply {
	var reply Reply
	var errno syscall.Errno
	switch {
	case err == nil:
		return Succeeded
	case errors.As(err, &reply) && reply != Succeeded:
		return reply
	case !errors.As(err, &errno):
		return GeneralFailure
	}
	for r, of := range replies {
		if of.errno != 0 && of.errno == errno {
			return Reply(r)
		}
	}
	if reply, ok := dialErrors[errno]; ok {
		return reply
	}
	return GeneralFailure
}
