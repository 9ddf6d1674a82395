//go:build linux

package box

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/guard"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
)

// Names of guarded things that netlink reports.
const rulesThing = "nftables rules"

const queuesThing = "queueing of paths"

const tunnelsThing = "interfaces of encapsulated subflows"

// Times between two looks at things that events tell of. Events can be missing: IPv4 routes
// that go with their interface cause none, and nftables says nothing of the older iptables.
const (
	lookRarely  = 30 * time.Second
	lookAtNAT   = 2 * time.Second // of the older iptables, see rulesChanged
	lookAtMPTCP = 2 * time.Second // limits and endpoints: no event tells of them
	lookAtBPF   = 5 * time.Second // likewise, and it costs speed only
)

var routesThings = map[int]string{unix.AF_INET6: "policy routing for IPv6", unix.AF_INET: "policy routing for IPv4"}

// newGuard returns the guard of all that the box will have installed.
func (b *Box) newGuard() *guard.Guard {
	return guard.New(guard.Config{
		Log: b.cfg.Log, Now: b.now, Aside: b.standAside, Return: b.comeBack, Changed: b.reportContests,
	}, b.things()...)
}

// keep keeps what the box has installed as it is, until ctx ends. Its goroutines are in g.
func (b *Box) keep(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return b.guard.Run(ctx) })
	// The report of what the box itself has mended may come after the next change by others,
	// and would be taken for its cause.
	own := host.ProcessAt(uint32(os.Getpid()))
	g.Go(func() error {
		return nfq.Watch(ctx, string(b.cfg.Role), func(by string, matters bool) {
			b.machineChanged()
			if matters && (by != own || by == "") {
				b.guard.Suspect(rulesThing, by)
			}
		})
	})
	g.Go(func() error {
		return nfq.WatchRoutes(ctx, func(family int, by uint32) {
			b.machineChanged()
			b.routesChanged()
			b.guard.Suspect(routesThings[family], host.ProcessAt(by))
		})
	})
	g.Go(func() error { return b.suspectAll(ctx) })
	if b.shapes() {
		g.Go(func() error {
			return host.WatchQueues(ctx, func(by uint32) { b.guard.Suspect(queuesThing, host.ProcessAt(by)) })
		})
	}
}

// suspectAll has the guard look at all things after each change of interfaces, until ctx ends.
func (b *Box) suspectAll(ctx context.Context) error {
	for {
		changed := b.machine.Changed()
		b.guard.Suspect("", "")
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// shapes reports whether the box limits the rate of an interface.
func (b *Box) shapes() bool {
	return slices.ContainsFunc(b.cfg.Paths, func(p paths.Path) bool { return p.Rate > 0 })
}

// things lists what the box keeps, each thing after those that it needs.
func (b *Box) things() []guard.Thing {
	lo := b.loopback()
	all := []guard.Thing{{Name: "loopback", Vital: true, Every: lookRarely, Look: lo.Changed, Mend: lo.Mend}}
	for _, s := range b.sysctls() {
		all = append(all, guard.Thing{
			Name: "sysctl " + s.Name(), Vital: s.Key == enabled.Key, Look: s.Changed, Mend: func() error { return b.journal.SetSysctl(s) },
		})
	}
	for key, least := range buffers {
		all = append(all, guard.Thing{
			Name: "sysctl " + host.Sysctl{Key: key}.Name(),
			Look: func() (string, error) { return host.Lowered(key, least) },
			Mend: func() error { return b.journal.RaiseSizes(key, least) },
		})
	}
	if b.cfg.Role != CPE {
		all = append(all,
			guard.Thing{Name: "MPTCP limits", Every: lookAtMPTCP, Look: b.limitsLowered, Mend: b.raiseLimits},
			guard.Thing{Name: "MPTCP endpoints", Every: lookAtMPTCP, Look: b.missingJoins, Mend: b.mendJoins})
	}
	if b.cfg.Role != Gateway {
		all = append(all, guard.Thing{Name: rulesThing, Vital: true, Every: lookAtNAT, Look: b.rulesChanged, Mend: b.installRules})
		for _, r := range b.routes() {
			all = append(all, guard.Thing{
				Name: routesThings[r.Family], Vital: true, Every: lookRarely, Look: func() (string, error) { return missing(r) }, Mend: r.Mend,
			})
		}
	}
	if b.steering != nil {
		s := b.steering.kernel.shaper
		all = append(all, guard.Thing{Name: queuesThing, Every: lookRarely, Look: s.Missing, Mend: s.Mend})
	}
	switch {
	case b.hub != nil:
		all = append(all, guard.Thing{Name: tunnelsThing, Every: lookRarely, Look: b.hub.missing, Mend: b.hub.mend})
	case b.steering != nil && b.steering.encapsulation != nil:
		e := b.steering.encapsulation
		all = append(all, guard.Thing{Name: tunnelsThing, Every: lookRarely, Look: e.missing, Mend: e.mend})
	}
	if b.window != nil {
		all = append(all, guard.Thing{Name: "initial window", Every: lookAtBPF, Look: b.window.Detached, Mend: b.window.Mend})
	}
	if b.segments != nil {
		all = append(all, guard.Thing{Name: "client's MSS", Every: lookAtBPF, Look: b.segments.Detached, Mend: b.segments.Mend})
	}
	return all
}

func (b *Box) loopback() host.Loopback { return host.Loopback{Families: b.families} }

// sysctls returns the settings that this box has on its machine.
func (b *Box) sysctls() []host.Sysctl {
	all := sysctls[b.cfg.Role]
	if b.installed.reinjects {
		all = append(all[:len(all):len(all)], looseLoopback)
	}
	return all
}

// reportContests reports what the box leaves to others.
func (b *Box) reportContests() {
	var found []host.Finding
	for _, s := range b.guard.Statuses() {
		if !s.Left {
			continue
		}
		kind, words := host.Contested, s.Thing+" changes again and again ("+s.Last+")"
		if s.Vital {
			kind = host.StandsAside
		}
		if len(s.Culprits) > 0 {
			words += " by " + strings.Join(s.Culprits, ", ")
		}
		found = append(found, kind.Finding(s.Thing, words))
	}
	b.findings.Report("guard", found...)
}

// checkPathManagers looks for programs that manage MPTCP beside the box.
func (b *Box) checkPathManagers() {
	var found []host.Finding
	foreign, err := b.pathManager.Foreign(b.cfg.Join)
	if len(foreign) > 0 {
		found = append(found, host.OtherEndpoints.Finding("", "the kernel has MPTCP endpoints of others: "+strings.Join(foreign, ", ")))
	}
	managers, err2 := b.pathManager.Managers()
	for _, m := range managers {
		found = append(found, host.OtherManager.Finding(m, m+" listens to MPTCP events"))
	}
	if err := errors.Join(err, err2); err != nil { // what was found before may still hold
		b.cfg.Log.Debug("cannot look for other path managers", "err", err)
		return
	}
	b.findings.Report("path managers", found...)
}

// missing names what is missing of a policy routing. Nothing is while the machine is
// without the address family.
func missing(r nfq.Routes) (string, error) {
	words, err := r.Missing()
	if words == "" || err != nil {
		return "", err
	}
	if !slices.Contains(host.Families(), r.Family) {
		return "", nil
	}
	return words, nil
}

func (b *Box) limitsLowered() (string, error) {
	limits, err := b.pathManager.Limits()
	if err != nil || limits.Subflows >= paths.MaxPaths {
		return "", err
	}
	return fmt.Sprintf("lowered to %d subflows", limits.Subflows), nil
}

// missingJoins names the join addresses that the kernel does not take joins at.
func (b *Box) missingJoins() (string, error) {
	all, err := b.absentJoins()
	if len(all) == 0 || err != nil {
		return "", err
	}
	var words []string
	for _, j := range all {
		words = append(words, j.String())
	}
	return strings.Join(words, ", ") + " gone", nil
}

// absentJoins returns the join addresses that are no endpoints of the kernel.
func (b *Box) absentJoins() ([]netip.AddrPort, error) {
	there, err := b.pathManager.Endpoints()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(b.joinsInOrder(), func(j netip.AddrPort) bool {
		return slices.ContainsFunc(there, func(e mptcp.Address) bool { return e.AddrPort == j && e.Signals() })
	}), nil
}

func (b *Box) mendJoins() error {
	all, err := b.absentJoins()
	for _, j := range all {
		err = errors.Join(err, b.pathManager.AddEndpoint(j))
	}
	return err
}

// standAside removes what sends packets to the box, so that new connections pass, and
// resets the relayed connections, which would hang without.
func (b *Box) standAside() error {
	for _, id := range b.conns.live(nil) {
		if c, ok := b.conns.get(id); ok {
			b.kernel.relay.Reset(c.(*relay.Conn), syscall.ECONNABORTED)
		}
	}
	b.installed.aside.Store(true)
	err := nfq.Remove(string(b.cfg.Role))
	for _, r := range b.routes() {
		err = errors.Join(err, r.Remove())
	}
	return err
}

// comeBack undoes [Box.standAside].
func (b *Box) comeBack() error {
	err := b.loopback().Mend()
	if err == nil {
		err = b.journal.SetSysctl(enabled)
	}
	for _, r := range b.routes() {
		if err == nil {
			err = r.Install()
		}
	}
	if err == nil {
		b.installed.aside.Store(false)
		err = b.installRules()
	}
	return err
}

// kept describes what others have changed, and what the box has done about it.
func (b *Box) kept() (all []api.Kept) {
	if b.guard == nil {
		return nil // there are doubles
	}
	for _, s := range b.guard.Statuses() {
		if s.Changes == 0 {
			continue
		}
		k := api.Kept{Thing: s.Thing, Changes: s.Changes, Last: s.Last, By: s.By, AgoMS: (b.now() - s.At).Milliseconds(), State: "kept"}
		if s.Left {
			k.State, k.AgainInMS = "left", (s.Until - b.now()).Milliseconds()
		}
		all = append(all, k)
	}
	return all
}
