package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/paths"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/state"
)

// Box is one running synbond.
type Box struct {
	cfg   Config
	core  Core
	start time.Time

	queue    *nfq.Queue
	relay    *relay.Relay
	set      *paths.Set
	manager  *paths.Manager // of a CPE
	sides    sides
	families []int // unix.AF_INET, unix.AF_INET6, as this machine has them

	bytesUp, bytesDown atomic.Uint64 // of closed flows
	stray              atomic.Uint64 // verdicts that could not be given
}

// Run brings a box up, announces it on ready with one line, and runs it until
// ctx ends or something that it cannot do without fails. Then it removes all
// that it installed.
func Run(ctx context.Context, cfg Config, ready io.Writer) (err error) {
	if err := errors.Join(privileged(), cfg.interfaces()); err != nil {
		return err
	}
	cfg.Table = cfg.Table.WithDefaults()
	b := &Box{cfg: cfg, start: time.Now()}
	short, err := b.raiseFileLimit()
	if err != nil {
		return err
	}
	b.core = Core{Table: state.NewTable(b.cfg.Table), Policy: Policy{cfg.Action}}
	var undo undo
	defer func() { err = undo.all(err) }()
	serve, err := b.listen(&undo)
	if err != nil {
		return err
	}
	if err := b.prepare(&undo); err != nil {
		return err
	}
	// The queue outlives the rules: what it still holds is dropped with it, and
	// asked for again by its sender.
	ctx, cancel := context.WithCancel(ctx)
	undo.add(func() error { cancel(); return b.queue.Close() })
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.relay.Run(ctx) })
	g.Go(func() error { return b.set.Watch(ctx) })
	g.Go(func() error { return b.expire(ctx) })
	g.Go(func() error { return paths.WatchNeighbours(ctx, b.neighbourFailed) })
	g.Go(func() error { return serve(ctx) })
	if b.manager != nil {
		g.Go(func() error { return b.manager.Run(ctx) })
	}
	if err := b.divert(ctx, &undo); err != nil {
		cancel()
		_ = g.Wait() // the cause is known
		return err
	}
	fmt.Fprintln(ready, b.announcement())
	if short {
		cfg.Log.Info("the file limit lowers the number of flows", "flows", b.cfg.Table.MaxFlows)
	}
	err = g.Wait()
	return err
}

// prepare opens everything that a box needs before the first SYN may come.
func (b *Box) prepare(undo *undo) error {
	if err := b.installSystem(undo); err != nil {
		return err
	}
	var err error
	if b.set, err = paths.NewSet(b.cfg.Paths, b.cfg.Join...); err != nil {
		return err
	}
	undo.add(b.set.ForgetClosed)
	if b.cfg.Role == CPE {
		if err := b.set.Reachable(); err != nil {
			return err
		}
		if b.manager, err = paths.NewManager(b.set, b.cfg.Log); err != nil {
			return err
		}
		undo.add(b.manager.Close)
	}
	b.sides = newSides(b.cfg)
	b.relay, err = relay.New(relay.Config{Mark: uint32(nfq.Socket), Keepalive: b.cfg.Keepalive, Events: b}, b.families...)
	if err != nil {
		return err
	}
	undo.add(b.relay.Close)
	b.queue, err = nfq.Open(nfq.QueueConfig{Number: b.cfg.Queue, MaxLength: queueLength, Log: b.cfg.Log})
	return err
}

// queueLength leaves room for every SYN that the table lets a box hold.
const queueLength = 1 << 16

// divert binds the queue and then sends it SYNs.
func (b *Box) divert(ctx context.Context, undo *undo) error {
	if err := b.queue.Start(ctx, b.handle); err != nil {
		return fmt.Errorf("%w; choose another with --queue", err)
	}
	for _, family := range b.families {
		undo.add(func() error { return nfq.RemoveRoutes(family) })
		if err := nfq.InstallRoutes(family); err != nil {
			return err
		}
	}
	if drops, err := nfq.DefaultDrops(); err == nil && len(drops) > 0 {
		b.cfg.Log.Warn("a firewall drops input by default and would take relayed packets: let it accept them",
			"chains", strings.Join(drops, ", "), "rule", fmt.Sprintf("meta mark %#x accept", uint32(nfq.Relay)))
	}
	undo.add(func() error { return nfq.Remove(string(b.cfg.Role)) })
	return b.rules().Install()
}

func (b *Box) rules() nfq.Rules { return b.cfg.Rules(b.relay.Listeners()) }

func (b *Box) now() time.Duration { return time.Since(b.start) }

// handle takes a packet from the queue.
func (b *Box) handle(p nfq.Packet) {
	side, known := b.sides.of(p.IIF)
	if !known {
		b.core.Table.Count("unknown-interface")
		b.verdict(p.ID, Accept)
		return
	}
	b.syn(p, side, b.now()+patience)
}

// A SYN that comes while the last connection of its 5-tuple is still being
// closed is tried again every so often, and dropped when its patience is over.
const (
	again    = 5 * time.Millisecond
	patience = time.Second
)

// syn takes a SYN that entered on side.
func (b *Box) syn(p nfq.Packet, side state.Side, until time.Duration) {
	d := b.core.SYN(b.now(), side, p.ID, p.Payload)
	switch {
	case d.Supersedes:
		b.verdict(d.Superseded, Drop)
	case d.Verdict == Hold:
		b.dial(d.Key, side, until)
	case d.Verdict == Deliver && b.clientGone(d.Key) && b.now() < until:
		time.AfterFunc(again, func() { b.syn(p, side, until) })
	default:
		b.verdict(p.ID, d.Verdict)
	}
}

// clientGone tells whether the client's leg of a live flow has closed already:
// then its SYN is no repeat but asks for a new flow.
func (b *Box) clientGone(key state.Key) bool {
	f, live := b.core.Table.Lookup(key)
	if !live {
		return true
	}
	conn, ok := f.Legs.(*relay.Conn)
	return ok && f.State == state.Relaying && conn.ClientGone()
}

// abandon closes what carries a flow that has ended early.
func (b *Box) abandon(f state.Flow) {
	if conn, ok := f.Legs.(*relay.Conn); ok {
		b.relay.Abort(conn)
	}
}

// dial connects onward for a flow whose SYN is held.
func (b *Box) dial(key state.Key, side state.Side, until time.Duration) {
	conn, err := b.relay.Dial(relay.Dial{
		Client: key.Client(), Server: key.Server(),
		MPTCP:     side.Opposite() == state.Multipath,
		OwnSource: b.cfg.OwnSource4 && side == state.Plain && key.Client().Addr().Is4(),
		Tag:       key,
	})
	switch {
	case err == nil:
		b.core.Table.Attach(key, conn)
	case errors.Is(err, unix.EADDRNOTAVAIL) && b.now() < until:
		time.AfterFunc(again, func() { b.dial(key, side, until) })
	default:
		b.settle(key, err)
	}
}

// settle gives the held SYN of a flow its verdict, now that its dial has ended.
func (b *Box) settle(key state.Key, err error) (held bool) {
	d, f, held := b.core.Connected(b.now(), key, err)
	if held {
		b.cfg.Log.Debug("dialed", "client", key.Client(), "server", key.Server(), "verdict", d.Verdict, "err", err)
		b.verdict(f.Held, d.Verdict)
	}
	return held
}

// neighbourFailed ends the dials that go by a neighbour which does not answer.
// The kernel sends the ICMP error about a packet to the address that it bears:
// to the client, not to the box's socket.
func (b *Box) neighbourFailed(n netip.Addr) {
	for f := range b.core.Table.All() {
		if f.State != state.Dialing || paths.NextHop(f.Key.Server().Addr()) != n {
			continue
		}
		if b.settle(f.Key, unix.EHOSTUNREACH) {
			b.abandon(f)
		}
	}
}

// verdict gives a queued packet its verdict.
func (b *Box) verdict(id uint32, v Verdict) {
	var err error
	switch mark, marked := marks[v]; {
	case marked:
		err = b.queue.Release(id, mark)
	case v == Accept:
		err = b.queue.Accept(id)
	case v == Drop:
		err = b.queue.Drop(id)
	}
	if err != nil {
		b.stray.Add(1)
		b.cfg.Log.Debug("verdict", "id", id, "verdict", v, "err", err)
	}
}

// marks by which the rules act on a verdict.
var marks = map[Verdict]nfq.Mark{
	Deliver:         nfq.Relay,
	Reset:           nfq.Refused,
	NoRoute:         nfq.NoRoute,
	HostUnreachable: nfq.HostUnreachable,
	Prohibited:      nfq.Prohibited,
}

// Connected implements [relay.Events].
func (b *Box) Connected(c *relay.Conn, err error) {
	held := b.settle(c.Tag.(state.Key), err)
	switch {
	case err != nil:
	case !held:
		b.relay.Abort(c) // its SYN has been given up meanwhile
	case c.MPTCP:
		b.track(c)
	}
}

// Paired implements [relay.Events].
func (b *Box) Paired(c *relay.Conn) bool {
	if _, ok := b.core.Table.Move(b.now(), c.Tag.(state.Key), state.Relaying, ""); !ok {
		return false // its time was up just now
	}
	if !c.MPTCP {
		b.track(c)
	}
	return true
}

// track lets the path manager open the further subflows of a connection.
func (b *Box) track(c *relay.Conn) {
	if b.manager == nil {
		return
	}
	if token := c.Token(); token != 0 {
		b.manager.Track(token)
	}
}

// Closed implements [relay.Events].
func (b *Box) Closed(c *relay.Conn, err error) {
	b.bytesUp.Add(c.BytesUp())
	b.bytesDown.Add(c.BytesDown())
	if info, ok := c.Info(); ok && b.manager != nil {
		b.manager.Forget(info.Token)
	}
	reason := "fin"
	if err != nil {
		reason = "reset"
	}
	b.core.Table.Move(b.now(), c.Tag.(state.Key), state.Closed, reason)
}

// expire ends what has waited too long, until ctx ends.
func (b *Box) expire(ctx context.Context) error {
	const every, most = 250 * time.Millisecond, 1000
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, f := range b.core.Table.Expire(b.now(), most) {
			b.abandon(f)
			if f.State == state.TimedOut {
				b.verdict(f.Held, Drop)
			}
		}
	}
}

func (b *Box) announcement() string {
	names := make([]string, len(b.cfg.Paths))
	for i, p := range b.cfg.Paths {
		names[i] = p.Name
		if p.Interface != p.Name {
			names[i] += " (" + p.Interface + ")"
		}
	}
	return fmt.Sprintf("synbond %s ready: plain %s, paths %s, control %s",
		b.cfg.Role, strings.Join(b.cfg.Plain, " "), strings.Join(names, " "), b.cfg.Control)
}
