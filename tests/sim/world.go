package sim

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Ports of the server, by how it answers.
const (
	portOpen        = 443
	portRefusing    = 81
	portSilent      = 82
	portUnreachable = 83
	portMPTCP       = 444 // open, and speaks MPTCP
)

var (
	clientAddr = netip.MustParseAddr("2001:db8:1::2")
	serverAddr = netip.MustParseAddr("2001:db8:2::2")
	lteAddr    = netip.MustParseAddr("2001:db8:7::2") // of the CPE on its second path
)

// world is one run.
type world struct {
	rnd    *rand.Rand
	now    time.Duration
	events events
	story  *strings.Builder // nil: nobody wants to hear it
	broken func(*core.Core) decider

	client, server *stack
	cpe, hag       *box
	links          map[string]*link
	paths          [2]*link
	reported       [2]bool // to be down, as the CPE sees its paths
	faults         bool    // may happen
	attempts       int
	blind          time.Duration // when a box last missed a packet, dead or with its queue full
	said           map[int]said
	goesOn         map[int][]int // attempts, with the dial for an earlier one
	middlebox      middlebox     // on the first path
	aroundHAG      bool          // the server's packets take a way of their own to the CPE
}

// middlebox is what becomes of a SYN with MP_CAPABLE.
type middlebox uint8

const (
	harmless middlebox = iota
	drops
	resets
	strips
	dropsAnswers // SYN+ACKs with it
)

func (m middlebox) String() string {
	return [...]string{"harmless", "drops", "resets", "strips", "drops answers"}[m]
}

// link carries packets, late, and some of them not at all.
type link struct {
	name  string
	delay time.Duration
	loss  float64
	up    bool
}

// event is what happens at a time.
type event struct {
	at time.Duration
	n  int // of events of the same time the one that was made first
	do func()
}

type events struct {
	list []*event
	made int
}

// Len implements [heap.Interface].
func (e *events) Len() int { return len(e.list) }

// Less implements [heap.Interface].
func (e *events) Less(i, j int) bool {
	a, b := e.list[i], e.list[j]
	return a.at < b.at || a.at == b.at && a.n < b.n
}

// Swap implements [heap.Interface].
func (e *events) Swap(i, j int) { e.list[i], e.list[j] = e.list[j], e.list[i] }

// Push implements [heap.Interface].
func (e *events) Push(x any) { e.list = append(e.list, x.(*event)) }

// Pop implements [heap.Interface].
func (e *events) Pop() any {
	last := e.list[len(e.list)-1]
	e.list = e.list[:len(e.list)-1]
	return last
}

// after does something later.
func (w *world) after(d time.Duration, do func()) {
	w.events.made++
	heap.Push(&w.events, &event{w.now + d, w.events.made, do})
}

// mostEvents is many times more than a run takes.
const mostEvents = 300_000

// run goes on until that time.
func (w *world) run(until time.Duration) {
	for w.events.Len() > 0 && w.events.list[0].at <= until {
		e := heap.Pop(&w.events).(*event)
		if w.events.made > mostEvents {
			w.violated("%d events: the network does not come to rest", w.events.made)
		}
		w.now = e.at
		e.do()
	}
	w.now = until
}

// tell adds a line to the story.
func (w *world) tell(format string, args ...any) {
	if w.story != nil {
		fmt.Fprintf(w.story, "%10.3f  %s\n", w.now.Seconds(), fmt.Sprintf(format, args...))
	}
}

// Run runs a seed, with cores as broken makes them, and returns the invariant that
// is violated, if one is. The story is told if there is a place for it.
func Run(seed uint64, broken func(*core.Core) decider, story *strings.Builder) (err error) {
	w := &world{
		rnd: rand.New(rand.NewPCG(seed, 1)), story: story, broken: broken,
		said: make(map[int]said), goesOn: make(map[int][]int), links: make(map[string]*link), faults: true,
	}
	defer func() {
		if r := recover(); r != nil {
			v, ok := r.(violation)
			if !ok { // a fault of a core, or of this package
				v.error = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			}
			err = fmt.Errorf("seed %d: %w", seed, v.error)
		}
	}()
	w.build()
	w.play()
	return nil
}

// oneOf draws one of the values.
func oneOf[T any](w *world, values ...T) T { return values[w.rnd.IntN(len(values))] }

// between draws a time.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rnd.Int64N(int64(most-least)))
}

// build makes the network.
func (w *world) build() {
	for _, name := range []string{"lan", "dsl", "lte", "wan"} {
		w.links[name] = &link{
			name: name, delay: w.between(time.Millisecond, 40*time.Millisecond), up: true,
			loss: oneOf(w, 0, 0, 0.02, 0.1, 0.3),
		}
	}
	w.paths = [2]*link{w.links["dsl"], w.links["lte"]}
	w.middlebox = oneOf(w, harmless, harmless, harmless, drops, resets, strips, dropsAnswers)
	w.aroundHAG = w.rnd.IntN(6) == 0
	w.tell("SYNs with MP_CAPABLE on dsl: %v; the server's packets go around the HAG: %v", w.middlebox, w.aroundHAG)
	w.buildHosts()
	w.buildBoxes()
	w.cpe.start()
	w.hag.start()
}

// buildHosts makes the client and the server.
func (w *world) buildHosts() {
	w.client, w.server = newStack(w, "client"), newStack(w, "server")
	w.client.listen = func(packet) {} // nobody dials the client
	w.client.send = func(_ *conn, p packet) { w.carry("lan", p, func(p packet) { w.cpe.enter(state.Plain, p) }) }
	w.server.listen = w.serve
	w.server.send = func(_ *conn, p packet) {
		w.carry("wan", p, func(p packet) {
			if w.aroundHAG {
				w.cpe.enter(state.Multipath, p)
			} else {
				w.hag.enter(state.Plain, p)
			}
		})
	}
}

// buildBoxes makes the CPE and the HAG.
func (w *world) buildBoxes() {
	fourth := state.Learn
	if w.middlebox == resets || w.middlebox == dropsAnswers {
		fourth = state.Relay // who learns does not see resets, and repeats its SYN to a server that has answered
	}
	w.cpe = w.newBox("cpe", state.Relay, state.Relay, state.Relay, fourth, state.Pass)
	w.hag = w.newBox("hag", state.Relay, state.Relay, state.Relay, state.Learn, state.Strip)
	w.cpe.policy.Sources[0] = core.Source{Path: 1, Addr: lteAddr, Interface: "lte"}
	w.cpe.forward = func(side state.Side, p packet) {
		if side == state.Multipath {
			w.carry("lan", p, w.client.receive)
		} else {
			w.up(nil, p)
		}
	}
	w.cpe.stack.send = func(c *conn, p packet) {
		if p.dst.Addr() == clientAddr {
			w.carry("lan", p, w.client.receive)
		} else {
			w.up(c, p)
		}
	}
	w.hag.forward = func(side state.Side, p packet) {
		if side == state.Multipath {
			w.carry("wan", p, w.server.receive)
		} else {
			w.down(nil, p)
		}
	}
	w.hag.stack.send = func(c *conn, p packet) {
		if p.dst.Addr() == serverAddr {
			w.carry("wan", p, w.server.receive)
		} else {
			w.down(c, p)
		}
	}
}

// newBox makes a box with limits that may be narrow.
func (w *world) newBox(name string, actions ...state.Action) *box {
	return &box{
		w: w, actions: actions, name: name, stack: newStack(w, name), queueSize: oneOf(w, 1, 3, 1000),
		cfg: core.Config{
			Policy: &core.Policy{Default: oneOf(w, actions...)},
			Table: state.Config{
				MaxFlows: oneOf(w, 2, 5, 1000, 1000), MaxHalfOpen: oneOf(w, 1, 3, 1000, 1000),
				Dial: oneOf(w, 2*time.Second, 5*time.Second, 20*time.Second), HalfOpen: oneOf(w, 8*time.Second, 64*time.Second),
			},
		},
	}
}

// up sends a packet from the CPE to the HAG, and down one back: over the path that it
// is bound to, or the first one. What is established goes on over what is up, as
// Multipath TCP does.
func (w *world) up(c *conn, p packet) {
	path := w.pathOf(c, p.src)
	w.carry(path, p, func(p packet) {
		if path == "dsl" && p.is(rewrite.SYN) && p.capable() && !w.meddle(&p) {
			return
		}
		w.hag.enter(state.Multipath, p)
	})
}

// meddle lets the middlebox have a SYN with MP_CAPABLE, and reports whether it goes on.
func (w *world) meddle(p *packet) bool {
	switch w.middlebox {
	case resets:
		w.tell("the middlebox resets %v", p)
		w.down(nil, packet{src: p.dst, dst: p.src, flags: rewrite.RST | rewrite.ACK, ack: p.seq, attempt: p.attempt})
		return false
	case drops:
		w.tell("the middlebox drops %v", p)
		return false
	case strips:
		*p = p.withData(false)
	}
	return true
}

func (w *world) down(c *conn, p packet) {
	path := w.pathOf(c, p.dst)
	w.carry(path, p, func(p packet) {
		if path == "dsl" && w.middlebox == dropsAnswers && p.is(synACK) && p.capable() {
			w.tell("the middlebox drops %v", &p)
			return
		}
		w.cpe.enter(state.Multipath, p)
	})
}

func (w *world) pathOf(c *conn, end netip.AddrPort) string {
	path := 0
	if end.Addr() == lteAddr {
		path = 1
	}
	if c != nil && c.phase == established && !w.paths[path].up {
		path = 1 - path
	}
	return w.paths[path].name
}

// carry takes a packet over a link, or loses it, or takes it twice.
func (w *world) carry(name string, p packet, arrive func(packet)) {
	l := w.links[name]
	copies := 1
	if w.faults {
		switch draw := w.rnd.Float64(); {
		case draw < l.loss:
			copies = 0
		case draw > 0.98:
			copies = 2
		}
	}
	if copies == 0 || !l.up {
		w.tell("%s loses %v", name, &p)
		return
	}
	for range copies {
		delay := l.delay
		if w.faults && w.rnd.IntN(20) == 0 { // overtaken by others
			delay += w.between(0, 3*time.Second)
		}
		w.after(delay, func() {
			if !l.up {
				w.tell("%s loses %v on its way", name, &p)
				return
			}
			w.tell("%s: %v", name, &p)
			arrive(p)
		})
	}
}

// serve is how the server takes SYNs.
func (w *world) serve(p packet) {
	say := func(what said) { w.said[p.attempt] |= what }
	switch p.dst.Port() {
	case portRefusing:
		say(refused)
		w.server.send(nil, packet{src: p.dst, dst: p.src, flags: rewrite.RST | rewrite.ACK, ack: p.seq, attempt: p.attempt})
	case portUnreachable:
		say(unreachable)
		w.server.send(nil, packet{src: p.dst, dst: p.src, unreachable: true, ack: p.seq, attempt: p.attempt})
	case portOpen, portMPTCP:
		say(accepted)
		c := w.server.accept(p, p.dst.Port() == portMPTCP && p.capable())
		c.fin = c.close
		c.connected = func(error) {
			if !w.faults {
				return
			}
			switch life := w.between(0, 30*time.Second); w.rnd.IntN(6) {
			case 0:
				w.after(life, c.close)
			case 1:
				w.after(life, c.abort)
			}
		}
	}
}
