package sim

import (
	"cmp"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// decider is what a box needs of a core. Tests break a core by way of it.
type decider interface {
	Packet(acts []core.Action, now time.Duration, p core.Packet) []core.Action
	DialEnded(acts []core.Action, now time.Duration, id state.ID, end core.Dialed) []core.Action
	Paired(acts []core.Action, now time.Duration, id state.ID) ([]core.Action, bool)
	Closed(acts []core.Action, now time.Duration, id state.ID, why state.Reason) []core.Action
	ClientReset(acts []core.Action, now time.Duration, id state.ID) []core.Action
	NeighbourFailed(acts []core.Action, now time.Duration, dials ...state.ID) []core.Action
	SetPolicy(p *core.Policy)
	SetDialPolicy(acts []core.Action, now time.Duration, p core.DialPolicy) []core.Action
	Tick(acts []core.Action, now time.Duration) []core.Action
}

// box is a machine that forwards packets and, while its process runs, is a box.
type box struct {
	w         *world
	name      string
	cfg       core.Config
	stack     *stack
	forward   func(side state.Side, p packet) // sends a packet on that entered on side
	queueSize int
	actions   []state.Action // that its policy may choose

	process *process // nil while it is dead
	policy  core.DialPolicy
}

// process is one run of the box's process. Everything of it is void when it has died.
type process struct {
	*box
	core decider
	real *core.Core // the same, as it is looked at

	next    uint32
	held    map[uint32]heldPacket
	flows   map[state.ID]*flow
	waiting map[tuple]*flow // dials, by the client's connection with the listener
	tracked map[state.ID]bool
}

// heldPacket is a packet in the queue.
type heldPacket struct {
	packet
	side  state.Side
	since time.Duration
}

// flow is what the relay has of a flow.
type flow struct {
	id              state.ID
	attempt         int
	onward, client  *conn
	upDone, downEnd bool
	over            bool // the core is about to hear of it
}

// start begins a run of the process.
func (b *box) start() {
	p := &process{
		box: b, held: make(map[uint32]heldPacket), flows: make(map[state.ID]*flow),
		waiting: make(map[tuple]*flow), tracked: make(map[state.ID]bool),
	}
	cfg := b.cfg
	cfg.Gone = p.clientGone
	p.real = core.New(cfg)
	p.core = b.w.broken(p.real)
	b.process = p
	b.w.tell("%s starts", b.name)
	p.do(p.core.SetDialPolicy(nil, b.w.now, b.policy))
	p.ticking()
}

// kill ends the process at once: the kernel drops what its queue holds, forgets what
// waits for its listener, and closes its connections (the kernel sends FIN for them).
func (b *box) kill() {
	b.w.tell("%s dies", b.name)
	b.process, b.w.blind = nil, b.w.now
	for _, c := range b.stack.all() {
		c.connected, c.fin, c.reset = nil, nil, nil
		switch c.phase {
		case synSent, synReceived:
			c.drop()
		default:
			c.fin = c.close
			c.close()
			if c.finGot {
				c.finished()
			}
		}
	}
}

// alive reports whether this run goes on.
func (p *process) alive() bool { return p.box.process == p }

// ticking tells the core of time until the process dies.
func (p *process) ticking() {
	var tick func()
	tick = func() {
		if p.alive() {
			p.tick()
			p.w.after(core.ExpireEvery, tick)
		}
	}
	p.w.after(core.ExpireEvery, tick)
}

// soon hands an event of the kernel to the process: most come at once, some are
// overtaken by others, as they come from several goroutines, a few by far.
func (p *process) soon(event func()) {
	if !p.w.faults || p.w.rnd.IntN(3) > 0 {
		event()
		return
	}
	late := oneOf(p.w, 50*time.Millisecond, 50*time.Millisecond, 3*time.Second)
	p.w.after(p.w.between(0, late), func() {
		if p.alive() {
			event()
		}
	})
}

func (p *process) tick() { p.do(p.core.Tick(nil, p.w.now)) }

// enter takes a packet that comes into the machine on a side.
func (b *box) enter(side state.Side, p packet) {
	_, known := b.stack.conns[tuple{p.dst, p.src}]
	diverted := p.is(rewrite.SYN) || p.is(synACK) && b.process != nil && b.process.real.Learns() && !known
	switch {
	case b.process != nil && diverted && len(b.process.held) < b.queueSize:
		b.process.queue(side, p)
	case !diverted && known, p.dst.Addr() == b.own():
		b.stack.receive(p)
	default:
		if b.process != nil && diverted {
			b.w.blind = b.w.now
			b.w.tell("%s: the queue is full", b.name)
		}
		b.forward(side, p)
	}
}

// own is the address of the box's own on the second path.
func (b *box) own() netip.Addr { return b.policy.Sources[0].Addr }

// queue holds a packet until the core has decided.
func (p *process) queue(side state.Side, in packet) {
	p.next++
	p.held[p.next] = heldPacket{in, side, p.w.now}
	p.w.tell("%s: %v is queued as %d", p.name, &in, p.next)
	data := append([]byte(nil), in.data...)
	acts := p.core.Packet(nil, p.w.now, core.Packet{ID: p.next, Side: side, Data: data})
	p.do(acts)
	clear(data) // the queue wants its memory back
}

// do carries actions out.
func (p *process) do(acts []core.Action) {
	for _, a := range acts {
		if !p.alive() {
			return
		}
		switch a.Kind {
		case core.Decide:
			p.verdict(a.Decision)
		case core.Connect:
			p.connect(a)
		case core.Abort:
			p.abort(a.Flow)
		case core.Track:
			p.tracked[a.Flow] = true
		case core.Untrack:
			delete(p.tracked, a.Flow)
		case core.Ask:
			if !p.halfOpen(a.Key) {
				p.soon(func() { p.do(p.core.ClientReset(nil, p.w.now, a.Flow)) })
			}
		case core.Tell:
			p.w.tell("%s: %+v", p.name, *a.Notice)
		case core.Wake:
			p.w.after(a.At-p.w.now, func() {
				if p.alive() {
					p.tick()
				}
			})
		}
	}
}

// halfOpen reports whether the client's connection with the listener is there.
func (p *process) halfOpen(k state.Key) bool {
	return p.stack.conns[tuple{k.Server(), k.Client()}] != nil
}

// verdict gives a packet its verdict.
func (p *process) verdict(d core.Decision) {
	if d.Supersedes {
		p.w.merge(p, d)
	}
	if d.Verdict == core.Hold {
		return
	}
	in, held := p.held[d.Packet.ID]
	p.w.tell("%s: packet %d: %v %s", p.name, d.Packet.ID, d.Verdict, d.Why())
	if !held {
		p.w.violated("%s: packet %d is not held, and gets the verdict %v", p.name, d.Packet.ID, d.Verdict)
		return
	}
	delete(p.held, d.Packet.ID)
	p.w.checkHeld(p, in)
	if d.Reuses {
		p.endHalfOpen(d.Key)
	}
	refused := packet{src: in.dst, dst: in.src, flags: rewrite.RST | rewrite.ACK, ack: in.seq, attempt: in.attempt}
	switch d.Verdict {
	case core.Accept:
		p.forward(in.side, in.packet)
	case core.Rewrite:
		in.data = d.Edited
		p.forward(in.side, in.packet)
	case core.Deliver:
		if d.Settles && in.side == state.Plain {
			f, _ := p.real.Flow(d.Key)
			p.w.checkTracked(p, f.ID)
		}
		p.deliver(in.packet)
	case core.Reset:
		p.forward(in.side.Opposite(), refused)
	case core.NoRoute, core.HostUnreachable, core.Prohibited:
		refused.unreachable, refused.flags = true, 0
		p.forward(in.side.Opposite(), refused)
	}
}

// endHalfOpen ends the kernel's half-open connection with the client of a flow.
func (p *process) endHalfOpen(k state.Key) {
	if c := p.stack.conns[tuple{k.Server(), k.Client()}]; c != nil && c.phase == synReceived {
		c.drop()
	}
}

// deliver hands a SYN to the kernel's listener.
func (p *process) deliver(in packet) {
	if p.stack.conns[tuple{in.dst, in.src}] != nil {
		p.stack.receive(in)
		return
	}
	c := p.stack.accept(in, in.capable())
	c.connected = func(error) { p.soon(func() { p.accepted(c) }) }
}

// accepted pairs a client with the onward leg that waits for it.
func (p *process) accepted(c *conn) {
	if !p.alive() {
		return
	}
	f := p.waiting[c.tuple]
	if f == nil || f.onward.phase == synSent {
		c.abort() // the onward leg has gone meanwhile, or is that of a later flow
		return
	}
	delete(p.waiting, c.tuple)
	f.client = c
	p.soon(func() { p.paired(f) })
}

// paired tells the core that a flow has both legs, and begins to relay if the core
// wants it.
func (p *process) paired(f *flow) {
	acts, wanted := p.core.Paired(nil, p.w.now, f.id)
	p.do(acts)
	if !wanted {
		p.w.tell("%s: flow %x is not wanted any more", p.name, f.id)
		p.closed(f, true)
		return
	}
	p.w.tell("%s: flow %x is paired", p.name, f.id)
	p.w.checkTracked(p, f.id)
	p.relay(f, f.client, f.onward, &f.upDone)
	p.relay(f, f.onward, f.client, &f.downEnd)
}

// relay passes on how one direction of a flow ends.
func (p *process) relay(f *flow, from, to *conn, done *bool) {
	end := func() {
		*done = true
		to.close()
		if f.upDone && f.downEnd && p.alive() {
			p.closed(f, false)
		}
	}
	from.fin = end
	from.reset = func() {
		if p.alive() {
			p.closed(f, true)
		}
	}
	switch {
	case f.over:
	case from.phase == closed: // before it was paired
		p.closed(f, true)
	case from.finGot:
		end()
	}
}

// closed ends a flow that has been paired.
func (p *process) closed(f *flow, reset bool) {
	if p.flows[f.id] != f || f.over {
		return
	}
	why := state.FIN
	if reset {
		why = state.Reset
	}
	f.over = true
	for _, c := range []*conn{f.onward, f.client} {
		c.reset = nil
		if reset {
			c.abort()
		}
	}
	p.soon(func() {
		delete(p.flows, f.id)
		p.do(p.core.Closed(nil, p.w.now, f.id, why))
	})
}

// connect begins a dial.
func (p *process) connect(a core.Action) {
	d := a.Dial
	local, path := d.Client, -1
	if d.From.Addr.IsValid() {
		path = int(d.From.Path)
		local = netip.AddrPortFrom(d.From.Addr, uint16(1024+p.w.rnd.IntN(60000)))
	}
	if d.OtherPort {
		local = netip.AddrPortFrom(local.Addr(), uint16(1024+p.w.rnd.IntN(40000)))
	}
	at := tuple{local, d.Server}
	if p.w.faults && p.w.rnd.IntN(50) == 0 {
		err := oneOf[error](p.w, syscall.EMFILE, syscall.ENOBUFS, syscall.EADDRINUSE, syscall.ENETUNREACH)
		if err == syscall.ENETUNREACH {
			p.w.said[p.attemptOf(d.Client, d.Server)] |= unreachable // by this machine
		}
		p.w.tell("%s: dial %x: %v", p.name, a.Flow, err)
		p.do(p.core.DialEnded(nil, p.w.now, a.Flow, core.Dialed{Err: err}))
		return
	}
	if p.stack.conns[at] != nil {
		p.w.tell("%s: dial %x: the address is busy", p.name, a.Flow)
		p.do(p.core.DialEnded(nil, p.w.now, a.Flow, core.Dialed{Err: syscall.EADDRNOTAVAIL}))
		return
	}
	f := &flow{id: a.Flow, attempt: p.attemptOf(d.Client, d.Server)}
	client := tuple{d.Server, d.Client}
	if old := p.waiting[client]; old != nil {
		p.discard(old)
	}
	p.flows[f.id], p.waiting[client] = f, f
	c := &conn{tuple: at, capable: d.Multipath && !d.Plain, path: path, attempt: f.attempt}
	c.connected = func(err error) { p.soon(func() { p.dialed(f, client, err) }) }
	p.w.tell("%s: dial %x from %v", p.name, a.Flow, local)
	f.onward = p.stack.dial(c)
}

// attemptOf returns the attempt whose SYN is held for a flow: the newest one.
func (p *process) attemptOf(client, server netip.AddrPort) int {
	newest := uint32(0)
	for id, h := range p.held {
		if h.src == client && h.dst == server && h.is(rewrite.SYN) {
			newest = max(newest, id)
		}
	}
	return p.held[newest].attempt
}

// dialed takes the outcome of a dial.
func (p *process) dialed(f *flow, client tuple, err error) {
	if !p.alive() {
		return
	}
	if err != nil {
		delete(p.flows, f.id)
		if p.waiting[client] == f {
			delete(p.waiting, client)
		}
	}
	p.w.tell("%s: dial %x ends: %v", p.name, f.id, cmp.Or(err, errors.New("connected")))
	p.do(p.core.DialEnded(nil, p.w.now, f.id, core.Dialed{Err: err, MPTCP: f.onward.mptcp}))
}

// abort ends the dial of a flow, or its onward leg, unless it has been paired.
func (p *process) abort(id state.ID) {
	if f := p.flows[id]; f != nil && f.client == nil {
		p.discard(f)
	}
}

func (p *process) discard(f *flow) {
	p.w.tell("%s: flow %x is aborted", p.name, f.id)
	delete(p.flows, f.id)
	for at, other := range p.waiting {
		if other == f {
			delete(p.waiting, at)
		}
	}
	f.onward.connected = nil
	f.onward.abort()
}

// clientGone reports whether the client's connection of a flow has ended in the kernel.
func (p *process) clientGone(f state.Flow) bool {
	if f.State == state.Released {
		return !p.halfOpen(f.Key)
	}
	r := p.flows[f.ID]
	return r != nil && r.client != nil && r.client.phase == closed
}
