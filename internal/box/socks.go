//go:build linux

package box

import (
	"errors"
	"net/netip"
	"syscall"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/socks"
	"github.com/synbond/synbond/relay"
)

// socksPreface is a [socks.Server] as the preface of a client.
type socksPreface struct{ *socks.Server }

var _ relay.Preface = socksPreface{}

// wants has what the relay is to do for a server.
var wants = map[socks.Want]relay.Want{
	socks.WantBytes: relay.WantBytes, socks.WantCheck: relay.WantAnswer, socks.WantDial: relay.WantAnswer,
	socks.Done: relay.WantStream, socks.Failed: relay.WantClose,
}

func wanted(out []byte, w socks.Want) ([]byte, relay.Want) { return out, wants[w] }

// Receive implements [relay.Preface].
func (p socksPreface) Receive(out, b []byte) ([]byte, relay.Want) {
	return wanted(p.Server.Receive(out, b))
}

// Closed implements [relay.Preface].
func (p socksPreface) Closed(out []byte) ([]byte, relay.Want) { return wanted(p.Server.Closed(out)) }

// TimedOut implements [relay.Preface].
func (p socksPreface) TimedOut(out []byte) ([]byte, relay.Want) {
	return wanted(p.Server.TimedOut(out))
}

// checked has a client's server take the answer to a check of user and password.
func (p socksPreface) checked(right bool) func([]byte) ([]byte, relay.Want) {
	return func(out []byte) ([]byte, relay.Want) { return wanted(p.Checked(out, right)) }
}

// dialed has it take the success of a dial from an address.
func (p socksPreface) dialed(from netip.AddrPort) func([]byte) ([]byte, relay.Want) {
	return func(out []byte) ([]byte, relay.Want) { return wanted(p.Dialed(out, from)) }
}

// refused has it take a verdict that is not [core.Deliver].
func (p socksPreface) refused(v core.Verdict) func([]byte) ([]byte, relay.Want) {
	reply := replyTo(v)
	return func(out []byte) ([]byte, relay.Want) { return wanted(p.Refused(out, reply)) }
}

// replyTo returns the reply by which a client learns of a verdict.
func replyTo(v core.Verdict) socks.Reply {
	if reply, known := replies[v]; known {
		return reply
	}
	return socks.GeneralFailure
}

// replies by which a client learns of a verdict.
var replies = map[core.Verdict]socks.Reply{
	core.Reset:           socks.ConnectionRefused,
	core.NoRoute:         socks.NetworkUnreachable,
	core.HostUnreachable: socks.HostUnreachable,
	core.Prohibited:      socks.NotAllowed,
	core.Drop:            socks.TTLExpired,
}

// prefaceResult names the reason for which a client has left, as the label of a counter.
func prefaceResult(err error) string {
	var reason socks.Reason
	var reply socks.Reply
	var errno syscall.Errno
	switch {
	case errors.As(err, &reason):
		return reason.Label()
	case errors.As(err, &reply):
		return "refused"
	case errors.Is(err, relay.ErrCrowded):
		return "crowded"
	case errors.As(err, &errno) && (errno == syscall.ECONNRESET || errno == syscall.EPIPE):
		return "reset"
	}
	return "failed"
}
