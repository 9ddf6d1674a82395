package pcaps

import (
	"hash/maphash"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// noteKind is what a note tells of.
type noteKind uint8

const (
	seen    noteKind = iota // a packet by the tap
	decided                 // a packet from the queue, and the decision about it
	settled                 // the verdict on a SYN that was held
	paired                  // the client has completed its handshake
)

// note is one thing that a recorder is told.
type note struct {
	kind     noteKind
	at       time.Time
	iface    int // index, of seen and decided
	outgoing bool
	packet   []byte    // of seen and decided; it belongs to the note
	key      state.Key // of all but seen
	decision core.Decision
}

// noteQueue is a heap of notes: the oldest first.
type noteQueue []*note

// Len implements [sort.Interface].
func (q noteQueue) Len() int { return len(q) }

// Less implements [sort.Interface].
func (q noteQueue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

// Swap implements [sort.Interface].
func (q noteQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }

// Push implements [heap.Interface].
func (q *noteQueue) Push(n any) { *q = append(*q, n.(*note)) }

// Pop implements [heap.Interface].
func (q *noteQueue) Pop() any {
	last := len(*q) - 1
	n := (*q)[last]
	(*q)[last], *q = nil, (*q)[:last]
	return n
}

// record is a frame to be written.
type record struct {
	Frame
	in       Interface
	comments []string
	key      state.Key // of a flow that begins with this frame, else void
}

// opening is a flow between its SYN and the end of its handshake.
type opening struct {
	nic  *nic
	syn  []byte // the one that is held
	asks bool   // its answer comes by the queue
	// outcome waits for the packet that tells the client.
	outcome  string
	answered bool
	answer   uint32 // the sequence number of the SYN+ACK that the client got
	acked    bool   // its ACK has been recorded
}

// scribe turns what happened, in order of time, into frames. It knows the flows of
// the box from what the files of the ring have, and keeps to them: the machine has
// connections of its own.
type scribe struct {
	ring ring
	nics nics
	join []netip.AddrPort
	// openings are bounded: when young is full it becomes old, and what was old is
	// forgotten. Then an outcome lacks its comment.
	young, old map[state.Key]*opening
}

// maxOpenings is more than the handshakes that a box has at a time, by default.
const maxOpenings = 1 << 14

func (s *scribe) init(cfg RecorderConfig) {
	s.nics = newNICs(cfg)
	s.ring = ring{
		dir: cfg.Dir, prefix: string(cfg.Role), comment: cfg.Comment, files: cfg.Files, size: cfg.FileSize,
		interfaces: s.nics.all(cfg), seed: maphash.MakeSeed(),
	}
	s.join = cfg.Join
	s.young = make(map[state.Key]*opening)
}

func (s *scribe) opening(k state.Key) *opening {
	if o := s.young[k]; o != nil {
		return o
	}
	return s.old[k]
}

func (s *scribe) close(k state.Key) {
	delete(s.young, k)
	delete(s.old, k)
}

func (s *scribe) open(k state.Key, o *opening) {
	if len(s.young) >= maxOpenings {
		s.old, s.young = s.young, make(map[state.Key]*opening)
	}
	delete(s.old, k)
	s.young[k] = o
}

// read returns the frame that a note stands for, if it does for one. The frame is
// valid as long as the note.
func (s *scribe) read(n *note) (record, bool) {
	switch n.kind {
	case decided:
		return s.decided(n)
	case settled:
		return s.settled(n)
	case paired:
		return s.paired(n)
	}
	return s.seen(n)
}

// frame makes a record of a packet.
func frame(at time.Time, nic *nic, d Direction, packet []byte, comments ...string) record {
	return record{
		Frame: Frame{Time: at, Direction: d, Data: packet, Length: len(packet)},
		in:    nic.Interface, comments: comments,
	}
}

// decided records a packet from the queue.
func (s *scribe) decided(n *note) (record, bool) {
	nic := s.nics.of(n.iface, n.at)
	if nic == nil || n.decision.Reason == state.NotAsked {
		return record{}, false // an answer to others: the tap has seen it
	}
	rec := frame(n.at, nic, Inbound, n.packet, decisionText(n.decision))
	rec.key = n.key
	d := n.decision
	switch {
	case d.Verdict == core.Hold || d.Asks:
		s.open(n.key, &opening{nic: nic, syn: slices.Clone(n.packet), asks: d.Asks})
	case d.Verdict != core.Deliver: // which is a repeat, and changes nothing
		s.close(n.key)
	}
	return rec, true
}

func decisionText(d core.Decision) string {
	text := comment(d)
	if d.Supersedes {
		text += ", in the place of the SYN before"
	}
	if d.Asks {
		text += ", asks whether the server speaks MPTCP"
	}
	return text
}

// settled keeps the outcome for the packet that tells it. A SYN that is dropped
// is told by none: it is recorded once more, as the end of its flow.
func (s *scribe) settled(n *note) (record, bool) {
	o := s.opening(n.key)
	if o == nil || o.asks {
		return record{}, false
	}
	o.outcome = outcomeText(n.decision)
	if n.decision.Verdict != core.Drop {
		return record{}, false
	}
	s.close(n.key)
	return frame(n.at, o.nic, Outbound, o.syn, o.outcome+"; this SYN is not on the wire"), true
}

func outcomeText(d core.Decision) string {
	text := comment(d)
	if d.Reason == state.None {
		text += ": connected"
	}
	return text + " after " + d.Held.Round(10*time.Microsecond).String()
}

// paired records the client's ACK if the tap has not. An ACK without MP_CAPABLE
// looks like millions of others, and the tap lets none of them pass; that the
// connection was accepted proves that it came.
func (s *scribe) paired(n *note) (record, bool) {
	o := s.opening(n.key)
	if o == nil {
		return record{}, false
	}
	s.close(n.key)
	var syn rewrite.Segment
	if o.acked || !o.answered || syn.Parse(o.syn) != nil {
		return record{}, false
	}
	ack := tcpHeader{
		src: syn.Src, dst: syn.Dst, seq: syn.Seq + 1, ack: o.answer + 1, flags: rewrite.ACK, window: syn.Window,
	}.packet(o.syn, syn.Traits().HopLimit)
	return frame(n.at, o.nic, Inbound, ack, "accepted; this ACK is inferred, its options and window are not known"), true
}

// nic is an interface of the box.
type nic struct {
	Interface
	side state.Side
}

// nics knows the interfaces of a box by name. They may come and go, and packets
// carry their index: what is not known yet is looked up, once in a while.
type nics struct {
	byName  map[string]*nic
	byIndex map[int]*nic
	lookup  time.Time // the next one
}

func newNICs(cfg RecorderConfig) nics {
	n := nics{make(map[string]*nic), make(map[int]*nic), time.Time{}}
	for side, names := range [...][]string{state.Plain: cfg.Plain, state.Multipath: cfg.Multipath} {
		for _, name := range names {
			side := state.Side(side)
			n.byName[name] = &nic{Interface{
				Name: name, Description: "synbond " + string(cfg.Role) + ", " + side.String() + " side", LinkType: LinkRaw,
			}, side}
		}
	}
	return n
}

// all lists the interfaces in the order of the configuration.
func (n *nics) all(cfg RecorderConfig) []Interface {
	var out []Interface
	for _, name := range slices.Concat(cfg.Plain, cfg.Multipath) {
		out = append(out, n.byName[name].Interface)
	}
	return out
}

// of returns the interface of the box with that index, or nil.
func (n *nics) of(index int, now time.Time) *nic {
	if nic := n.byIndex[index]; nic != nil {
		return nic
	}
	if now.Before(n.lookup) {
		return nil
	}
	n.lookup = now.Add(time.Second)
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range all {
		if nic := n.byName[i.Name]; nic != nil {
			n.byIndex[i.Index] = nic // the kernel gives an index to one interface only
		}
	}
	return n.byIndex[index]
}
