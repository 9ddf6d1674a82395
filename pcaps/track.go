package pcaps

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// track is the state of a flow during the replay.
type track struct {
	key    state.Key
	client netip.AddrPort // as in the segments
	server netip.AddrPort // as in the segments
	side   state.Side
	action state.Action
	state  state.State // as in the core

	// Of the newest SYN: its MPTCP options, sequence number, bytes of data, verdict and
	// the direction of its frame.
	syn         rewrite.MPTCP
	isn         uint32
	data        uint32
	verdict     core.Verdict
	entered     Direction
	inInterface int // of that frame

	forwarded    bool // a copy of the SYN was captured on its way out of the box
	outInterface int  // of the copy

	onward uint32 // the sequence number of the onward SYN
	held   *Frame // the newest SYN, while Dialing
	quote  []byte // its packet, with the checksum on the wire
	// pending is the outcome of the dial until the packet of a recorded box to the client.
	pending outcome
	answer  uint32 // the sequence number of the SYN+ACK to the client
	reply   []byte // that SYN+ACK, while Released
	// renumbered is set if the captured box had its own sequence numbers towards the client,
	// and the capture does not have them.
	renumbered bool
	edited     bool // the box has edited the SYN+ACK of the server

	acked          bool // the client's first ACK has been captured
	finUp, finDown bool

	own   bool  // the machine of the box is an end of the connection
	flow  *Flow // in the report, or nil
	mptcp mptcpState
}

// sentByBox reports whether the box has sent a frame of the flow. It is false for a
// connection of the box's machine itself.
func (t *track) sentByBox(f *Frame, in *captureInterface) bool { return !t.own && in.sentByBox(f) }

// copied reports whether a frame of the flow, from the client (up) or from the server, is on
// its way out of a forwarding box: an earlier frame has the same packet.
func (t *track) copied(f *Frame, up bool) bool {
	switch {
	case !t.forwarded:
		return false
	case t.inInterface == t.outInterface: // the "any" interface
		return f.Direction == Outbound
	case up:
		return f.Interface == t.outInterface
	}
	return f.Interface == t.inInterface
}

// listens reports whether the client's handshake is with the box's MPTCP listener.
func (t *track) listens() bool { return t.action == state.Relay && t.side == state.Multipath }

// count adds a segment to the counters of the flow.
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

// fromClient reports whether a segment goes from the client to the server.
func (t *track) fromClient(seg *rewrite.Segment) bool { return seg.Src == t.client }

// tracks holds the tracks of all live flows, of all flows in the report, and of the last
// other flows that have ended. The core's table bounds the number of live flows.
type tracks struct {
	all     map[state.Key]*track // by pairOf
	waiting int                  // number of flows Dialing, Released or Learning
	ended   []*track             // not in the report, oldest first
}

// maxEnded bounds the tracks of ended flows that are not in the report.
const maxEnded = 4096

func newTracks() tracks { return tracks{all: make(map[state.Key]*track)} }

// pairOf returns a key for a 5-tuple, the same for both directions.
func pairOf(src, dst netip.AddrPort) state.Key {
	a, b := src.Addr().As16(), dst.Addr().As16()
	if order := bytes.Compare(a[:], b[:]); order > 0 || order == 0 && src.Port() > dst.Port() {
		src, dst = dst, src
	}
	return state.KeyOf(src, dst)
}

// of returns the track of a segment's flow, or nil.
func (ts *tracks) of(seg *rewrite.Segment) *track { return ts.all[pairOf(seg.Src, seg.Dst)] }

// byKey returns the track of the flow with a key, or nil.
func (ts *tracks) byKey(k state.Key) *track {
	t := ts.all[pairOf(k.Client(), k.Server())]
	if t == nil || t.key != k {
		return nil
	}
	return t
}

func waits(s state.State) bool { return s.Live() && s != state.Relaying }

// begin adds the track of a new flow. It replaces the track of an older flow with the same
// 5-tuple.
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

// setState sets the state of a track to the state of its flow in the core.
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

// end removes the oldest tracks of ended flows that are not in the report, when there are
// too many.
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
