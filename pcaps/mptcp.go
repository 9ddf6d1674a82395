package pcaps

import (
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// session follows the MPTCP options of a flow.
type mptcpState struct {
	offered, answered bool // MP_CAPABLE in the SYN, in the SYN+ACK
	confirmed         bool // the client's first ACK has been seen
	version           uint8
	clientKey         uint64
	serverKey         uint64
	clientKnown       bool // the keys
	serverKnown       bool

	join *join // of a flow that begins with MP_JOIN
}

// tokenOwner is the end of a connection that a token names.
type tokenOwner struct {
	t      *track
	client bool
}

// Why a connection that was to be of MPTCP is one of TCP (RFC 8684, section 3.7).
const (
	plainAnswer  = "no MP_CAPABLE in the SYN+ACK"
	plainACK     = "no MP_CAPABLE in the third ACK"
	failed       = "MP_FAIL"
	infinite     = "infinite mapping"
	otherVersion = "the box's kernel speaks version 1 only"
	stripped     = "the box takes MP_CAPABLE out of the SYN"
	notCaptured  = "no MP_CAPABLE in the SYN+ACK that was captured; the box's has one"
)

// watched tells whether later segments may tell more.
func (s *mptcpState) watched() bool { return s.answered || s.join != nil && !s.confirmed }

// cut takes up a segment whose options the capture has cut off: no later one tells
// whether a subflow has joined.
func (s *mptcpState) cut() {
	if s.join != nil {
		s.confirmed = true
		s.join.state("answered; the options that tell more are cut off")
	}
}

// observe takes up the MPTCP options of a SYN or SYN+ACK of a flow. Where a box was
// recorded while it relayed, the multipath side has them.
func (r *replay) observe(p *captureInterface, t *track, m rewrite.MPTCP, frame int) {
	if t.flow == nil || p.recorded && p.side == state.Plain && t.action == state.Relay {
		return
	}
	s := &t.mptcp
	switch {
	case r.seg.IsSYN() && s.join != nil: // repeated
	case r.seg.IsSYN() && m.Join:
		r.beginJoin(t, m, frame)
	case r.seg.IsSYN():
		r.offer(p, t, m)
	case s.join != nil:
		s.join.answered(m)
	case s.offered:
		r.answerOffer(p, t, m)
	}
	t.describe()
}

// offer takes up a SYN without MP_JOIN.
func (r *replay) offer(p *captureInterface, t *track, m rewrite.MPTCP) {
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
	case t.action == state.Relay && t.side == state.Plain && !p.recorded:
		s.offered, s.version = true, 1 // by the box
	}
}

// answerOffer takes up a SYN+ACK. On the side of a relayed flow where the capture is
// not, the box plays the other end: what that would do is not captured.
func (r *replay) answerOffer(p *captureInterface, t *track, m rewrite.MPTCP) {
	s := &t.mptcp
	simulated := t.action == state.Relay && !p.recorded
	if simulated && t.side == state.Multipath && s.version != 1 {
		t.fallback(otherVersion) // whatever the server says
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

// observeACK takes up those of another segment, which may have data.
func (r *replay) observeACK(p *captureInterface, t *track, up bool) {
	if p.recorded && p.side == state.Plain && t.action == state.Relay {
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
	case hasDSS(seg.Options): // the ACK before it was lost
	default:
		t.fallback(plainACK)
	}
	t.describe()
}

// watchFallback looks for the ways in which a connection falls back later.
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

// learnKey remembers the key of one end, and that its token names it.
func (r *replay) learnKey(t *track, key uint64, client bool) {
	s := &t.mptcp
	if client {
		s.clientKey, s.clientKnown = key, true
	} else {
		s.serverKey, s.serverKnown = key, true
	}
	r.tokens[rewrite.Token(key, s.version)] = tokenOwner{t, client}
}

// describe says in the flow what is known of the connection.
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
