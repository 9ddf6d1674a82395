package sim

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

// said is what the server, or a router, has said about an attempt.
type said uint8

const (
	accepted said = 1 << iota
	refused
	unreachable
)

// violation ends a run that has broken an invariant.
type violation struct{ error }

// violated ends the run.
func (w *world) violated(format string, args ...any) {
	err := fmt.Errorf("after %v: "+format, append([]any{w.now.Round(time.Millisecond)}, args...)...)
	w.tell("VIOLATED: %v", err)
	panic(violation{err})
}

// slack is how much later than its time something may end: the core looks every so often.
const slack = 2*core.ExpireEvery + 10*time.Millisecond

// watch checks both cores every few seconds, as long as there are faults.
func (w *world) watch() {
	w.after(5*time.Second, func() {
		for _, b := range []*box{w.cpe, w.hag} {
			if b.process != nil {
				w.checkWaiting(b.process)
			}
		}
		if w.faults {
			w.watch()
		}
	})
}

// checkWaiting checks that no flow waits longer than its time, and that the core
// remembers a handshake for those that are dialing or released, and for no others.
func (w *world) checkWaiting(p *process) {
	table := p.cfg.Table.WithDefaults()
	most := map[state.State]time.Duration{
		state.Dialing: table.Dial, state.Released: table.HalfOpen, state.Learning: table.HalfOpen,
	}
	open := 0
	for f := range p.real.Flows() {
		if limit := most[f.State]; limit > 0 && w.now-f.Changed > limit+slack {
			w.violated("%s: flow %x is %v for %v", p.name, f.ID, f.State, w.now-f.Changed)
		}
		if f.State == state.Dialing || f.State == state.Released {
			open++
		}
	}
	if handshakes, _ := p.real.Backlog(); handshakes != open {
		w.violated("%s: %d handshakes are remembered for %d flows", p.name, handshakes, open)
	}
}

// checkHeld checks that a packet was not held longer than a dial may take, and the
// wait for the last flow of its ports before.
func (w *world) checkHeld(p *process, h heldPacket) {
	const patience = time.Second
	if took := w.now - h.since; took > p.cfg.Table.Dial+patience+slack {
		w.violated("%s has held %v for %v", p.name, &h.packet, took)
	}
}

// checkTracked checks that the multipath leg of a flow is tracked before it can carry
// anything.
func (w *world) checkTracked(p *process, id state.ID) {
	if !p.tracked[id] {
		w.violated("%s: the multipath leg of flow %x is not tracked", p.name, id)
	}
}

// heard checks what a client hears about its attempt.
func (w *world) heard(c *conn, err error) {
	w.tell("client: attempt %d: %v", c.attempt, err)
	need := accepted
	switch {
	case errors.Is(err, syscall.ETIMEDOUT):
		return
	case errors.Is(err, syscall.ECONNREFUSED):
		need = refused
	case errors.Is(err, syscall.EHOSTUNREACH):
		need = unreachable
	}
	if w.saidTo(c.attempt)&need == 0 {
		w.violated("the client of attempt %d hears %v, which its server has not said", c.attempt, err)
	}
}

// merge notes that an attempt goes on with the dial for another one of the same ports:
// its client has given up while the box was dialing, and the server cannot tell. SYNs
// that have waited may come in any order.
func (w *world) merge(p *process, d core.Decision) {
	in := p.held[d.Packet.ID]
	for _, h := range p.held {
		if h.src == in.src && h.dst == in.dst && h.attempt != in.attempt {
			w.goesOn[in.attempt] = append(w.goesOn[in.attempt], h.attempt)
		}
	}
}

// saidTo returns what has been said about an attempt, or about one with whose dial it
// went on.
func (w *world) saidTo(attempt int) said {
	all := said(0)
	seen := map[int]bool{}
	for todo := []int{attempt}; len(todo) > 0; todo = todo[1:] {
		if at := todo[0]; !seen[at] {
			seen[at] = true
			all |= w.said[at]
			todo = append(todo, w.goesOn[at]...)
		}
	}
	return all
}

// heardAnswer checks the SYN+ACK that a client gets. A box that has died meanwhile
// does not remember that it has added MP_CAPABLE to the SYN, and one whose queue is full
// does not see the SYN+ACK: the client ignores the option then.
func (w *world) heardAnswer(c *conn, p *packet) {
	if c.stack == w.client && p.capable() && w.blind < c.begun {
		w.violated("the client of attempt %d, which has no MPTCP, gets MP_CAPABLE", c.attempt)
	}
}

// checkService makes new connections, when all faults are over: a client hears of each
// what it would hear without boxes, and both boxes relay the one that is accepted, if
// their policies have them do so.
func (w *world) checkService() {
	bonded := w.cpe.cfg.Policy.Default == state.Relay && w.hag.cfg.Policy.Default == state.Relay &&
		w.middlebox == harmless && !w.aroundHAG
	for _, c := range []struct {
		port uint16
		want error
	}{{portOpen, nil}, {portRefusing, syscall.ECONNREFUSED}, {portUnreachable, syscall.EHOSTUNREACH}} {
		at := w.dial(60000, c.port, false)
		heard, over := error(nil), false
		at.connected = func(err error) { heard, over = err, true }
		w.run(w.now + 10*time.Second)
		if !over || heard != c.want {
			w.violated("the faults are over, and a client of port %d hears %v (%v), want %v", c.port, heard, over, c.want)
		}
		if c.port == portOpen && bonded {
			w.checkRelayed(at)
		}
		at.abort()
	}
}

// checkRelayed checks that both boxes relay a connection of the client.
func (w *world) checkRelayed(at *conn) {
	for _, b := range []*box{w.cpe, w.hag} {
		f, _ := b.process.real.Flow(state.KeyOf(at.local, at.remote))
		if f.State != state.Relaying {
			w.violated("%s: bonding is not back: the new flow is %v, %v, because of %q", b.name, f.Action, f.State, f.Reason)
		}
	}
}

// checkEnd checks that nothing is left when all is over.
func (w *world) checkEnd() {
	for _, b := range []*box{w.cpe, w.hag} {
		p := b.process
		for id, h := range p.held {
			w.violated("%s: packet %d, %v, has no verdict", b.name, id, &h.packet)
		}
		for f := range p.real.Flows() {
			if f.State.Live() {
				w.violated("%s: flow %x from %v to %v is still %v", b.name, f.ID, f.Key.Client(), f.Key.Server(), f.State)
			}
		}
		if left := p.real.Pending(); len(left) > 0 {
			w.violated("%s: dials are pending: %+v", b.name, left)
		}
		if handshakes, retries := p.real.Backlog(); handshakes+retries > 0 {
			w.violated("%s: %d handshakes and %d retries are remembered", b.name, handshakes, retries)
		}
		if len(p.flows) > 0 || len(p.waiting) > 0 || len(p.tracked) > 0 {
			w.violated("%s: the relay has %d flows, of which %d wait; %d are tracked", b.name, len(p.flows), len(p.waiting), len(p.tracked))
		}
		for _, c := range b.stack.all() {
			w.violated("%s: the socket %v is left", b.name, c.tuple)
		}
	}
}
