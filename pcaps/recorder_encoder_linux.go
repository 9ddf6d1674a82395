package pcaps

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// record is a frame for the ring.
type record struct {
	Frame
	in       Interface
	comments []string
	key      state.Key // of a flow that begins with this frame, or zero
}

// handshake is the state of a flow between its SYN and the end of its handshake.
type handshake struct {
	nic      *nic
	syn      []byte // the held SYN
	asks     bool   // the SYN+ACK comes from the queue, not from the tap
	outcome  string // comment for the packet that tells the client, "" once written
	answered bool
	answer   uint32 // sequence number of the SYN+ACK to the client
	acked    bool   // the client's ACK has been recorded
}

// encoder turns events, in order of time, into frames with comments. It encodes only
// packets of the box's flows, which it knows from the files of the ring: the machine has
// other connections, too.
type encoder struct {
	ring ring
	nics nics
	join []netip.AddrPort
	// Handshakes are bounded: a full current map becomes the previous one, and the
	// handshakes in the previous one are forgotten. Their outcomes have no comment.
	current, previous map[state.Key]*handshake
}

// maxHandshakes bounds each of the two maps. A box has fewer at a time, by default.
const maxHandshakes = 1 << 14

func (e *encoder) init(cfg RecorderConfig) {
	e.nics = newNICs(cfg)
	e.ring = ring{
		dir: cfg.Dir, prefix: string(cfg.Role), comment: cfg.Comment, files: cfg.Files, size: cfg.FileSize,
		interfaces: e.nics.all(cfg), seed: maphash.MakeSeed(),
	}
	e.join = cfg.Join
	e.current = make(map[state.Key]*handshake)
}

func (e *encoder) handshake(k state.Key) *handshake {
	if h := e.current[k]; h != nil {
		return h
	}
	return e.previous[k]
}

func (e *encoder) close(k state.Key) {
	delete(e.current, k)
	delete(e.previous, k)
}

func (e *encoder) open(k state.Key, h *handshake) {
	if len(e.current) >= maxHandshakes {
		e.previous, e.current = e.current, make(map[state.Key]*handshake)
	}
	delete(e.previous, k)
	e.current[k] = h
}

// encode returns the frame for an event, if there is one. The frame is valid as long as
// the event.
func (e *encoder) encode(ev *event) (record, bool) {
	switch ev.kind {
	case decided:
		return e.decided(ev)
	case settled:
		return e.settled(ev)
	case paired:
		return e.paired(ev)
	}
	return e.seen(ev)
}

// frame returns a record of a packet.
func frame(at time.Time, nic *nic, d Direction, packet []byte, comments ...string) record {
	return record{
		Frame: Frame{Time: at, Direction: d, Data: packet, Length: len(packet)},
		in:    nic.Interface, comments: comments,
	}
}

// decided encodes a packet from the queue.
func (e *encoder) decided(ev *event) (record, bool) {
	nic := e.nics.of(ev.iface, ev.at)
	if nic == nil || ev.decision.Reason == state.NotAsked {
		return record{}, false // a SYN+ACK of another flow: the tap has seen it
	}
	rec := frame(ev.at, nic, Inbound, ev.packet, decisionText(ev.decision))
	rec.key = ev.key
	d := ev.decision
	switch {
	case d.Verdict == core.Hold || d.Asks:
		e.open(ev.key, &handshake{nic: nic, syn: slices.Clone(ev.packet), asks: d.Asks})
	case d.Verdict != core.Deliver: // a delivered SYN is a repeat of the same handshake
		e.close(ev.key)
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

// settled keeps the outcome as a comment for the packet that tells the client. There is no
// such packet for a dropped SYN: settled encodes that SYN once more, as the end of its
// flow.
func (e *encoder) settled(ev *event) (record, bool) {
	h := e.handshake(ev.key)
	if h == nil || h.asks {
		return record{}, false
	}
	h.outcome = outcomeText(ev.decision)
	if ev.decision.Verdict != core.Drop {
		return record{}, false
	}
	e.close(ev.key)
	return frame(ev.at, h.nic, Outbound, h.syn, h.outcome+"; this SYN is not on the wire"), true
}

func outcomeText(d core.Decision) string {
	text := comment(d)
	if d.Reason == state.None {
		text += ": connected"
	}
	return text + " after " + d.Held.Round(10*time.Microsecond).String()
}

// paired encodes the client's ACK if the tap has not seen it. The filter of the tap cannot
// tell an ACK without MP_CAPABLE from the ACKs of all other connections. The accepted
// connection proves that the ACK has arrived.
func (e *encoder) paired(ev *event) (record, bool) {
	h := e.handshake(ev.key)
	if h == nil {
		return record{}, false
	}
	e.close(ev.key)
	var syn rewrite.Segment
	if h.acked || !h.answered || syn.Parse(h.syn) != nil {
		return record{}, false
	}
	ack := tcpHeader{
		src: syn.Src, dst: syn.Dst, seq: syn.Seq + 1, ack: h.answer + 1, flags: rewrite.ACK, window: syn.Window,
	}.packet(h.syn, syn.Traits().HopLimit)
	return frame(ev.at, h.nic, Inbound, ack, "accepted; this ACK is inferred, its options and window are not known"), true
}
