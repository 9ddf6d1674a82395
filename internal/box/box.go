//go:build linux

package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/guard"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/probe"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
)

// Box is one running synbond.
type Box struct {
	cfg     Config
	core    *core.Core
	start   time.Time
	actions sync.Pool // *[]core.Action
	conns   *conns

	// What the box acts on: the kernel's, or doubles.
	queue    queue
	relay    dialer
	subflows subflows // of a CPE
	halfOpen halfOpen

	kernel      kernel
	installed   installed
	guard       *guard.Guard
	journal     *host.Journal
	pathManager *mptcp.PM
	machine     *host.Machine
	set         *paths.Set
	steering    *steering        // of a CPE
	responder   *probe.Responder // of a HAG
	hub         *encapHub        // of a HAG that can encapsulate
	gateway     *gateway         // of a gateway, and of a HAG that is one, too
	upstreams   *upstreams       // of a LAN gateway
	sides       *sides
	recorder    Recorder
	findings    *host.Findings
	survey      host.Survey
	acting      sync.Mutex      // while findings change, and the treatment of new connections with them
	recheck     chan struct{}   // has room for one: the machine has changed
	broken      map[string]bool // checks that have panicked
	transport   api.Transport
	expiring    *rest           // of expire
	window      *mptcp.Window   // nil if the kernel takes none
	segments    *mptcp.Segments // nil if the kernel takes none, or needs none
	families    []int           // unix.AF_INET, unix.AF_INET6, as this machine has them
	// plainBuffer is the initial receive buffer, in bytes, that the machine has without the box.
	plainBuffer int

	bytesUp, bytesDown atomic.Uint64 // of closed flows
	stray              atomic.Uint64 // verdicts that could not be given
	refused            atomic.Int64  // when this machine has last refused a dial, 0 for never
	fallbacks          atomic.Int32  // in a row, of flows of a CPE: see countFallback
}

// kernel has the kernel's side of a live box, beyond the seams.
type kernel struct {
	queue *nfq.Queue
	relay *relay.Relay
	diag  *host.Diag
}

// newBox returns a box without anything of the kernel's.
func newBox(cfg Config) *Box {
	b := &Box{
		cfg: cfg, start: time.Now(), recorder: idle{}, expiring: newRest(), conns: newConns(cfg.Table.MaxEnded),
		findings: host.NewFindings(cfg.Log), recheck: make(chan struct{}, 1), broken: make(map[string]bool),
	}
	b.actions.New = func() any { return new([]core.Action) }
	b.core = core.New(core.Config{Table: cfg.Table, Learnt: cfg.Learnt, Policy: cfg.Policy, Gone: b.clientGone, Own: b.isOwn, Spent: b.isSpent})
	return b
}

// Run brings a box up, announces it on ready with one line, and runs it until
// ctx ends or something that it cannot do without fails. Then it removes all
// that it installed.
func Run(ctx context.Context, cfg Config, ready io.Writer) (err error) {
	if cfg.Role != Gateway {
		cfg.resolve()
		if err := errors.Join(host.CheckPrivileges(), cfg.interfaces()); err != nil {
			return err
		}
	}
	cfg.Table = cfg.Table.WithDefaults()
	short, err := cfg.raiseFileLimit()
	if err != nil {
		return err
	}
	b := newBox(cfg)
	prepare, begin, announcement := b.prepare, b.begin, b.announcement
	if cfg.Role == Gateway {
		prepare, begin, announcement = b.prepareGateway, b.beginGateway, b.gatewayAnnouncement
	}
	var undo undo
	defer func() { err = undo.all(err) }()
	serve, err := b.listen(&undo)
	if err != nil {
		return err
	}
	if err := prepare(&undo); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(ctx) })
	if err := begin(ctx, g, &undo); err != nil {
		cancel()
		_ = g.Wait() // the cause is known
		return err
	}
	fmt.Fprintln(ready, announcement())
	if short {
		cfg.Log.Info("the file limit lowers the number of flows", "flows", b.cfg.Table.MaxFlows)
	}
	return g.Wait()
}

// begin starts the lasting tasks of a box, each in a goroutine of g, and has the kernel divert
// SYNs to it.
func (b *Box) begin(ctx context.Context, g *errgroup.Group, undo *undo) error {
	// The queue outlives the rules: what it still holds is dropped with it, and
	// asked for again by its sender.
	undo.add(b.kernel.queue.Close)
	b.work(ctx, g)
	if err := b.divert(ctx, undo); err != nil {
		return err
	}
	b.keep(ctx, g)
	g.Go(func() error { return b.keepChecking(ctx) })
	if b.cfg.bondsNothing() {
		b.cfg.Log.Warn("connections use the first path only: name the HAG's join address with join= in the other --path")
	}
	return nil
}

// work starts the lasting tasks of a box, each in a goroutine of g.
func (b *Box) work(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error { return b.kernel.relay.Run(ctx) })
	g.Go(func() error { return b.machine.Watch(ctx, b.cfg.Role == CPE) })
	g.Go(func() error { return b.expire(ctx) })
	g.Go(func() error { return b.watchStranded(ctx) })
	g.Go(func() error { return b.recorder.Run(ctx) })
	g.Go(func() error { return b.adopt(ctx) })
	g.Go(func() error {
		return host.WatchNeighbours(ctx, func(n netip.Addr) {
			b.neighbourFailed(func(d core.Dial) bool { return host.NextHop(d.Server.Addr()) == n })
		})
	})
	if s := b.steering; s != nil {
		g.Go(func() error { return s.kernel.manager.Run(ctx) })
		g.Go(func() error { return s.kernel.monitor.Run(ctx, s.news) })
		g.Go(func() error { return b.steer(ctx) })
	}
	if b.upstreams != nil {
		g.Go(func() error { return b.upstreams.run(ctx) })
	}
	if b.responder != nil {
		g.Go(func() error { return b.responder.Run(ctx) })
	}
	b.serve(ctx, g)
}

// prepare opens everything that a box needs before the first SYN may come.
func (b *Box) prepare(undo *undo) error {
	if err := b.installSystem(undo); err != nil {
		return err
	}
	var err error
	if b.machine, err = host.OpenMachine(); err != nil {
		return err
	}
	undo.add(b.machine.Close)
	undo.add(b.machine.ForgetClosed)
	if err := b.machine.ForgetClosed(); err != nil { // of a box that has crashed
		b.cfg.Log.Warn("sockets of closed connections", "err", err)
	}
	b.set = paths.NewSet(b.machine, b.cfg.Paths, b.cfg.Join...)
	if err := b.openUpstreams(undo); err != nil {
		return err
	}
	if err := b.meet(undo); err != nil {
		return err
	}
	b.widen(undo)
	b.limitSegments(undo)
	if b.transport, err = b.cfg.transport(); err != nil {
		return err
	}
	b.sides = newSides(b.cfg)
	if err := b.record(undo); err != nil {
		return err
	}
	if err := b.openKernel(undo); err != nil {
		return err
	}
	b.guard = b.newGuard()
	if b.upstreams != nil {
		return host.HideMemory()
	}
	return nil
}

// openKernel opens the queue and the sockets.
func (b *Box) openKernel(undo *undo) (err error) {
	cfg := relay.Config{
		PlainMark: uint32(nfq.PlainSocket), PathMark: uint32(nfq.PathSocket), PlainReceiveBuffer: b.plainBuffer,
		SinglePath: b.cfg.Role == CPE && len(b.cfg.Paths) == 1,
		Keepalive:  b.cfg.Keepalive, CongestionControl: b.cfg.CongestionControl, Events: relayEvents{b},
	}
	if b.segments != nil {
		cfg.LimitSegments = b.segments.Limit
	}
	if cfg.Explicit, err = b.openGateway(undo); err != nil {
		return err
	}
	if b.kernel.relay, err = relay.New(cfg, b.families...); err != nil {
		return err
	}
	undo.add(b.kernel.relay.Close)
	if b.kernel.diag, err = host.OpenDiag(); err != nil {
		return err
	}
	undo.add(b.kernel.diag.Close)
	if err := b.openQueue(); err != nil {
		return err
	}
	b.queue, b.relay, b.halfOpen = b.kernel.queue, kernelRelay{b.kernel.relay}, &sharedDiag{Diag: b.kernel.diag}
	return nil
}

// openQueue opens the queue, and finds out who is to loop released SYNs.
func (b *Box) openQueue() (err error) {
	b.installed.reinjects = !nfq.Loops(b.families...)
	if b.installed.reinjects {
		b.cfg.Log.Info("the kernel lacks dup in nftables: the box loops SYNs itself")
		if err := b.journal.SetSysctl(looseLoopback); err != nil {
			return err
		}
	}
	b.kernel.queue, err = nfq.Open(nfq.QueueConfig{
		Number: b.cfg.Queue, MaxLength: queueLength, Reinject: b.installed.reinjects, Log: b.cfg.Log,
	})
	return err
}

// meet opens the probes between the boxes, and on a CPE all that follows from them.
func (b *Box) meet(undo *undo) (err error) {
	if b.cfg.Role == CPE {
		return b.newSteering(undo)
	}
	if b.responder, err = probe.NewResponder(b.cfg.Join, b.cfg.Probe.Secret, b.endSubflows, b.cfg.Log); err != nil {
		return err
	}
	undo.add(b.responder.Close)
	b.newHub(undo)
	return nil
}

// endSubflows ends subflows of paths that CPEs report down, see [mptcp.EndSubflows]. The cause
// may be on this machine.
func (b *Box) endSubflows(match paths.SubflowMatch) (int, error) {
	b.machineChanged()
	return mptcp.EndSubflows(match)
}

// queueLength leaves room for every SYN that the table lets a box hold.
const queueLength = 1 << 16

// bindQueue begins to take packets from the queue.
func (b *Box) bindQueue(ctx context.Context) error {
	if err := b.kernel.queue.Start(ctx, b.handle); err != nil {
		return fmt.Errorf("%w; choose another with --queue", err)
	}
	return nil
}

func (b *Box) now() time.Duration { return time.Since(b.start) }

// adopt puts changed settings in force, until ctx ends.
func (b *Box) adopt(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.cfg.Reread:
			b.gateway.reload()
		case c := <-b.cfg.Changes:
			learnt := b.core.Learns()
			b.change(c)
			b.kernel.relay.SetKeepalive(c.Keepalive)
			if b.core.Learns() == learnt {
				continue
			}
			// The rules say which packets come; the policy must be there first.
			if err := b.guard.Vitally(b.installRules); err != nil {
				b.cfg.Log.Error("the rules stay as they are", "err", err)
			}
		}
	}
}

// change puts settings in force that concern the box alone.
func (b *Box) change(c Change) {
	table := Config{Role: b.cfg.Role, Table: c.Table.WithDefaults()}
	switch short, err := table.raiseFileLimit(); {
	case err != nil:
		b.cfg.Log.Warn("the file limit stays as it is", "err", err)
	case short:
		b.cfg.Log.Info("the file limit lowers the number of flows", "flows", table.Table.MaxFlows)
	}
	b.core.SetPolicy(c.Policy)
	if b.gateway != nil {
		b.gateway.allow(c.Allowances)
	}
	b.core.Configure(table.Table, c.Learnt)
	b.conns.setMost(table.Table.MaxEnded)
}

func (b *Box) announcement() string {
	names := make([]string, len(b.cfg.Paths))
	for i, p := range b.cfg.Paths {
		names[i] = p.Name
		if p.Interface != p.Name {
			names[i] += " (" + p.Interface + ")"
		}
	}
	more := ""
	for i, s := range b.cfg.Upstream.Servers {
		more += []string{", through ", " or "}[min(i, 1)] + s.String()
	}
	if b.gateway != nil {
		more += ", " + b.cfg.Gateway.announcement()
	}
	return fmt.Sprintf("synbond %s ready: plain %s, paths %s%s, control %s",
		b.cfg.Role, strings.Join(b.cfg.Plain, " "), strings.Join(names, " "), more, b.cfg.Control)
}
