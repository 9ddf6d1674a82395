package box

import (
	"bytes"
	"errors"
	"iter"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/state"
)

// handle takes a packet from the queue.
func (b *Box) handle(p nfq.Packet) {
	side, known := b.sides.of(p.IIF)
	if !known {
		b.core.Table.Count("unknown-interface")
		b.verdict(p.ID, Accept)
		return
	}
	b.packet(p, side, b.now()+patience)
}

// A SYN that comes while the last connection of its 5-tuple is still being
// closed is tried again every so often, and dropped when its patience is over.
const (
	again    = 5 * time.Millisecond
	patience = time.Second
)

// packet takes a packet that entered on side.
func (b *Box) packet(p nfq.Packet, side state.Side, until time.Duration) {
	d := b.core.Packet(b.now(), side, p.ID, p.Payload)
	if d.Verdict == Deliver && b.closing(d) && b.now() < until {
		p.Payload = bytes.Clone(p.Payload) // the queue wants its memory back
		time.AfterFunc(again, func() { b.packet(p, side, until) })
		return
	}
	b.recorder.Decided(p.IIF, p.Payload, d)
	switch {
	case d.Supersedes:
		b.verdict(d.Superseded, Drop)
	case d.Verdict == Hold:
		b.dial(d, side, until)
	case d.Verdict == Rewrite:
		b.check(b.queue.Replace(p.ID, d.Packet), p.ID, d.Verdict)
	default:
		b.verdict(p.ID, d.Verdict)
	}
}

// closing tells whether the live flow of a SYN to deliver is about to end: then
// the SYN is no repeat but asks for a new flow. The client's leg has closed
// already, or its ACK and its reset wait both for the relay to accept it.
func (b *Box) closing(d Decision) bool {
	f, live := b.core.Table.Lookup(d.Key)
	if !live {
		return true
	}
	if f.State == state.Released {
		return d.Other
	}
	conn, ok := f.Legs.(*relay.Conn)
	return ok && f.State == state.Relaying && conn.ClientGone()
}

// abandon closes what carries a flow that has ended early.
func (b *Box) abandon(f state.Flow) {
	if conn, ok := f.Legs.(*relay.Conn); ok {
		conn.Tag.(*tag).end() // an outcome that comes now is not that of the next flow with this key
		b.relay.Abort(conn)
		b.untrack(conn)
	}
}

// tag is what the box keeps with a connection.
type tag struct {
	key   state.Key
	side  state.Side // by which its client entered
	terms paths.Terms
	token uint32      // by which the manager tracks it, 0 if it does not
	ended atomic.Bool // its dial has its outcome, or was given up
}

// end ends the dial, unless that was done: an outcome may be on its way while the
// dial is given up.
func (t *tag) end() bool { return t.ended.CompareAndSwap(false, true) }

// dial connects onward for a flow whose SYN is held, with a SYN like it.
func (b *Box) dial(d Decision, side state.Side, until time.Duration) {
	b.connect(relay.Dial{
		Client: d.Key.Client(), Server: d.Key.Server(),
		MPTCP: side.Opposite() == state.Multipath,
		DSCP:  d.Traits.DSCP, MSS: d.Traits.MSS, HopLimit: d.Traits.HopLimit - 1,
		Tag: &tag{key: d.Key, side: side, terms: d.Terms},
	}, d.From, until)
}

// connect begins a dial from that end. The zero Source is the client, or where the
// kernel chooses if IPv4 is translated.
func (b *Box) connect(d relay.Dial, from Source, until time.Duration) {
	key := d.Tag.(*tag).key
	d.OwnSource = from != Source{} || b.cfg.OwnSource4 && d.MPTCP && d.Client.Addr().Is4()
	d.From, d.Interface = from.Addr, from.Interface
	d.Mark = uint32(markOf(d).WithDSCP(d.DSCP))
	conn, err := b.relay.Dial(d)
	switch {
	case err == nil && b.core.Table.Attach(key, conn):
		b.reconsider(conn) // its path may have fallen before it was one of those that are dialing
	case err == nil:
		b.relay.Abort(conn) // its flow has ended meanwhile
	case errors.Is(err, unix.EADDRNOTAVAIL) && b.now() < until:
		time.AfterFunc(again, func() { b.connect(d, from, until) })
	default:
		b.settle(key, err)
	}
}

// markOf tells nftables whose packets are the socket's that dials so.
func markOf(d relay.Dial) nfq.Mark {
	switch {
	case !d.MPTCP:
		return nfq.PlainSocket
	case d.OwnSource:
		return nfq.OwnSocket
	}
	return nfq.PathSocket
}

// settle gives the held SYN of a flow its verdict, now that its dial has ended.
func (b *Box) settle(key state.Key, err error) (held bool) {
	d, f, held := b.core.Connected(b.now(), key, err)
	if held {
		b.cfg.Log.Debug("dialed", "client", key.Client(), "server", key.Server(), "verdict", d.Verdict, "err", err)
		b.release(f, d)
	}
	return held
}

// release gives the SYN that was held for a flow its verdict.
func (b *Box) release(f state.Flow, d Decision) {
	b.recorder.Settled(f, d)
	b.verdict(f.Held, d.Verdict)
}

// dialing yields the flows that are being dialed, and what dials for them.
func (b *Box) dialing() iter.Seq2[state.Flow, *relay.Conn] {
	return func(yield func(state.Flow, *relay.Conn) bool) {
		for f := range b.core.Table.All() {
			if conn, ok := f.Legs.(*relay.Conn); ok && f.State == state.Dialing && !yield(f, conn) {
				return
			}
		}
	}
}

// reconsider gives up a dial over a path that is down, which would only time out,
// and decides anew about its SYN.
func (b *Box) reconsider(conn *relay.Conn) {
	t := conn.Tag.(*tag)
	if !b.core.Doomed(t.side, Source{conn.From, conn.Interface}) || !t.end() {
		return
	}
	b.relay.Abort(conn)
	d, f, held := b.core.Reconsider(b.now(), t.side, t.key)
	if !held {
		return
	}
	b.cfg.Log.Debug("dial given up", "client", t.key.Client(), "server", t.key.Server(), "verdict", d.Verdict, "reason", d.Reason)
	if d.Verdict != Hold {
		b.release(f, d)
		return
	}
	next := conn.Dial
	next.Tag = &tag{key: t.key, side: t.side, terms: t.terms}
	b.connect(next, d.From, b.now()+patience)
}

// neighbourFailed ends the dials that go by a neighbour which does not answer.
// The kernel sends the ICMP error about a packet to the address that it bears:
// to the client, not to the box's socket. A dial by another path is the box's own.
func (b *Box) neighbourFailed(n netip.Addr) {
	for f, conn := range b.dialing() {
		if conn.Interface != "" || paths.NextHop(f.Key.Server().Addr()) != n || !conn.Tag.(*tag).end() {
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
	b.check(err, id, v)
}

// check counts a verdict that could not be given.
func (b *Box) check(err error, id uint32, v Verdict) {
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
	if !c.Tag.(*tag).end() {
		return // it has been given up
	}
	if err == nil && c.MPTCP {
		b.track(c) // before others can end it
	}
	if held := b.settle(c.Tag.(*tag).key, err); err == nil && !held {
		b.relay.Abort(c) // its SYN has been given up meanwhile
		b.untrack(c)
	}
}

// Paired implements [relay.Events].
func (b *Box) Paired(c *relay.Conn) bool {
	if _, ok := b.core.Table.Move(b.now(), c.Tag.(*tag).key, state.Relaying, ""); !ok {
		return false // its time was up just now
	}
	b.recorder.Paired(c.Tag.(*tag).key)
	if !c.MPTCP {
		b.track(c)
	}
	return true
}

// Grown implements [relay.Events].
func (b *Box) Grown(c *relay.Conn) {
	if token := c.Tag.(*tag).token; token != 0 {
		b.steering.manager.Grown(token)
	}
}

// track lets the path manager open the further subflows of a connection.
func (b *Box) track(c *relay.Conn) {
	if b.steering == nil {
		return
	}
	tag := c.Tag.(*tag)
	if tag.token = c.Token(); tag.token != 0 {
		b.steering.manager.Track(tag.token, tag.terms, c)
	}
}

// untrack ends what track began. The kernel tells of the end of a connection
// only if it was an orderly one.
func (b *Box) untrack(c *relay.Conn) {
	if token := c.Tag.(*tag).token; token != 0 {
		b.steering.manager.Forget(token)
	}
}

// Closed implements [relay.Events].
func (b *Box) Closed(c *relay.Conn, err error) {
	b.bytesUp.Add(c.BytesUp())
	b.bytesDown.Add(c.BytesDown())
	b.untrack(c)
	reason := "fin"
	if err != nil {
		reason = "reset"
	}
	b.core.Table.Move(b.now(), c.Tag.(*tag).key, state.Closed, reason)
}
