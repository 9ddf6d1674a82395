//go:build linux

package box

import (
	"errors"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/state"
)

// This file carries out what the core decides. Every event of the kernel goes to
// [core.Core] by way of [Box.do], and the actions that come back are carried out at
// once, by the goroutine that the event came from.

// do hands an event to the core and carries its actions out.
func (b *Box) do(event func([]core.Action) []core.Action) {
	buffer := b.actions.Get().(*[]core.Action)
	acts := event((*buffer)[:0])
	b.expiring.end()
	b.carryOut(acts)
	clear(acts) // keep no packet alive
	*buffer = acts
	b.actions.Put(buffer)
}

// carryOut carries out actions in order.
func (b *Box) carryOut(acts []core.Action) {
	for i := range acts {
		switch a := &acts[i]; a.Kind {
		case core.Decide:
			if a.Decision.Asked != nil {
				b.gateway.answer(a.Flow, &a.Decision)
				continue
			}
			b.decide(&a.Decision)
		case core.Connect:
			b.connect(a)
		case core.Resolve:
			b.gateway.resolve(a.Flow, a.Name)
		case core.Abort:
			b.abort(a.Flow)
		case core.Track:
			b.track(a)
		case core.Untrack:
			b.untrack(a.Flow)
		case core.Ask:
			b.ask(a)
		case core.Expired:
			b.cfg.Log.Debug("expired", "client", a.Key.Client(), "server", a.Key.Server())
		case core.Tell:
			b.tell(a.Notice)
		case core.Wake:
			time.AfterFunc(a.At-b.now(), b.tick)
		}
	}
}

// handle takes a packet from the queue.
func (b *Box) handle(p nfq.Packet) {
	b.do(func(acts []core.Action) []core.Action {
		side, known := b.sides.of(p.IIF)
		if !known {
			return b.core.Unknown(acts, core.Packet{ID: p.ID})
		}
		arrived(p.Payload)
		return b.core.Packet(acts, b.now(), core.Packet{
			ID: p.ID, Side: side, Interface: p.IIF, Out: p.OIF, Path: b.sides.path(p.OIF), Mark: p.Mark, Data: p.Payload,
		})
	})
}

// tick tells the core that time has passed.
func (b *Box) tick() {
	b.do(func(acts []core.Action) []core.Action { return b.core.Tick(acts, b.now()) })
}

// decide records a decision, and then gives the packet its verdict.
func (b *Box) decide(d *core.Decision) {
	switch {
	case d.Settles:
		b.recorder.Settled(d)
		b.cfg.Log.Debug("settled", "client", d.Key.Client(), "server", d.Key.Server(), "verdict", d.Verdict, "reason", d.Reason)
	case d.Packet.Data != nil:
		b.recorder.Decided(d)
	}
	if d.Reuses {
		b.endClosed(d.Key)
	}
	if err := b.verdict(d); err != nil {
		b.stray.Add(1)
		b.cfg.Log.Debug("verdict", "id", d.Packet.ID, "verdict", d.Verdict, "err", err)
	}
}

// endClosed ends the sockets that the kernel keeps of a relayed flow whose ports are used
// again by a connection that passes: they would take its packets.
func (b *Box) endClosed(k state.Key) {
	err := errors.Join(b.halfOpen.EndClosed(k.Server(), k.Client()), b.halfOpen.EndClosed(k.Client(), k.Server()))
	if err != nil {
		b.cfg.Log.Debug("sockets of a closed connection", "err", err) // doctor says so if the kernel cannot
	}
}

// verdict gives a queued packet its verdict. A packet that is held gets it later.
func (b *Box) verdict(d *core.Decision) error {
	switch d.Verdict {
	case core.Hold:
		return nil
	case core.Accept:
		return b.queue.Accept(d.Packet.ID)
	case core.Drop:
		return b.queue.Drop(d.Packet.ID)
	case core.Rewrite:
		return b.queue.Replace(d.Packet.ID, forwarded(d.Edited))
	case core.Deliver:
		return b.queue.Release(d.Packet.ID, deliveries[d.Packet.Side])
	}
	return b.queue.Release(d.Packet.ID, marks[d.Verdict])
}

// marks by which the rules act on a verdict.
var marks = map[core.Verdict]nfq.Mark{
	core.Reset:           nfq.Refused,
	core.NoRoute:         nfq.NoRoute,
	core.HostUnreachable: nfq.HostUnreachable,
	core.Prohibited:      nfq.Prohibited,
}

// deliveries are the marks that deliver a SYN to the listener of its side.
var deliveries = map[state.Side]nfq.Mark{state.Plain: nfq.ToPlain, state.Multipath: nfq.ToPaths}

// connect dials onward for a flow.
func (b *Box) connect(a *core.Action) {
	var c connection
	d, err := b.dialFor(a)
	if err == nil {
		c, err = b.relay.Dial(d)
	}
	if err != nil {
		if core.RefusedHere(err) {
			b.refused.Store(int64(max(b.now(), 1)))
		}
		b.dialEnded(a.Flow, nil, err)
		return
	}
	b.conns.put(a.Flow, c)
	if !b.core.Live(a.Flow) { // it has ended meanwhile
		b.abort(a.Flow)
	}
}

// dialFor returns the dial for a flow: with a SYN like the one that is held, or from this
// machine's own address for a client that has asked.
func (b *Box) dialFor(a *core.Action) (relay.Dial, error) {
	switch {
	case a.Dial.Asked:
		return relay.Dial{ID: relay.ID(a.Flow), Client: a.Dial.Client, Server: a.Dial.Server, OwnSource: true, Explicit: true}, nil
	case a.Dial.Via.IsValid():
		return b.dialThrough(a)
	}
	d := relay.Dial{
		ID: relay.ID(a.Flow), Client: a.Dial.Client, Server: a.Dial.Server, MPTCP: a.Dial.Multipath,
		Plain: a.Dial.Plain, OtherPort: a.Dial.OtherPort, From: a.Dial.From.Addr, Interface: a.Dial.From.Interface,
		DSCP: a.Dial.Traits.DSCP, MSS: a.Dial.Traits.MSS, HopLimit: a.Dial.Traits.HopLimit - 1,
	}
	d.OwnSource = d.From.IsValid() || b.dialsAsItself(d, a.Dial.Out)
	d.Mark = uint32(markOf(d).WithDSCP(d.DSCP).Beside(a.Dial.Mark))
	if a.Dial.Out != 0 && (b.routedByInput(a.Dial.In) || b.routedByMark(a.Dial.Mark, d.Mark)) {
		d.Interface = interfaceName(a.Dial.Out)
	}
	return d, nil
}

// abort ends the connection of a flow that has not been paired.
func (b *Box) abort(id state.ID) {
	if c, ok := b.conns.end(id); ok {
		b.relay.Abort(c)
	}
}

// markOf returns the mark by which nftables knows the packets of the socket that
// dials so.
func markOf(d relay.Dial) nfq.Mark {
	switch {
	case d.OwnSource: // it is tracked, so that translation applies
		return nfq.OwnSocket
	case !d.MPTCP:
		return nfq.PlainSocket
	}
	return nfq.PathSocket
}

// track lets the path manager open the further subflows of a connection.
func (b *Box) track(a *core.Action) {
	c, known := b.conns.get(a.Flow)
	if b.steering == nil || !known {
		return
	}
	token := c.Token()
	if token == 0 {
		return
	}
	b.conns.track(a.Flow, token, uint8(a.Subflows.Paths), b.steering.monitor.HAG().Instance)
	b.subflows.Track(token, paths.SubflowPolicy{Paths: uint8(a.Subflows.Paths), After: a.Subflows.After}, metered{c})
	if !b.core.Live(a.Flow) {
		b.untrack(a.Flow)
	}
}

// metered is a connection that a path manager can measure and keep alive.
type metered struct{ connection }

var _ interface {
	paths.Metered
	paths.Keeper
} = metered{}

// Progress implements [paths.Metered].
func (m metered) Progress() (out paths.Progress, ok bool) {
	info, ok := m.Info()
	if !ok || !info.MPTCP {
		return out, false
	}
	out = paths.Progress{InOrder: info.InOrder, Buffered: info.Buffered}
	left := info.UnderWay
	for _, s := range info.Subflows {
		left -= min(left, s.UnderWay)
		out.Subflows = append(out.Subflows, paths.SubflowProgress{
			Local: s.Local, MinRTT: s.MinRTT, Delivered: [2]uint64{s.Acknowledged, s.BytesReceived},
		})
	}
	out.Waiting = left
	return out, true
}

// untrack ends what track began. The kernel tells of the end of a connection
// only if it was an orderly one.
func (b *Box) untrack(id state.ID) {
	if token := b.conns.token(id); token != 0 {
		b.subflows.Forget(token)
	}
}

// ask finds out whether the client's half-open connection is still there.
func (b *Box) ask(a *core.Action) {
	there, err := b.halfOpen.Connected(a.Key.Server(), a.Key.Client())
	if err != nil {
		b.cfg.Log.Warn("half-open connections", "err", err) // they end by their time, too
		return
	}
	if !there {
		b.do(func(acts []core.Action) []core.Action { return b.core.ClientReset(acts, b.now(), a.Flow) })
	}
}

// dialEnded tells the core the outcome of a dial. The connection is nil if there is none.
func (b *Box) dialEnded(id state.ID, c connection, err error) {
	if err == nil {
		b.conns.put(id, c) // the event may be faster than the dial returns
	}
	end := core.Dialed{Err: err, MPTCP: err == nil && c.Token() != 0, Here: err != nil && c == nil}
	if err != nil && b.upstreams != nil {
		end.Stage, end.StepByStep = stageOf(err)
	}
	b.do(func(acts []core.Action) []core.Action { return b.core.DialEnded(acts, b.now(), id, end) })
	if err != nil && c != nil {
		b.conns.forget(id, c) // after the core knows: connect may still enter it, and then asks the core
	}
}

// neighbourFailed tells the core of the dials that go by a neighbour which does not
// answer. A dial over another path than the first is bound to its interface, and the
// kernel tells the box's own socket.
func (b *Box) neighbourFailed(via func(core.Dial) bool) {
	var failed []state.ID
	for _, p := range b.core.Pending() {
		if p.Dial.From.Path == 0 && via(p.Dial) {
			failed = append(failed, p.Flow)
		}
	}
	b.do(func(acts []core.Action) []core.Action { return b.core.NeighbourFailed(acts, b.now(), failed...) })
}

// relayEvents passes on what the relay reports.
type relayEvents struct{ *Box }

// Reached implements [relay.Events].
func (b relayEvents) Reached(c *relay.Conn) { b.Box.reached(state.ID(c.ID)) }

// Connected implements [relay.Events].
func (b relayEvents) Connected(c *relay.Conn, err error) { b.dialEnded(state.ID(c.ID), c, err) }

// Paired implements [relay.Events].
func (b relayEvents) Paired(c *relay.Conn) bool { return b.paired(state.ID(c.ID), c.Dial) }

// Carried implements [relay.Events].
func (b relayEvents) Carried(c *relay.Conn) { b.grown(state.ID(c.ID)) }

// Closed implements [relay.Events].
func (b relayEvents) Closed(c *relay.Conn, err error) { b.closed(state.ID(c.ID), err) }

// paired tells the core that a client has completed its handshake, and reports
// whether the flow is still wanted.
func (b *Box) paired(id state.ID, d relay.Dial) (wanted bool) {
	b.do(func(acts []core.Action) []core.Action {
		acts, wanted = b.core.Paired(acts, b.now(), id)
		if wanted && !d.Explicit {
			b.recorder.Paired(state.KeyOf(d.Client, d.Server))
		}
		return acts
	})
	return wanted
}

// grown tells the path manager that a connection is worth further subflows.
func (b *Box) grown(id state.ID) {
	if token := b.conns.token(id); token != 0 {
		b.subflows.SetLarge(token)
	}
}

// closed tells the core that both legs of a flow are gone.
func (b *Box) closed(id state.ID, err error) {
	f, _ := b.core.ByID(id)
	b.do(func(acts []core.Action) []core.Action { return b.core.Closed(acts, b.now(), id, reasonOf(err)) })
	if c, ok := b.conns.end(id); ok {
		b.bytesUp.Add(c.BytesUp())
		b.bytesDown.Add(c.BytesDown())
		b.countFallback(id, c)
		if f.Asked != nil {
			b.gateway.closed(f.Asked.User, c)
		}
	}
}

// clientGone reports whether the client's connection of a flow has ended in the
// kernel: the client may use its port again before the box hears of it.
func (b *Box) clientGone(f state.Flow) bool {
	if f.State == state.Released {
		there, err := b.halfOpen.Connected(f.Key.Server(), f.Key.Client())
		return err == nil && !there
	}
	c, ok := b.conns.get(f.ID)
	return ok && c.ClientGone()
}
