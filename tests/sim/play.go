package sim

import (
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

const (
	faultsLast = 60 * time.Second
	// Until then everything has ended of itself: the longest are connections that
	// nobody answers any more, and half-open flows.
	restLasts = 300 * time.Second
)

// play lets clients come and go, and faults happen; then it checks what is left.
func (w *world) play() {
	for range 5 + w.rnd.IntN(25) {
		w.after(w.between(0, faultsLast), w.comeAndGo)
	}
	for range w.rnd.IntN(8) {
		w.after(w.between(0, faultsLast), oneOf(w, w.flap, w.flap, w.crash, w.hagDown, w.neighbourFails, w.newPolicy))
	}
	w.watch()
	w.run(faultsLast)
	w.tell("the faults are over")
	w.faults, w.reported = false, [2]bool{}
	for _, l := range w.links {
		l.up = true
	}
	for _, b := range []*box{w.cpe, w.hag} {
		if b.process == nil {
			b.start()
		}
	}
	w.setPolicy(false)
	if w.rnd.IntN(2) == 0 {
		w.middlebox, w.aroundHAG = harmless, false
		w.tell("the network lets MPTCP through")
	}
	if w.aroundHAG { // a full queue hides the SYN that would end a dial in vain
		w.cpe.queueSize, w.hag.queueSize = 1000, 1000
	}
	w.run(w.now + restLasts)
	w.checkEnd()
	w.checkService()
	w.run(w.now + restLasts)
	w.checkEnd()
}

// comeAndGo is one connection of a client, from one of a few ports.
func (w *world) comeAndGo() {
	port := uint16(50000 + w.rnd.IntN(4))
	server := oneOf(w, uint16(portOpen), portOpen, portOpen, portMPTCP, portRefusing, portSilent, portUnreachable)
	w.dial(port, server, true)
}

// dial begins a connection of the client, unless its port is in use. One that is not
// to stay ends some time later.
func (w *world) dial(port, server uint16, ends bool) *conn {
	at := tuple{netip.AddrPortFrom(clientAddr, port), netip.AddrPortFrom(serverAddr, server)}
	if w.client.conns[at] != nil {
		return nil
	}
	w.attempts++
	c := &conn{tuple: at, path: -1, attempt: w.attempts}
	w.tell("client: attempt %d, %v → %v", c.attempt, at.local, at.remote)
	c.connected = func(err error) {
		w.heard(c, err)
		if err == nil && ends {
			w.end(c)
		}
	}
	c.fin = c.close
	w.client.dial(c)
	if ends && w.rnd.IntN(8) == 0 { // gives up, or resets at any step, as scanners do
		w.after(w.between(0, 4*time.Second), func() {
			if c.phase == synSent {
				w.tell("client: attempt %d is given up", c.attempt)
				c.drop()
			}
		})
	}
	return c
}

// end ends a connection of the client, one way or another.
func (w *world) end(c *conn) {
	life := w.between(0, 20*time.Second)
	switch w.rnd.IntN(8) {
	case 0: // at once, like a port scanner
		c.abort()
	case 1:
		w.after(life, c.abort)
	case 2: // without a word: its machine is gone
		w.after(life, c.drop)
	case 3: // and again from the same port
		w.after(life, func() {
			c.abort()
			w.dial(c.local.Port(), c.remote.Port(), true)
		})
	default:
		w.after(life, c.close)
	}
}

// flap takes a path down for some time, or only has it taken for down, as when its
// probes are lost. The CPE learns of it late.
func (w *world) flap() {
	i := w.rnd.IntN(len(w.paths))
	l := w.paths[i]
	l.up, w.reported[i] = w.rnd.IntN(3) == 0, true
	w.tell("%s goes down; it carries packets: %v", l.name, l.up)
	w.learnLate()
	w.after(w.between(time.Second/10, 10*time.Second), func() {
		w.tell("%s comes back", l.name)
		l.up, w.reported[i] = true, false
		w.learnLate()
	})
}

// learnLate has the CPE learn of its paths some time later.
func (w *world) learnLate() {
	w.after(w.between(0, time.Second), func() { w.setPolicy(w.hag.process == nil && w.faults) })
}

// setPolicy has the CPE's core know how its paths and the HAG are.
func (w *world) setPolicy(hagDown bool) {
	p := &w.cpe.policy
	p.Mode, p.Reason, p.Down = core.AsClient, state.None, 0
	for i, down := range w.reported {
		if down {
			p.Down |= 1 << i
		}
	}
	switch {
	case hagDown:
		p.Mode, p.Reason = core.NoBox, state.HAGDown
	case p.Down.Has(0) && p.Down.Has(1):
		p.Mode, p.Reason = core.NoBox, state.FirstPathDown
	case p.Down.Has(0):
		p.Mode, p.Reason = core.OwnSource, state.FirstPathDown
	}
	if b := w.cpe.process; b != nil {
		w.tell("cpe: the dial policy is %+v", *p)
		b.do(b.core.SetDialPolicy(nil, w.now, *p))
	}
}

// crash kills a box, which starts again some time later.
func (w *world) crash() { w.restart(oneOf(w, w.cpe, w.hag)) }

// hagDown kills the HAG's box, and the CPE learns of it.
func (w *world) hagDown() {
	w.restart(w.hag)
	w.learnLate()
}

// neighbourFails has the next hop of a box not answer for the dials that go on. The
// box's kernel answers for it that they are unreachable.
func (w *world) neighbourFails() {
	p := oneOf(w, w.cpe, w.hag).process
	if p == nil {
		return
	}
	var dials []state.ID
	for _, pending := range p.real.Pending() {
		dials = append(dials, pending.Flow)
		w.said[p.attemptOf(pending.Dial.Client, pending.Dial.Server)] |= unreachable
	}
	slices.Sort(dials) // as maps have no order
	w.tell("%s: the neighbour of %d dials fails", p.name, len(dials))
	p.soon(func() { p.do(p.core.NeighbourFailed(nil, w.now, dials...)) })
}

// newPolicy replaces the policy of a box. Rules that no longer divert SYN+ACKs let the
// answers to its last SYNs pass.
func (w *world) newPolicy() {
	b := oneOf(w, w.cpe, w.hag)
	b.cfg.Policy = &core.Policy{Default: oneOf(w, b.actions...)}
	w.blind = w.now
	w.tell("%s: the policy is %v", b.name, b.cfg.Policy.Default)
	if b.process != nil {
		b.process.core.SetPolicy(b.cfg.Policy)
	}
}

func (w *world) restart(b *box) {
	if b.process == nil {
		return
	}
	b.kill()
	w.after(w.between(time.Second/10, 10*time.Second), func() {
		if b.process == nil {
			b.start()
			w.learnLate()
		}
	})
}
