//go:build linux

package box

import (
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

// request explains what a gateway would do with a request.
func (x *explainer) request() {
	cfg := x.cfg.Gateway
	at := cfg.Listen[0]
	admission := x.gateway.admission(x.query.Client.Addr(), at.Addr())
	switch {
	case x.query.User != "" && x.gateway.users == nil:
		x.say("users", "there is no users' file: %s is not asked who it is", x.query.Client.Addr())
	case x.query.User != "" && !x.gateway.users.Has(x.query.User):
		x.say("users", "there is no user %s", x.query.User)
		x.say("outcome", "refuse the client: wrong-login")
		return
	case x.query.User == "" && !admission.Anonymous:
		x.say("users", "%s needs a user: name one with --user", x.query.Client.Addr())
		x.say("outcome", "refuse the client: no-method")
		return
	case x.query.User == "":
		x.say("users", "%s needs no user", x.query.Client.Addr())
	default:
		x.say("users", "%s is a user", x.query.User)
	}
	q := core.Request{Client: x.query.Client, At: at, User: x.query.User, Server: x.query.Server, Capable: x.query.MPTCP == nil || *x.query.MPTCP}
	e := x.core.ExplainRequest(x.now(), q)
	for _, s := range e.Steps {
		x.say(s.Name, "%s", s.Text)
	}
	x.say("limits", "%d of %d flows, %d of %d half open", e.Room.Flows, e.Room.MaxFlows, e.Room.HalfOpen, e.Room.MaxHalfOpen)
	d := &e.Decision
	x.out.Taken, x.out.Side = true, state.Multipath.String()
	x.out.Action, x.out.Reason, x.out.Rule, x.out.Verdict = e.Flow.Action.String(), d.Reason.String(), d.Rule, d.Verdict.String()
	if d.Verdict == core.Hold {
		x.say("outcome", "dial %s with TCP from this machine's own address", e.Dial.Server)
		return
	}
	text := "refuse the client: " + replyTo(d.Verdict).Error()
	if d.Why() != "" {
		text += ", because of " + d.Why()
	}
	x.say("outcome", "%s", text)
}
