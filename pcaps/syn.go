package pcaps

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// cause is the reason for a decision: a packet or a timeout.
type cause struct {
	frame int
	at    time.Duration
	in    string // text for the packet, or noAnswer
}

// noAnswer is the text for a timeout.
const noAnswer = "no answer"

func (r *replay) cause(f *Frame, in string) cause { return cause{f.Number, r.now, in} }

// decided reports a decision, with a text for the packet that the box sends.
func (r *replay) decided(c cause, d core.Decision, out string) error {
	r.report.Totals.Verdicts[d.Verdict.String()]++
	if r.cfg.Decided == nil {
		return nil
	}
	report := Decision{
		Frame: c.frame, TimeUS: c.at.Microseconds(), In: c.in,
		Verdict: d.Verdict.String(), Reason: d.Reason.String(), Rule: d.Rule, Out: out,
	}
	switch {
	case d.Key != (state.Key{}):
		report.Client, report.Server = d.Key.Client(), d.Key.Server()
	case r.seg.IsSYNACK():
		report.Client, report.Server = r.seg.Dst, r.seg.Src
	default:
		report.Client, report.Server = r.seg.Src, r.seg.Dst
	}
	return r.cfg.Decided(report)
}

// unreadable decides on a packet that the rules of a box divert although it is not a whole
// SYN.
func (r *replay) unreadable(f *Frame) error {
	d, _ := r.packet(f, state.Plain, f.Packet())
	return errors.Join(r.decided(r.cause(f, flagsText(r.seg.Flags)), d, ""), r.passDecided(f, d))
}

// syn decides on a SYN, given with its checksum on the wire.
func (r *replay) syn(f *Frame, t *track, packet []byte) error {
	in := r.iface(f)
	m, _ := r.seg.MPTCP() // the core reports bad options
	switch {
	case t != nil && t.fromClient(&r.seg) && in.sentByBox(f) && in.side == t.side: // recorded as the end of the dial, see encoder.settled
		return r.dialShown(f, t, outcome{text: noAnswer, errno: syscall.ETIMEDOUT})
	case t != nil && t.fromClient(&r.seg) && r.hasLeft(f, in, t, m):
		return r.passCopy(f, t)
	case slices.Contains(r.cfg.Join, r.seg.Dst), in.recorded && (in.sentByBox(f) || len(f.Comments) == 0):
		return r.ownSubflow(f, in, m)
	}
	d, ok := r.packet(f, r.cfg.sideOf(in, m), packet)
	if !ok {
		r.waiting[d.Packet.ID] = waiting{clone(f), bytes.Clone(packet)}
		return nil
	}
	return r.decidedSYN(f, t, m, d, packet)
}

// waiting is a SYN that waits for the end of an earlier flow with the same 5-tuple.
type waiting struct {
	frame  *Frame
	packet []byte
}

// packet passes a packet of a frame to the core. ok is false if the packet has to wait for
// the decision.
func (r *replay) packet(f *Frame, side state.Side, packet []byte) (d core.Decision, ok bool) {
	p := core.Packet{ID: uint32(f.Number), Side: side, Data: packet}
	r.acts = r.core.Packet(r.acts[:0], r.now, p)
	if a := r.acts[0]; a.Kind == core.Wake {
		r.wakes = append(r.wakes, a.At)
		return core.Decision{Packet: p}, false
	}
	return r.acts[0].Decision, true
}

// decidedSYN handles the decision on a SYN.
func (r *replay) decidedSYN(f *Frame, t *track, m rewrite.MPTCP, d core.Decision, packet []byte) error {
	in, text := r.iface(f), describe(&r.seg, m)
	switch {
	case d.Key == (state.Key{}):
		return errors.Join(r.decided(r.cause(f, text), d, ""), r.passDecided(f, d))
	case t == nil || !r.repeats(d, t):
		t = r.begin(f, d.Key, d.Packet.Side)
	default:
		r.repeat(t)
	}
	t.syn, t.isn, t.data = m, r.seg.Seq, uint32(len(r.seg.Payload))
	t.verdict, t.entered, t.inInterface = d.Verdict, f.Direction, f.Interface
	r.sync(t)
	r.observe(in, t, m, f.Number)
	return r.carryOut(f, t, d, packet, text)
}

// ownSubflow handles a SYN from or to the machine of the box itself, which does not reach
// the queue: mostly a subflow. It appears in the report of its connection.
func (r *replay) ownSubflow(f *Frame, in *captureInterface, m rewrite.MPTCP) error {
	if _, known := r.tokens[m.Token]; m.Join && known {
		t := &track{
			key: state.KeyOf(r.seg.Src, r.seg.Dst), client: r.seg.Src, server: r.seg.Dst,
			side: in.side, action: state.Pass, state: state.Passed, own: true,
		}
		t.flow = &Flow{Client: t.client, Server: t.server}
		r.tracks.begin(t)
		r.observe(in, t, m, f.Number)
	}
	return r.pass(f)
}

// repeats reports whether a decision concerns a repeated SYN of the flow t. For the core
// the repeat of a passed SYN is a new flow; the report counts it as the same flow.
func (r *replay) repeats(d core.Decision, t *track) bool {
	if t.key != d.Key {
		return false
	}
	fl, _ := r.core.Flow(d.Key)
	again := t.isn == r.seg.Seq && t.state == fl.State && (fl.State == state.Passed || fl.State == state.Rejected)
	return again || d.Supersedes || d.Verdict == core.Deliver || t.state == state.Learning
}

// repeat gives a flow that was to be relayed, and has passed, the action of the core's newest
// flow.
func (r *replay) repeat(t *track) {
	fl, _ := r.core.Flow(t.key)
	if t.action != state.Relay || fl.State != state.Passed {
		return
	}
	if t.action = fl.Action; t.flow != nil {
		t.flow.Action = fl.Action.String()
	}
}

// begin returns the track of a new flow.
func (r *replay) begin(f *Frame, key state.Key, side state.Side) *track {
	r.report.Totals.Flows++
	fl, _ := r.core.Flow(key)
	t := &track{
		key: key, client: r.seg.Src, server: r.seg.Dst, side: side, action: fl.Action, state: fl.State, onward: r.seg.Seq,
	}
	if len(r.report.Flows) < r.cfg.MaxFlows {
		t.flow = &Flow{
			Client: t.client, Server: t.server, Side: side.String(), Action: fl.Action.String(),
			State: fl.State.String(), Reason: fl.Reason.String(), Rule: fl.Rule, Frame: f.Number, TimeUS: r.now.Microseconds(),
			Packets: 1, BytesUp: uint64(len(r.seg.Payload)),
			Connection: Connection{Subflows: []Subflow{}}, Handshake: []Step{},
		}
		r.report.Flows = append(r.report.Flows, t.flow)
	}
	r.tracks.begin(t)
	return t
}

// sync sets the state of a track to the state of its flow in the core.
func (r *replay) sync(t *track) {
	if fl, ok := r.core.Flow(t.key); ok && fl.State != t.state {
		r.tracks.setState(t, fl)
	}
}

// findCopy reports whether the current segment is the copy of an earlier one: the capture
// shows a packet on its way into the box, and again on its way out.
func (r *replay) findCopy(f *Frame, t *track) bool {
	up := t.fromClient(&r.seg)
	if !up || !r.seg.IsSYN() || r.seg.Seq != t.isn {
		return t.copied(f, up)
	}
	elsewhere := f.Interface != t.inInterface && !r.iface(f).recorded
	if elsewhere || f.Direction == Outbound && t.entered == Inbound {
		t.outInterface, t.forwarded = f.Interface, true
		return true
	}
	return false
}

// hasLeft reports whether a SYN is on its way out of the box: the copy of an earlier SYN, or
// the SYN of a captured box.
func (r *replay) hasLeft(f *Frame, in *captureInterface, t *track, m rewrite.MPTCP) bool {
	if r.isCopy {
		return true
	}
	if !in.sentByBox(f) && !(in.sideKnown && t.state == state.Dialing && in.side != t.side) {
		return false
	}
	t.onward = r.seg.Seq
	r.observe(in, t, m, f.Number)
	return true
}

// passCopy writes the copy of a packet if the box accepts the packet.
func (r *replay) passCopy(f *Frame, t *track) error {
	if t.verdict == core.Accept && !r.iface(f).recorded {
		return r.pass(f)
	}
	return r.omit()
}

// carryOut writes the packets that follow from a decision on a SYN.
func (r *replay) carryOut(f *Frame, t *track, d core.Decision, packet []byte, in string) error {
	var err error
	out, end := "", Server
	switch d.Verdict {
	case core.Accept:
		r.step(f, t, Client, Server, in)
		return errors.Join(r.decided(r.cause(f, in), d, ""), r.passDecided(f, d))
	case core.Rewrite:
		out = describeEdited(d.Edited, in)
		err = r.writeEdited(f, d, packet)
	case core.Hold:
		onward := onwardSYN(&r.seg, packet, t.side == state.Plain)
		out = describePacket(onward)
		t.held, t.quote = clone(f), bytes.Clone(packet[:len(f.Packet())])
		err = r.writeBuilt(f, r.interfaceOn(f, t.side.Opposite()), onward, d)
	case core.Deliver:
		if t.state != state.Released || t.reply == nil {
			err = r.omit() // for the box's kernel; its answer, if any, is unknown
			break
		}
		out, end = describePacket(t.reply), Client
		err = r.writeBuilt(r.reversed(f), r.iface(f).Interface, t.reply, d)
	case core.Prohibited: // from the server's address: a capture does not have the box's
		reply := icmpError(d.Verdict, t.server.Addr(), t.client.Addr(), packet[:len(f.Packet())])
		out, end = describePacket(reply), Client
		err = r.writeBuilt(r.reversed(f), r.iface(f).Interface, reply, d)
	}
	r.step(f, t, Client, Box, in)
	if out != "" {
		r.step(f, t, Box, end, out)
		out += " → " + end.String()
	}
	return errors.Join(r.decided(r.cause(f, in), d, out), err)
}

// step adds a packet to the handshake of a flow.
func (r *replay) step(f *Frame, t *track, from, to End, packet string) {
	switch {
	case t == nil || t.flow == nil || r.isCopy:
	case len(t.flow.Handshake) == maxSteps:
		t.flow.Omitted++
	default:
		t.flow.Handshake = append(t.flow.Handshake, Step{f.Number, r.now.Microseconds(), from, to, packet})
	}
}

// maxSteps bounds the steps in the report of one handshake.
const maxSteps = 24
