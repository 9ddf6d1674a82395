package pcaps

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// track follows a flow through the capture.
type track struct {
	key    state.Key
	client netip.AddrPort // as the segments have it, like server
	server netip.AddrPort
	side   state.Side
	action state.Action
	state  state.State // as in the table

	// Of the newest SYN: its MPTCP options, sequence number, data in bytes, the
	// verdict, and how its frame says that it came.
	syn         rewrite.MPTCP
	isn         uint32
	data        uint32
	verdict     core.Verdict
	entered     Direction
	inInterface int // of that frame

	forwarded    bool // a copy of the SYN was captured on its way out of the box
	outInterface int  // of the copy

	onward uint32 // the sequence number of the SYN that was sent on
	held   *Frame // the newest SYN, while Dialing
	quote  []byte // its packet, with the checksum that it had on the wire
	// pending is the outcome of the dial that a recorded box has yet to tell.
	pending outcome
	answer  uint32 // the sequence number of the SYN+ACK that the client sees
	reply   []byte // that SYN+ACK, while Released
	// renumbered tells that the box which was captured had sequence numbers of its
	// own for the client, and the capture does not show them.
	renumbered bool
	edited     bool // the SYN+ACK of the server has been edited

	acked          bool // the client's first ACK has been seen
	finUp, finDown bool

	own   bool  // the machine of the box is one of the ends
	flow  *Flow // of the report, or nil
	mptcp mptcpState
}

// leaving tells whether a frame shows what the box has sent for the flow. What its
// machine has sent of itself is no business of the box's.
func (t *track) sentByBox(f *Frame, p *captureInterface) bool { return !t.own && p.sentByBox(f) }

// copied tells whether a frame of a flow, on its way up or down, shows leaving the
// box what another has shown coming in.
func (t *track) copied(f *Frame, up bool) bool {
	switch {
	case !t.forwarded:
		return false
	case t.inInterface == t.outInterface: // "any" interface
		return f.Direction == Outbound
	case up:
		return f.Interface == t.outInterface
	}
	return f.Interface == t.inInterface
}

// listens tells whether the client's handshake is with the box's MPTCP listener.
func (t *track) listens() bool { return t.action == state.Relay && t.side == state.Multipath }

// count adds a segment to what the flow has carried.
func (t *track) count(seg *rewrite.Segment) {
	if t.flow == nil {
		return
	}
	t.flow.Packets++
	if t.fromClient(seg) {
		t.flow.BytesUp += uint64(len(seg.Payload))
	} else {
		t.flow.BytesDown += uint64(len(seg.Payload))
	}
}

// up tells whether a segment goes from the client to the server.
func (t *track) fromClient(seg *rewrite.Segment) bool { return seg.Src == t.client }

// tracks are the flows that are followed: the live ones, which the table bounds,
// those of the report, and the last others.
type tracks struct {
	all     map[state.Key]*track // by either direction, see pairOf
	waiting int                  // Dialing, Released or Learning
	ended   []*track             // that are in no report, oldest first
}

// maxEnded bounds the ended flows that are in no report and still remembered.
const maxEnded = 4096

func newTracks() tracks { return tracks{all: make(map[state.Key]*track)} }

// pairOf is the key of a 5-tuple whichever way a segment goes.
func pairOf(src, dst netip.AddrPort) state.Key {
	a, b := src.Addr().As16(), dst.Addr().As16()
	if order := bytes.Compare(a[:], b[:]); order > 0 || order == 0 && src.Port() > dst.Port() {
		src, dst = dst, src
	}
	return state.KeyOf(src, dst)
}

// of returns the flow that a segment belongs to, or nil.
func (ts *tracks) of(seg *rewrite.Segment) *track { return ts.all[pairOf(seg.Src, seg.Dst)] }

// byKey returns the flow with a key, or nil.
func (ts *tracks) byKey(k state.Key) *track {
	t := ts.all[pairOf(k.Client(), k.Server())]
	if t == nil || t.key != k {
		return nil
	}
	return t
}

func waits(s state.State) bool { return s.Live() && s != state.Relaying }

// begin follows a new flow, in the place of an older one of its 5-tuple.
func (ts *tracks) begin(t *track) {
	pair := pairOf(t.client, t.server)
	if old := ts.all[pair]; old != nil && waits(old.state) {
		ts.waiting--
	}
	ts.all[pair] = t
	if waits(t.state) {
		ts.waiting++
	}
	if !t.state.Live() {
		ts.end(t)
	}
}

// moved takes a track to where the table has its flow.
func (ts *tracks) setState(t *track, f state.Flow) {
	if waits(t.state) {
		ts.waiting--
	}
	if waits(f.State) {
		ts.waiting++
	}
	t.state = f.State
	if t.flow != nil {
		t.flow.State, t.flow.Reason = f.State.String(), f.Reason.String()
		t.flow.SetupUS = f.Setup.Microseconds()
	}
	if !f.State.Live() {
		ts.end(t)
	}
}

// end forgets, after a while, a flow that is in no report.
func (ts *tracks) end(t *track) {
	if t.flow != nil {
		return
	}
	ts.ended = append(ts.ended, t)
	if len(ts.ended) < 2*maxEnded {
		return
	}
	for _, old := range ts.ended[:maxEnded] {
		pair := pairOf(old.client, old.server)
		if ts.all[pair] == old {
			delete(ts.all, pair)
		}
	}
	ts.ended = slices.Delete(ts.ended, 0, maxEnded)
}
