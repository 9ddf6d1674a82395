//go:build linux

package box

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/socks"
	"github.com/synbond/synbond/internal/users"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/state"
)

// GatewayConfig has the settings for clients that ask for their destination.
type GatewayConfig struct {
	Listen []netip.AddrPort // for SOCKS
	Users  string           // file with users, "" for none
	Admit  []netip.Prefix   // of clients that need no user
	Open   bool             // no client needs a user
	// Allowances are the rates and quotas of users.
	Allowances paths.Allowances
}

// Serves reports whether a box takes clients that ask for their destination.
func (g *GatewayConfig) Serves() bool { return len(g.Listen) > 0 }

// gateway serves the clients that ask for their destination.
type gateway struct {
	box      *Box
	users    *users.Users // nil without
	accounts *accounts
	resolver *resolver

	mu      sync.Mutex
	waiting map[uint32]*relay.Client // for the verdict on what they have asked for, by ID
	next    uint32
	results map[string]uint64 // of prefaces
	byUser  map[string]api.UserTotals
}

// caller is a client of the gateway, with its preface and the number of its request.
type caller struct {
	server socksPreface
	id     uint32 // of its request, 0 before that
}

func newGateway(b *Box, undo *undo) (*gateway, error) {
	g := &gateway{
		box: b, resolver: newResolver(), waiting: make(map[uint32]*relay.Client),
		results: make(map[string]uint64), byUser: make(map[string]api.UserTotals),
	}
	usage, err := b.cfg.openUserUsage()
	if err != nil {
		return nil, err
	}
	undo.add(usage.Save)
	g.accounts = newAccounts(b.cfg.Gateway.Allowances, usage)
	if b.cfg.Gateway.Users == "" {
		return g, nil
	}
	g.users, err = users.Open(users.Config{File: b.cfg.Gateway.Users, Now: b.now})
	if err == nil {
		g.warnAbsent(b.cfg.Gateway.Allowances)
	}
	return g, err
}

// warnAbsent names the users who have an allowance, and are not in the users' file.
func (g *gateway) warnAbsent(all paths.Allowances) {
	for _, a := range all {
		if a.User != paths.AnyUser && !g.users.Has(a.User) {
			g.box.cfg.Log.Warn("a user with a rate or quota is not in the users' file", "user", a.User, "file", g.box.cfg.Gateway.Users)
		}
	}
}

// allow replaces the rates and quotas of users.
func (g *gateway) allow(all paths.Allowances) {
	g.accounts.allow(all)
	if g.users != nil {
		g.warnAbsent(all)
	}
}

// preface begins the preface of a client.
func (g *gateway) preface(c *relay.Client) relay.Preface {
	who := &caller{server: socksPreface{socks.NewServer(g.admission(c.Addr.Addr(), c.At.Addr()))}}
	c.Caller = who
	return who.server
}

// admission returns what a client may do without a user. Where there are no users, those of
// this machine itself may do all.
func (g *gateway) admission(client, at netip.Addr) socks.Admission {
	cfg := g.box.cfg.Gateway
	return socks.Admission{
		Users: g.users != nil,
		Anonymous: cfg.Open || g.users == nil && at.IsLoopback() ||
			slices.ContainsFunc(cfg.Admit, func(p netip.Prefix) bool { return p.Contains(client) }),
	}
}

// Asks implements [relay.ClientEvents].
func (g *gateway) Asks(c *relay.Client) {
	who := c.Caller.(*caller)
	if who.server.Step() != socks.Checking {
		g.ask(c, who)
		return
	}
	user, password := who.server.Login()
	answer := func(o users.Outcome) { c.Answer(who.server.checked(o == users.Right)) }
	if o := g.users.Verify(c.Addr.Addr(), user, password, answer); o != users.Pending {
		answer(o)
	}
}

// ask asks the core about a client's request.
func (g *gateway) ask(c *relay.Client, who *caller) {
	to := who.server.Destination()
	q := core.Request{
		Client: c.Addr, At: c.At, User: who.server.User(), Name: to.Name,
		Server: netip.AddrPortFrom(to.Addr, to.Port), Capable: c.MPTCP,
	}
	g.mu.Lock()
	for g.next++; g.next == 0 || g.waiting[g.next] != nil; {
		g.next++
	}
	q.ID, who.id = g.next, g.next
	g.waiting[q.ID] = c
	g.mu.Unlock()
	g.box.do(func(acts []core.Action) []core.Action { return g.box.core.Asked(acts, g.box.now(), q) })
}

// Left implements [relay.ClientEvents].
func (g *gateway) Left(c *relay.Client, err error) {
	who := c.Caller.(*caller)
	g.mu.Lock()
	g.results[prefaceResult(err)]++
	delete(g.waiting, who.id)
	g.mu.Unlock()
	if who.id != 0 {
		g.box.do(func(acts []core.Action) []core.Action {
			return g.box.core.ClientLeft(acts, g.box.now(), state.KeyOf(c.Addr, c.At), who.id)
		})
	}
}

// answer gives a client the verdict on what it has asked for.
func (g *gateway) answer(flow state.ID, d *core.Decision) {
	if d.Verdict == core.Hold {
		return
	}
	g.box.cfg.Log.Debug("answered", "client", d.Key.Client(), "user", d.Asked.User, "name", d.Asked.Name, "server", d.Asked.Server,
		"verdict", d.Verdict, "reason", d.Reason)
	g.mu.Lock()
	c := g.waiting[d.Packet.ID]
	delete(g.waiting, d.Packet.ID)
	g.mu.Unlock()
	if c == nil {
		return // it has left
	}
	who := c.Caller.(*caller)
	conn, dialed := g.box.conns.get(flow)
	if d.Verdict != core.Deliver || !dialed {
		c.Answer(who.server.refused(d.Verdict))
		return
	}
	g.box.kernel.relay.Welcome(c, conn.(*relay.Conn), g.accounts.open(d.Asked.User), who.server.dialed(conn.Local()))
}

// resolve finds the addresses of a name for a flow.
func (g *gateway) resolve(flow state.ID, name string) {
	g.resolver.resolve(name, func(addrs []netip.Addr, last bool) {
		g.box.do(func(acts []core.Action) []core.Action {
			return g.box.core.Resolved(acts, g.box.now(), flow, addrs, last)
		})
	})
}

// closed counts the bytes of a flow that has closed for its user.
func (g *gateway) closed(user string, c connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.byUser[user]
	t.Flows++
	t.BytesUp += c.BytesUp()
	t.BytesDown += c.BytesDown()
	g.byUser[user] = t
}

// reload reads the users' file again.
func (g *gateway) reload() {
	if g.users == nil {
		return
	}
	if err := g.users.Reload(); err != nil {
		g.box.cfg.Log.Error("the users stay as they are", "err", err)
		return
	}
	g.box.cfg.Log.Info("the users' file has been read again", "file", g.box.cfg.Gateway.Users, "users", g.users.Len())
}

// totals adds those of the gateway.
func (g *gateway) totals(t *api.Totals) {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := &api.GatewayTotals{Prefaces: make(map[string]uint64), Users: g.accounts.describe(time.Now())}
	for result, n := range g.results {
		out.Prefaces[result] = n
	}
	for user, of := range g.byUser {
		t := out.Users[user]
		t.Flows, t.BytesUp, t.BytesDown = of.Flows, of.BytesUp, of.BytesDown
		out.Users[user] = t
	}
	if g.users != nil {
		n := g.users.Counts()
		out.Logins = map[string]uint64{"right": n.Right, "remembered": n.Remembered, "wrong": n.Wrong, "limited": n.Limited, "busy": n.Busy}
	}
	t.Gateway = out
}
