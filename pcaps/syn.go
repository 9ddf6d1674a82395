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

// event is what a decision is about.
type cause struct {
	frame int
	at    time.Duration
	in    string // what came, for people
}

// noAnswer is what comes when a time is up.
const noAnswer = "no answer"

func (r *replay) cause(f *Frame, in string) cause { return cause{f.Number, r.now, in} }

// decided reports a decision and what the box sends by it.
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

// unreadable decides about a packet that the rules of a box divert though it is
// no whole SYN.
func (r *replay) unreadable(f *Frame) error {
	d, _ := r.packet(f, state.Plain, f.Packet())
	return errors.Join(r.decided(r.cause(f, flagsText(r.seg.Flags)), d, ""), r.passDecided(f, d))
}

// syn decides about a SYN. The packet has its right checksum.
func (r *replay) syn(f *Frame, t *track, packet []byte) error {
	p := r.iface(f)
	m, _ := r.seg.MPTCP() // the core says what is wrong
	switch {
	case t != nil && t.fromClient(&r.seg) && p.sentByBox(f) && p.side == t.side: // is not on the wire: it ends the dial
		return r.dialShown(f, t, outcome{text: noAnswer, errno: syscall.ETIMEDOUT})
	case t != nil && t.fromClient(&r.seg) && r.hasLeft(f, p, t, m):
		return r.passCopy(f, t)
	case slices.Contains(r.cfg.Join, r.seg.Dst), p.recorded && (p.sentByBox(f) || len(f.Comments) == 0):
		return r.ownSubflow(f, p, m)
	}
	d, ok := r.packet(f, r.cfg.sideOf(p, m), packet)
	if !ok {
		r.waiting[d.Packet.ID] = waiting{clone(f), bytes.Clone(packet)}
		return nil
	}
	return r.decidedSYN(f, t, m, d, packet)
}

// waiting is a SYN that waits for the end of the flow which has its 5-tuple now.
type waiting struct {
	frame  *Frame
	packet []byte
}

// packet hands the core a packet of a frame. It reports false if the packet has to
// wait for the decision.
func (r *replay) packet(f *Frame, side state.Side, packet []byte) (d core.Decision, ok bool) {
	p := core.Packet{ID: uint32(f.Number), Side: side, Data: packet}
	r.acts = r.core.Packet(r.acts[:0], r.now, p)
	if a := r.acts[0]; a.Kind == core.Wake {
		r.wakes = append(r.wakes, a.At)
		return core.Decision{Packet: p}, false
	}
	return r.acts[0].Decision, true
}

// decidedSYN takes the decision about a SYN.
func (r *replay) decidedSYN(f *Frame, t *track, m rewrite.MPTCP, d core.Decision, packet []byte) error {
	p, text := r.iface(f), describe(&r.seg, m)
	switch {
	case d.Key == (state.Key{}):
		return errors.Join(r.decided(r.cause(f, text), d, ""), r.passDecided(f, d))
	case t == nil || !r.repeats(d, t):
		t = r.begin(f, d.Key, d.Packet.Side)
	}
	t.syn, t.isn, t.data = m, r.seg.Seq, uint32(len(r.seg.Payload))
	t.verdict, t.entered, t.inInterface = d.Verdict, f.Direction, f.Interface
	r.sync(t)
	r.observe(p, t, m, f.Number)
	return r.carryOut(f, t, d, packet, text)
}

// own takes a SYN that the machine of the box itself has sent or gets, and no queue:
// a subflow of its, most of the time. Its connection tells of it.
func (r *replay) ownSubflow(f *Frame, p *captureInterface, m rewrite.MPTCP) error {
	if _, known := r.tokens[m.Token]; m.Join && known {
		t := &track{
			key: state.KeyOf(r.seg.Src, r.seg.Dst), client: r.seg.Src, server: r.seg.Dst,
			side: p.side, action: state.Pass, state: state.Passed, own: true,
		}
		t.flow = &Flow{Client: t.client, Server: t.server}
		r.tracks.begin(t)
		r.observe(p, t, m, f.Number)
	}
	return r.pass(f)
}

// repeats tells whether a decision was about another SYN of a flow that is there
// already. The table takes one that has passed for a new flow; people do not.
func (r *replay) repeats(d core.Decision, t *track) bool {
	if t.key != d.Key {
		return false
	}
	fl, _ := r.core.Flow(d.Key)
	again := t.isn == r.seg.Seq && t.state == fl.State && (fl.State == state.Passed || fl.State == state.Rejected)
	return again || d.Supersedes || d.Verdict == core.Deliver || t.state == state.Learning
}

// begin follows a flow that has just been entered in the table.
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

// follow takes a track to the state that its flow has in the table.
func (r *replay) sync(t *track) {
	if fl, ok := r.core.Flow(t.key); ok && fl.State != t.state {
		r.tracks.setState(t, fl)
	}
}

// copies tells whether the capture shows with the segment in hand how one leaves the
// box that it has shown coming in.
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

// hasLeft tells whether the capture shows a SYN on its way out of the box: a copy
// of one that it shows coming in, or that of the box which was captured itself.
func (r *replay) hasLeft(f *Frame, p *captureInterface, t *track, m rewrite.MPTCP) bool {
	if r.isCopy {
		return true
	}
	if !p.sentByBox(f) && !(p.sideKnown && t.state == state.Dialing && p.side != t.side) {
		return false
	}
	t.onward = r.seg.Seq
	r.observe(p, t, m, f.Number)
	return true
}

// copyOf takes a packet that the capture shows a second time. It stays only if the
// first one does.
func (r *replay) passCopy(f *Frame, t *track) error {
	if t.verdict == core.Accept && !r.iface(f).recorded {
		return r.pass(f)
	}
	return r.omit()
}

// carryOut does what a decision about a SYN asks for.
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
			err = r.omit() // the box's kernel knows what to answer, if anything
			break
		}
		out, end = describePacket(t.reply), Client
		err = r.writeBuilt(r.reversed(f), r.iface(f).Interface, t.reply, d)
	case core.Prohibited: // the server's address stands for the box's, which no capture tells
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

// maxSteps bounds what is kept of one handshake.
const maxSteps = 24
