//go:build linux

package box

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/state"
)

// explainer explains what the box would do with a SYN. The kernel is asked about its way,
// [core.Core.Explain] about the rest.
type explainer struct {
	*Box
	query api.ExplainQuery
	out   api.Explanation
}

// explain answers a request. A mistake in it is an [*api.Error].
func (b *Box) explain(query url.Values) (api.Explanation, error) {
	q, err := api.ParseExplainQuery(query)
	if err != nil {
		return api.Explanation{}, &api.Error{Status: http.StatusBadRequest, Message: err.Error()}
	}
	x := explainer{b, q, api.Explanation{Role: string(b.cfg.Role), Client: q.Client, Server: q.Server, Steps: []api.ExplainStep{}}}
	if b.cfg.Role == Gateway || b.gateway != nil && q.User != "" {
		x.request()
		return x.out, nil
	}
	way, err := host.WayOf(q.Client.Addr(), q.Server.Addr(), q.In)
	if err != nil {
		x.say("route", "%s", err)
		x.say("outcome", "the box does not see the SYN: this machine does not forward it")
		return x.out, nil
	}
	if side, taken := x.hook(way); taken {
		x.decide(side, way)
	}
	return x.out, nil
}

func (x *explainer) say(step, format string, args ...any) {
	x.out.Steps = append(x.out.Steps, api.ExplainStep{Step: step, Detail: fmt.Sprintf(format, args...)})
}

// hook says whether the rules in forward take a SYN on that way, and from which side.
func (x *explainer) hook(w host.Way) (side state.Side, taken bool) {
	if w.Local {
		x.say("route", "in by %s, to this machine itself", w.In)
		x.say("outcome", "the box does not see the SYN: it takes only what this machine forwards")
		return 0, false
	}
	by := ""
	if w.NextHop.IsValid() {
		by = " by " + w.NextHop.String()
	}
	x.say("route", "in by %s, out by %s%s; marks that other programs set are not known here", w.In, w.Out, by)
	sides := newSides(x.cfg)
	side, known := sides.byName[w.In]
	opposite, leaves := sides.byName[w.Out]
	switch {
	case !known || !leaves || side == opposite:
		x.say("hook", "not taken: %s is %s, %s is %s, and the box takes SYNs from one side to the other", w.In, sideText(side, known), w.Out, sideText(opposite, leaves))
		x.say("outcome", "the box does not see the SYN: the router forwards it")
		return side, false
	case x.cfg.Role == CPE && slices.Contains(x.joins(), x.query.Server):
		x.say("hook", "not taken: %s is a join address", x.query.Server)
		x.say("outcome", "the box lets the SYN pass, as a further subflow")
		return side, false
	}
	x.say("hook", "taken from the %s side, at the end of forward%s", side, x.installedText())
	x.firewall()
	x.out.Taken, x.out.Side = true, side.String()
	return side, true
}

func sideText(side state.Side, known bool) string {
	if !known {
		return "on no side"
	}
	return "on the " + side.String() + " side"
}

// joins are the join addresses that SYNs of hosts may have as their destination.
func (x *explainer) joins() (all []netip.AddrPort) {
	return x.cfg.Rules(nfq.Listeners{}, x.core.Policy()).Joins
}

// installedText is empty if the rules are there.
func (x *explainer) installedText() string {
	if x.guard == nil { // there are doubles
		return ""
	}
	if x.guard.IsAside() {
		return "; but the box stands aside, as others remove its rules or routes again and again: all SYNs pass"
	}
	x.installed.mu.Lock()
	kept := *x.installed.kept // that of the guard has its own notion of what is new
	x.installed.mu.Unlock()
	if words, _, err := kept.Changes(); err == nil && words != "" {
		return "; but others have just changed the box's rules: " + words
	}
	return ""
}

// firewall names the rules of others that come first.
func (x *explainer) firewall() {
	chains, err := nfq.ForwardChains()
	switch {
	case err != nil:
		x.say("firewall", "not known: %s", err)
	case len(chains) == 0:
		x.say("firewall", "no nftables rule of another program comes before the box in forward")
	default:
		x.say("firewall", "not tried: what these do comes first: %s", strings.Join(chains, ", "))
	}
	x.installed.mu.Lock()
	tracked := x.installed.tracked
	x.installed.mu.Unlock()
	if tracked {
		x.say("firewall", "this machine translates destinations: a SYN that it has translated passes, and is not tried here")
	}
}

// decide asks the core.
func (x *explainer) decide(side state.Side, w host.Way) {
	capable := side == state.Multipath
	if x.query.MPTCP != nil {
		capable = *x.query.MPTCP
	}
	syn := core.NewSYN(x.query.Client, x.query.Server, capable)
	x.pathsStep(side)
	e := x.core.Explain(x.now(), core.Packet{
		ID: math.MaxUint32, Side: side, Interface: uint32(w.InIndex), Out: uint32(w.OutIndex), Path: newSides(x.cfg).path(uint32(w.OutIndex)), Data: syn,
	})
	for _, s := range e.Steps {
		x.say(s.Name, "%s", s.Text)
	}
	x.say("limits", "%d of %d flows, %d of %d half open", e.Room.Flows, e.Room.MaxFlows, e.Room.HalfOpen, e.Room.MaxHalfOpen)
	x.outcome(e, w)
}

// pathsStep shows the paths as the dial policy sees them.
func (x *explainer) pathsStep(side state.Side) {
	if x.steering == nil || side != state.Plain {
		return
	}
	v := x.steering.view.Load()
	all := []string{"HAG " + withReason(v.hag.State.String(), v.hag.Reason)}
	for i, s := range v.statuses {
		all = append(all, fmt.Sprintf("path %s %s, %s", x.cfg.Paths[i].Name, withReason(upOrDown(s.Up), s.Reason), v.desired[i]))
	}
	x.say("paths", "%s", strings.Join(all, "; "))
}

func withReason(word, reason string) string {
	if reason == "" {
		return word
	}
	return word + " (" + reason + ")"
}

// outcome shows the decision.
func (x *explainer) outcome(e core.Explanation, w host.Way) {
	x.out.Action, x.out.Reason, x.out.Rule = e.Flow.Action.String(), e.Decision.Reason.String(), e.Decision.Rule
	if e.Waits {
		x.out.Verdict = "wait"
		x.say("outcome", "wait up to a second for the end of the last connection with this 5-tuple, then decide")
		return
	}
	x.out.Verdict = e.Decision.Verdict.String()
	text := map[core.Verdict]string{
		core.Accept: "let the SYN pass", core.Rewrite: "forward the SYN, edited", core.Drop: "drop the SYN",
		core.Deliver: "answer the SYN from the box's listener", core.Prohibited: "answer that it is prohibited", core.Hold: "hold the SYN, in the place of the one that is held",
	}[e.Decision.Verdict]
	if e.Dial.Server.IsValid() {
		text = "hold the SYN, and dial " + x.dialText(e.Dial, w)
	}
	switch r := e.Decision.Reason; {
	case r != state.None:
		text += ": " + r.String() + ", " + r.Meaning()
	case e.Decision.Rule != "":
		text += ", by rule " + e.Decision.Rule
	}
	x.say("outcome", "%s", text)
}

// dialText says how the box would dial.
func (x *explainer) dialText(d core.Dial, w host.Way) string {
	leg := map[bool]string{true: "with MPTCP", false: "with TCP"}[d.Multipath && !d.Plain]
	switch {
	case d.From.Addr.IsValid():
		x.out.DialedFrom = d.From.Addr
		return fmt.Sprintf("%s from %s by %s", leg, d.From.Addr, d.From.Interface)
	case x.cfg.OwnSource4 && d.Multipath && d.Client.Addr().Is4():
		return fmt.Sprintf("%s from the box's own address by %s", leg, w.Out)
	}
	return fmt.Sprintf("%s from the client's address by %s", leg, w.Out)
}
