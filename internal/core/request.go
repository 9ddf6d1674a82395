package core

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/synbond/synbond/state"
)

// Request is the destination that a client names in the preface of its connection: an address, or a name.
type Request struct {
	ID      uint32         // of the client, which waits for its verdict
	Client  netip.AddrPort // that has connected
	At      netip.AddrPort // to this address of the machine
	User    string         // "" without one
	Name    string         // of the destination: in lower case, without the dot at the end; or ""
	Server  netip.AddrPort // the destination; with a Name only its port
	Capable bool           // the client speaks MPTCP
}

// key is that of the request's flow.
func (q *Request) key() state.Key { return state.KeyOf(q.Client, q.At) }

// Asked takes the event that a client asks for a destination. The verdict on the client is a
// Decide, now or after [Hold].
func (c *Core) Asked(acts []Action, now time.Duration, q Request) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := state.Flow{
		Key: q.key(), Side: state.Multipath, Capable: q.Capable, Held: q.ID, Action: state.Relay,
		Asked: &state.Asked{User: q.User, Name: q.Name, Server: q.Server},
	}
	r := &race{request: q}
	if q.User != "" && c.spent != nil && c.spent(q.User) {
		f.Action, f.Reason = state.Reject, state.UserQuota
		c.traceSpent(q.User)
	} else if q.Name == "" {
		choice := c.permit(&q, q.Server.Addr())
		f.Action, f.Reason, f.Rule = choice.Action, choice.Reason, choice.Rule
		r.waiting, r.resolved = []candidate{{q.Server, choice.Rule}}, true
	} else if choice, known := c.policy.chooseEarly(&q); known && choice.Action != state.Relay {
		f.Action, f.Rule = choice.Action, choice.Rule
	}
	return c.beginAsked(acts, now, f, r)
}

// beginAsked records the flow of a request. An older flow of the same 5-tuple is over: its
// client has connected once more.
func (c *Core) beginAsked(acts []Action, now time.Duration, f state.Flow, r *race) []Action {
	at := beginnings[f.Action]
	f.State = at.state
	begun := c.table.Begin(now, f)
	if begun.Repeat {
		acts = c.abandon(acts, begun.ID)
		c.table.Move(now, begun.ID, state.Closed, state.Reset)
		begun = c.table.Begin(now, f)
	}
	d := Decision{Packet: Packet{ID: f.Held, Side: f.Side}, Verdict: at.verdict, Reason: f.Reason, Rule: f.Rule, Key: f.Key, Asked: f.Asked}
	if begun.Full != state.None {
		c.table.Count(begun.Full)
		d.Verdict, d.Reason, d.Rule = Drop, begun.Full, ""
	}
	acts = append(acts, Action{Kind: Decide, Flow: begun.ID, Decision: d})
	if d.Verdict != Hold {
		return acts
	}
	h := &handshake{side: f.Side, race: r, dialed: now}
	c.handshakes[begun.ID] = h
	if !r.resolved {
		return append(acts, Action{Kind: Resolve, Flow: begun.ID, Name: f.Asked.Name})
	}
	return c.goOn(acts, now, begun.ID, h)
}

// Resolved takes addresses of the name that a client has asked for. last reports whether no
// more come.
func (c *Core) Resolved(acts []Action, now time.Duration, id state.ID, addrs []netip.Addr, last bool) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.handshakes[id]
	if h == nil || h.race == nil {
		return acts // the client has left, or another address was faster
	}
	r := h.race
	for _, a := range addrs {
		choice := c.permit(&r.request, a)
		if choice.Action != state.Relay {
			r.denied = &choice
			continue
		}
		r.add(candidate{netip.AddrPortFrom(a, r.request.Server.Port()), choice.Rule})
	}
	r.resolved = r.resolved || last
	return c.goOn(acts, now, id, h)
}

// ClientLeft takes the event that a client has left which has asked, before it was paired.
// ID is that of its request.
func (c *Core) ClientLeft(acts []Action, now time.Duration, key state.Key, id uint32) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, live := c.table.Lookup(key)
	if !live || f.Held != id {
		return acts
	}
	if _, ok := c.table.Move(now, f.ID, state.Abandoned, state.Reset); ok {
		acts = c.abandon(acts, f.ID)
	}
	return acts
}

// chooseEarly chooses the action for a request as far as that does not take an address: a
// name that is refused is not looked up.
func (p *Policy) chooseEarly(q *Request) (choice Choice, known bool) {
	for i := range p.Rules {
		r := &p.Rules[i]
		if r.mismatchOf(q) != "" {
			continue
		}
		if len(r.To) > 0 {
			return Choice{}, false
		}
		return Choice{Action: r.Action, Rule: r.Name}, true
	}
	return Choice{Action: p.forRequests()}, true
}

// takes reports whether an action is one for requests: there is no SYN that could pass.
func takes(a state.Action) bool { return a == state.Relay || a == state.Reject }

// forRequests is the default action for requests.
func (p *Policy) forRequests() state.Action {
	if takes(p.Default) {
		return p.Default
	}
	return state.Relay
}

// permit chooses the action for a request with that address of its destination.
func (c *Core) permit(q *Request, a netip.Addr) Choice {
	choice := Choice{Action: c.policy.forRequests()}
	var to []netip.Prefix
	for i := range c.policy.Rules {
		r := &c.policy.Rules[i]
		key := r.mismatchOf(q)
		if key == "" && !within(r.To, a) {
			key = "to"
		}
		if key == "" {
			choice, to = Choice{Action: r.Action, Rule: r.Name}, r.To
			break
		}
		c.traceRule(r, key)
	}
	if choice.Action == state.Relay && !c.public(a) && !slices.ContainsFunc(to, func(p netip.Prefix) bool { return names(p, a) }) {
		choice = Choice{Action: state.Reject, Reason: state.Forbidden}
	}
	c.tracePermit(a, choice)
	return choice
}

// mismatchOf names the first key of a rule, beside to, that a request does not match.
func (r *Rule) mismatchOf(q *Request) string {
	port := q.Server.Port()
	switch {
	case !takes(r.Action):
		return "action" // of SYNs
	case r.Side != nil && *r.Side != state.Multipath:
		return "side"
	case r.Capable != nil && *r.Capable != q.Capable:
		return "mp_capable"
	case !within(r.From, q.Client.Addr()):
		return "from"
	case len(r.Users) > 0 && !slices.Contains(r.Users, q.User):
		return "users"
	case len(r.Names) > 0 && !slices.ContainsFunc(r.Names, func(p string) bool { return matchesName(p, q.Name) }):
		return "names"
	case len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, func(p PortRange) bool { return p.First <= port && port <= p.Last }):
		return "ports"
	}
	return ""
}

// matchesName reports whether a pattern matches a name: itself, or *.example.com all names
// below example.com.
func matchesName(pattern, name string) bool {
	if below, wild := strings.CutPrefix(pattern, "*."); wild {
		return strings.HasSuffix(name, "."+below)
	}
	return name != "" && pattern == name
}

// CheckForGateway returns an error if the policy has an action that a gateway cannot take.
func (p *Policy) CheckForGateway() error {
	if !takes(p.Default) {
		return fmt.Errorf("action %s is not for a gateway: want relay or reject", p.Default)
	}
	for _, r := range p.Rules {
		if !takes(r.Action) {
			return fmt.Errorf("%s: action %s is not for a gateway: want relay or reject", r.Name, r.Action)
		}
	}
	return nil
}
