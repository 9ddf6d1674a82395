//go:build linux

package box

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/probe"
	"github.com/synbond/synbond/internal/socks"
	"github.com/synbond/synbond/internal/users"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/state"
)

// A LAN gateway is a CPE without a HAG: its connections go through SOCKS servers, the
// upstreams. The core chooses among their addresses and the paths; this file has their names,
// the messages, and checks.

// UpstreamConfig has the servers through which a CPE's connections go, if there are any.
type UpstreamConfig struct {
	Servers      []UpstreamServer
	PasswordFile string // of the servers with users
	Fastest      bool   // prefer the least round trip to the order
	Reject       bool   // reject connections while no server can be used; else they pass
}

// UpstreamServer is a SOCKS server.
type UpstreamServer struct {
	Host string // a name or an address
	Port uint16
	User string // "" for none
}

// String returns host and port. The user is nobody else's business.
func (s UpstreamServer) String() string {
	if a, err := netip.ParseAddr(s.Host); err == nil {
		return netip.AddrPortFrom(a, s.Port).String()
	}
	return fmt.Sprintf("%s:%d", s.Host, s.Port)
}

// validate reports what is wrong with the servers in themselves.
func (c *UpstreamConfig) validate() error {
	users := slices.ContainsFunc(c.Servers, func(s UpstreamServer) bool { return s.User != "" })
	switch {
	case len(c.Servers) == 0 && c.PasswordFile != "":
		return errors.New("--password-file is for a user in --upstream, and there is none")
	case users && c.PasswordFile == "":
		return errors.New("a user in --upstream needs a password: name a file with it by --password-file")
	case !users && c.PasswordFile != "":
		return errors.New("--password-file is for a user, and no --upstream has one: socks5://USER@HOST:PORT")
	}
	for i, s := range c.Servers {
		if slices.Contains(c.Servers[:i], s) {
			return fmt.Errorf("--upstream %s is there twice", s)
		}
	}
	return nil
}

const (
	// upstreamsEvery is the time between two looks at the upstreams that have failed.
	upstreamsEvery = 500 * time.Millisecond
	// renewAddresses is the time between two looks at an upstream's name, and againAddresses that
	// while it has no address.
	renewAddresses, againAddresses = time.Minute, 2 * time.Second
	// earlyPatience is the least time for the answer to early messages.
	earlyPatience = time.Second
	// checkPatience bounds a check of an upstream.
	checkPatience = 10 * time.Second
)

// upstreams are the servers of a LAN gateway.
type upstreams struct {
	box      *Box
	password socks.Secret
	resolver *resolver

	mu       sync.Mutex
	addrs    [][]netip.Addr // by server
	renew    []time.Time    // by server: when its name is looked up again
	byAddr   map[netip.AddrPort]int
	checking map[checked]bool
	known    map[checked]bool // those that have been checked
}

// checked is a way to an upstream.
type checked struct {
	at   netip.AddrPort
	path uint8
}

// openUpstreams reads the password, and the addresses of the servers as far as they are known.
func (b *Box) openUpstreams(undo *undo) error {
	cfg := b.cfg.Upstream
	if len(cfg.Servers) == 0 {
		return nil
	}
	u := &upstreams{
		box: b, resolver: newResolver(), addrs: make([][]netip.Addr, len(cfg.Servers)), renew: make([]time.Time, len(cfg.Servers)),
		checking: make(map[checked]bool), known: make(map[checked]bool),
	}
	if cfg.PasswordFile != "" {
		password, err := users.ReadPassword(cfg.PasswordFile)
		if err != nil {
			return err
		}
		u.password = password
		undo.add(func() error { clear(u.password); return nil })
	}
	for i, s := range cfg.Servers {
		if a, err := netip.ParseAddr(s.Host); err == nil {
			u.addrs[i] = []netip.Addr{a.Unmap()}
		}
	}
	b.upstreams = u
	u.publish()
	return u.isElsewhere()
}

// isElsewhere returns an error about a server that is this machine.
func (u *upstreams) isElsewhere() error {
	for i, all := range u.addrs {
		for _, a := range all {
			if u.box.isOwn(a) || a.IsLoopback() || a.IsUnspecified() {
				return fmt.Errorf("upstream %s is an address of this machine: its connections would go round in circles", u.box.cfg.Upstream.Servers[i])
			}
		}
	}
	return nil
}

// publish tells the core and the path monitor the addresses of the servers.
func (u *upstreams) publish() {
	u.mu.Lock()
	p := core.UpstreamPolicy{Fastest: u.box.cfg.Upstream.Fastest, Reject: u.box.cfg.Upstream.Reject}
	u.byAddr = make(map[netip.AddrPort]int)
	for i, s := range u.box.cfg.Upstream.Servers {
		for _, a := range u.addrs[i] {
			at := netip.AddrPortFrom(a, s.Port)
			if _, twice := u.byAddr[at]; !twice {
				p.All = append(p.All, core.Upstream{Server: i, At: at})
				u.byAddr[at] = i
			}
		}
	}
	u.mu.Unlock()
	u.box.core.SetUpstreams(p)
	if s := u.box.steering; s != nil && s.kernel.monitor != nil {
		s.kernel.monitor.SetJoins(u.joins())
	}
}

// ofFamily returns the addresses of the servers in one address family.
func (u *upstreams) ofFamily(is4 bool) (all []netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i, s := range u.box.cfg.Upstream.Servers {
		for _, a := range u.addrs[i] {
			if a.Is4() == is4 {
				all = append(all, netip.AddrPortFrom(a, s.Port))
			}
		}
	}
	return all
}

// joins returns an address of each family, for the paths' routes.
func (u *upstreams) joins() (all []netip.AddrPort) {
	for _, is4 := range []bool{false, true} {
		if of := u.ofFamily(is4); len(of) > 0 {
			all = append(all, of[0])
		}
	}
	return all
}

// newMonitor returns the monitor of a CPE's paths: by probes to the HAG, or by TCP to upstreams.
func (b *Box) newMonitor() (*probe.Monitor, error) {
	u := b.upstreams
	if u == nil {
		return probe.NewMonitor(b.machine, nil, b.set.Paths, b.cfg.Probe, b.cfg.Log)
	}
	b.cfg.Probe.ByTCP = true
	watched := slices.Clone(b.set.Paths)
	for i := range watched {
		watched[i].Join = u.joins()
	}
	return probe.NewMonitor(b.machine, probe.DialServers(u.ofFamily), watched, b.cfg.Probe, b.cfg.Log)
}

// asking is a [socks.Client] as the preface of an onward leg.
type asking struct{ *socks.Client }

var _ relay.Asking = asking{}

// Receive implements [relay.Asking].
func (a asking) Receive(out, b []byte) ([]byte, relay.Want) { return wanted(a.Client.Receive(out, b)) }

// Closed implements [relay.Asking].
func (a asking) Closed() relay.Want { return wants[a.Client.Closed()] }

// client returns a client that asks an upstream for a destination.
func (u *upstreams) client(via netip.AddrPort, to socks.Destination, early bool) (*socks.Client, error) {
	u.mu.Lock()
	i, known := u.byAddr[via]
	u.mu.Unlock()
	if !known {
		return nil, syscall.EHOSTUNREACH // its name has other addresses by now
	}
	login := socks.Login{User: u.box.cfg.Upstream.Servers[i].User}
	if login.User != "" {
		login.Password = u.password
	}
	return socks.NewClient(to, login, early)
}

// dialThrough returns the dial of a flow through an upstream.
func (b *Box) dialThrough(a *core.Action) (relay.Dial, error) {
	d := a.Dial
	client, err := b.upstreams.client(d.Via, socks.AddrDestination(d.Server), d.Early)
	if err != nil {
		return relay.Dial{}, err
	}
	out := relay.Dial{
		ID: relay.ID(a.Flow), Client: d.Client, Server: d.Server, Via: d.Via, Through: asking{client},
		OwnSource: true, From: d.From.Addr, Interface: d.From.Interface, MPTCP: true, Plain: d.Plain, DSCP: d.Traits.DSCP,
	}
	out.Mark = uint32(markOf(out).WithDSCP(out.DSCP))
	return out, nil
}

// stageOf says whose the error of a dial through an upstream is, and whether early messages may
// be its cause.
func stageOf(err error) (stage core.Stage, stepByStep bool) {
	var reply socks.Reply
	var reason socks.Reason
	switch {
	case errors.As(err, &reply):
		return core.Answered, false
	case errors.As(err, &reason):
		return core.NotServed, reason.StepByStep()
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return core.NotServed, true // it has accepted the connection before
	}
	return core.NotReached, false
}

// run keeps the addresses of the servers, and checks the ways to them that are new or have
// failed, until ctx ends.
func (u *upstreams) run(ctx context.Context) error {
	tick := time.NewTicker(upstreamsEvery)
	defer tick.Stop()
	for {
		u.renewNames(time.Now())
		for _, w := range u.due() {
			go u.check(ctx, w)
		}
		u.report()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// renewNames looks up the names of servers whose time has come.
func (u *upstreams) renewNames(now time.Time) {
	for i, s := range u.box.cfg.Upstream.Servers {
		if _, err := netip.ParseAddr(s.Host); err == nil || now.Before(u.renew[i]) {
			continue
		}
		u.renew[i] = now.Add(againAddresses)
		if len(u.addrs[i]) > 0 {
			u.renew[i] = now.Add(renewAddresses)
		}
		var all []netip.Addr
		u.resolver.resolve(s.Host, func(addrs []netip.Addr, last bool) {
			if all = append(all, addrs...); last && len(all) > 0 { // else those before stay
				u.resolved(i, all)
			}
		})
	}
}

// resolved takes the addresses of a server.
func (u *upstreams) resolved(i int, all []netip.Addr) {
	all = slices.DeleteFunc(all, func(a netip.Addr) bool { return u.box.isOwn(a) || a.IsLoopback() || a.IsUnspecified() })
	u.mu.Lock()
	same := slices.Equal(all, u.addrs[i])
	u.addrs[i] = all
	u.mu.Unlock()
	if !same {
		u.box.cfg.Log.Info("addresses of upstream", "upstream", u.box.cfg.Upstream.Servers[i], "addresses", all)
		u.publish()
	}
}

// due returns the ways to check now.
func (u *upstreams) due() (out []core.UpstreamWay) {
	all := u.box.core.UpstreamWays()
	now := u.box.now()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, w := range all {
		k := checked{w.At, w.Path}
		if u.checking[k] || u.known[k] && !(w.Failed && now >= w.Retry) {
			continue
		}
		u.checking[k], u.known[k] = true, true
		out = append(out, w)
	}
	return out
}

// check connects to an upstream over a path, and greets it.
func (u *upstreams) check(ctx context.Context, w core.UpstreamWay) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	err := errNoWay
	var trip time.Duration
	for _, by := range u.box.ways() {
		from := by[0]
		if w.At.Addr().Is4() {
			from = by[1]
		}
		if from.Path == w.Path && from.Addr.IsValid() {
			trip, err = u.checkBy(ctx, from, w)
		}
	}
	u.mu.Lock()
	delete(u.checking, checked{w.At, w.Path})
	u.mu.Unlock()
	if ctx.Err() != nil && errors.Is(ctx.Err(), context.Canceled) || errors.Is(err, errNoWay) {
		return
	}
	u.box.core.UpstreamChecked(u.box.now(), w.At, w.Path, err, trip)
}

// checkBy is check from an end of the path. If it is not known whether the upstream takes
// messages early, it is asked for its own address so: any reply shows that it does.
func (u *upstreams) checkBy(ctx context.Context, from core.Source, w core.UpstreamWay) (trip time.Duration, err error) {
	client, err := u.client(w.At, socks.AddrDestination(w.At), false)
	if err != nil {
		return 0, err
	}
	if trip, err = greet(ctx, from, w.At, client, false); err != nil || !w.Doubt {
		return trip, err
	}
	early, err := u.client(w.At, socks.AddrDestination(w.At), true)
	if err != nil {
		return 0, err
	}
	soon, cancel := context.WithTimeout(ctx, max(earlyPatience, 4*trip))
	defer cancel()
	_, err = greet(soon, from, w.At, early, true)
	var reply socks.Reply
	switch {
	case err == nil || errors.As(err, &reply):
		u.box.core.UpstreamTakesEarly(w.At, true)
	case early.StepByStep():
		u.box.core.UpstreamTakesEarly(w.At, false)
	}
	return trip, nil
}

// errNoWay means that a path cannot be used any more.
var errNoWay = errors.New("the path is down")

// ways returns the ends from which upstreams can be dialed, by path.
func (b *Box) ways() [][2]core.Source {
	v := b.steering.view.Load()
	return b.cfg.ways(v.statuses, v.desired)
}

// report shows which upstreams cannot be used.
func (u *upstreams) report() {
	var found []host.Finding
	for i, s := range u.box.cfg.Upstream.Servers {
		if text := u.trouble(i); text != "" {
			found = append(found, host.UpstreamFails.Finding(s.String(), "upstream "+s.String()+": "+text))
		}
	}
	found = append(found, u.behind()...)
	u.box.findings.Report("upstreams", found...)
}

// trouble tells why a server cannot be used, "" if it can.
func (u *upstreams) trouble(server int) string {
	u.mu.Lock()
	none := len(u.addrs[server]) == 0
	u.mu.Unlock()
	if none {
		return "its name does not resolve"
	}
	var all []string
	for _, w := range u.box.core.UpstreamWays() {
		switch {
		case w.Server != server:
		case !w.Failed:
			return ""
		default:
			all = append(all, "by "+u.box.pathName(w.Path)+": "+failure(w.Err))
		}
	}
	return strings.Join(slices.Compact(all), ", ")
}

// failure tells the cause of a failure in words.
func failure(err error) string {
	if err == nil {
		return "no answer"
	}
	return err.Error()
}

// behind finds upstreams that are behind this box: on the plain side.
func (u *upstreams) behind() (found []host.Finding) {
	for _, is4 := range []bool{false, true} {
		for _, at := range u.ofFamily(is4) {
			if name := interfaceName(uint32(u.box.machine.Egress(at.Addr()))); name != "" && slices.Contains(u.box.cfg.Plain, name) {
				found = append(found, host.UpstreamBehind.Finding(at.String(), fmt.Sprintf("the upstream %s is behind this box, on %s", at, name)))
			}
		}
	}
	return found
}

// describe shows the upstreams.
func (u *upstreams) describe() (all []api.Upstream) {
	ways := u.box.core.UpstreamWays()
	now := u.box.now()
	for i, s := range u.box.cfg.Upstream.Servers {
		out := api.Upstream{Server: s.String(), State: upOrDown(u.trouble(i) == ""), Reason: u.trouble(i)}
		for _, w := range ways {
			if w.Server == i {
				out.Ways = append(out.Ways, api.UpstreamWay{
					Address: w.At, Path: u.box.pathName(w.Path), State: upOrDown(!w.Failed), SinceMS: (now - w.Since).Milliseconds(),
					RTTUS: (w.Trip / 2).Microseconds(), AtOnce: w.Early,
				})
			}
		}
		all = append(all, out)
	}
	return all
}

// ways returns the ends from which to dial upstreams: those of normal paths, then of backups.
func (c *Config) ways(all []paths.Status, desired []paths.DesiredState) (out [][2]core.Source) {
	for _, want := range []paths.DesiredState{paths.Normal, paths.Backup} {
		for i, s := range all {
			if desired[i] != want {
				continue
			}
			var by [2]core.Source
			for family, addr := range []netip.Addr{s.Addr6, s.Addr4} {
				if addr.IsValid() {
					by[family] = core.Source{Path: uint8(i), Addr: addr, Interface: c.Paths[i].Interface}
				}
			}
			out = append(out, by)
		}
	}
	return out
}

// translation returns which addresses of a path a NAT translates, as far as private addresses
// show it: the upstream is elsewhere.
func (u *upstreams) translation(s paths.Status) paths.Translation {
	return paths.Translation{V6: s.Addr6.IsValid() && s.Addr6.IsPrivate(), V4: s.Addr4.IsValid() && (s.Addr4.IsPrivate() || carrierShared.Contains(s.Addr4))}
}

// carrierShared has the addresses that providers share among customers (RFC 6598).
var carrierShared = netip.MustParsePrefix("100.64.0.0/10")

// reached tells the core that the upstream of a dial has answered.
func (b *Box) reached(id state.ID) {
	b.do(func(acts []core.Action) []core.Action { return b.core.UpstreamReached(acts, b.now(), id) })
}
