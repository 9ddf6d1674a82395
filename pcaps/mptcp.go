package pcaps

import (
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// mptcpState is the MPTCP state of a flow, from the options of its segments.
type mptcpState struct {
	offered, answered bool // MP_CAPABLE in the SYN, in the SYN+ACK
	confirmed         bool // the client's first ACK has been captured
	version           uint8
	clientKey         uint64
	serverKey         uint64
	clientKnown       bool // clientKey is valid
	serverKnown       bool // serverKey is valid

	join *join // of a flow that begins with MP_JOIN, or nil
}

// tokenOwner is the end of a connection with a token.
type tokenOwner struct {
	t      *track
	client bool
}

// Reasons for the fallback of a connection from MPTCP to TCP (RFC 8684, section 3.7).
const (
	plainAnswer  = "no MP_CAPABLE in the SYN+ACK"
	plainACK     = "no MP_CAPABLE in the third ACK"
	failed       = "MP_FAIL"
	infinite     = "infinite mapping"
	otherVersion = "the box's kernel speaks version 1 only"
	stripped     = "the box takes MP_CAPABLE out of the SYN"
	notCaptured  = "no MP_CAPABLE in the SYN+ACK that was captured; the box's has one"
)

// watched reports whether options of later segments may change the state.
func (s *mptcpState) watched() bool { return s.answered || s.join != nil && !s.confirmed }

// cut handles a segment with truncated options. For a subflow the end of the handshake then
// stays unknown.
func (s *mptcpState) cut() {
	if s.join != nil {
		s.confirmed = true
		s.join.state("answered; the options that tell more are cut off")
	}
}

// observe handles the MPTCP options of a SYN or SYN+ACK of a flow. In the recording of a
// relaying box it uses the packets on the multipath side only.
func (r *replay) observe(in *captureInterface, t *track, m rewrite.MPTCP, frame int) {
	if t.flow == nil || in.recorded && in.side == state.Plain && t.action == state.Relay {
		return
	}
	s := &t.mptcp
	switch {
	case r.seg.IsSYN() && s.join != nil: // repeated
	case r.seg.IsSYN() && m.Join:
		r.beginJoin(t, m, frame)
	case r.seg.IsSYN():
		r.offer(in, t, m)
	case s.join != nil:
		s.join.answered(m)
	case s.offered:
		r.answerOffer(in, t, m)
	}
	t.describe()
}

// offer handles a SYN without MP_JOIN.
func (r *replay) offer(in *captureInterface, t *track, m rewrite.MPTCP) {
	s := &t.mptcp
	switch {
	case m.Capable:
		s.offered, s.version = true, m.Version
		if m.Version == 0 {
			r.learnKey(t, m.SenderKey, true)
		}
		if t.action == state.Strip {
			t.fallback(stripped)
		}
	case t.action == state.Relay && t.side == state.Plain && !in.recorded:
		s.offered, s.version = true, 1 // by the box
	}
}

// answerOffer handles a SYN+ACK. For a relayed flow the capture has one leg only, unless it
// is a recording; the replay simulates the end of the other leg.
func (r *replay) answerOffer(in *captureInterface, t *track, m rewrite.MPTCP) {
	s := &t.mptcp
	simulated := t.action == state.Relay && !in.recorded
	if simulated && t.side == state.Multipath && s.version != 1 {
		t.fallback(otherVersion) // regardless of the server's SYN+ACK
	}
	switch {
	case m.Capable:
		s.answered, s.version = true, m.Version
		s.confirmed = s.confirmed || simulated && t.side == state.Plain
		r.learnKey(t, m.SenderKey, false)
	case simulated && t.side == state.Multipath && t.syn.Capable:
		t.fallback(notCaptured)
	case !s.answered:
		t.fallback(plainAnswer)
	}
}

// observeACK handles the MPTCP options of any other segment, with or without data.
func (r *replay) observeACK(in *captureInterface, t *track, up bool) {
	if in.recorded && in.side == state.Plain && t.action == state.Relay {
		return
	}
	seg, s := &r.seg, &t.mptcp
	if s.join != nil {
		if up && !s.confirmed {
			s.confirmed = true
			s.join.confirmed(seg.Options)
		}
		return
	}
	if !s.answered {
		return
	}
	if s.confirmed {
		t.watchFallback(seg)
		return
	}
	if !up {
		return
	}
	s.confirmed = true
	m, err := seg.MPTCP()
	switch {
	case err == nil && m.Capable:
		r.learnKey(t, m.SenderKey, true)
	case hasDSS(seg.Options): // an earlier ACK with MP_CAPABLE was lost
	default:
		t.fallback(plainACK)
	}
	t.describe()
}

// watchFallback looks for the fallback of a connection after the handshake.
func (t *track) watchFallback(seg *rewrite.Segment) {
	var o rewrite.Option
	for walk := rewrite.WalkOptions(seg.Options); walk.Next(&o); {
		switch {
		case o.Type == rewrite.OptionMPFail:
			t.fallback(failed)
		case o.Type == rewrite.OptionDSS && o.DSS.HasMap && o.DSS.DataLength == 0 && !o.DSS.DataFIN:
			t.fallback(infinite)
		}
	}
}

func hasDSS(list []byte) bool {
	var o rewrite.Option
	for walk := rewrite.WalkOptions(list); walk.Next(&o); {
		if o.Type == rewrite.OptionDSS {
			return true
		}
	}
	return false
}

func (t *track) fallback(why string) {
	if t.flow != nil && t.flow.Fallback == "" {
		t.flow.Fallback = why
		t.flow.MPTCP = false
	}
}

// learnKey stores the key of one end, and the end under the token of the key.
func (r *replay) learnKey(t *track, key uint64, client bool) {
	s := &t.mptcp
	if client {
		s.clientKey, s.clientKnown = key, true
	} else {
		s.serverKey, s.serverKnown = key, true
	}
	r.tokens[rewrite.Token(key, s.version)] = tokenOwner{t, client}
}

// describe updates the report of the flow.
func (t *track) describe() {
	s, f := &t.mptcp, t.flow
	if s.offered {
		f.Version = new(s.version)
	}
	if s.clientKnown {
		f.ClientToken = rewrite.Token(s.clientKey, s.version)
	}
	if s.serverKnown {
		f.ServerToken = rewrite.Token(s.serverKey, s.version)
	}
	f.Token = f.ClientToken
	if t.side == state.Multipath {
		f.Token = f.ServerToken
	}
	f.MPTCP = s.answered && s.confirmed && f.Fallback == "" && t.state != state.Rejected
}
