package core

import (
	"bytes"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// synack is the server's answer to [syn].
func synack(t *testing.T, options ...layers.TCPOption) []byte {
	t.Helper()
	return segment(t, server6, client6, func(h *layers.TCP) { h.SYN, h.ACK = true, true }, options...)
}

// capableSYNACK is MP_CAPABLE of version 1 with the sender's key.
var capableSYNACK = layers.TCPOption{OptionType: 30, OptionLength: 12, OptionData: []byte{0x01, 0x01, 1, 2, 3, 4, 5, 6, 7, 8}}

func optionsOf(t *testing.T, packet []byte) rewrite.MPTCP {
	t.Helper()
	var s rewrite.Segment
	check(t, s.Parse(packet))
	if !s.ChecksumOK() {
		t.Error("the checksum is wrong")
	}
	m, err := s.MPTCP()
	check(t, err)
	return m
}

func TestLearningAsksOnceAndThenKnows(t *testing.T) {
	for _, c := range []struct {
		name    string
		answer  layers.TCPOption
		verdict Verdict
		reason  string
		later   Verdict // of a SYN to the same destination
	}{
		{"a server that speaks MPTCP", capableSYNACK, Rewrite, "learnt-mptcp", Hold},
		{"a server that does not", mss, Accept, "learnt-plain", Accept},
	} {
		t.Run(c.name, func(t *testing.T) {
			core := newCore(t, state.Learn)
			d := core.decide(0, state.Plain, 7, syn(t, mss))
			if m := optionsOf(t, d.Edited); d.Verdict != Rewrite || !m.Capable || m.Version != 1 {
				t.Errorf("the SYN: %v with %+v", d.Verdict, m)
			}
			d = core.decide(time.Second, state.Multipath, 8, synack(t, mss, c.answer))
			if d.Verdict != c.verdict || d.Reason.String() != c.reason {
				t.Errorf("the SYN+ACK: %v because of %q", d.Verdict, d.Reason)
			}
			if d.Verdict == Rewrite && optionsOf(t, d.Edited).Capable {
				t.Error("the client is to see MP_CAPABLE")
			}
			if f, ok := core.Flow(key6); ok && f.State.Live() {
				t.Error("the flow is still followed")
			}
			d = core.decide(time.Minute, state.Plain, 9, syn(t, mss))
			if d.Verdict != c.later || d.Reason.String() != c.reason {
				t.Errorf("a later SYN: %v because of %q", d.Verdict, d.Reason)
			}
			if d := core.decide(3*time.Hour, state.Plain, 10, syn(t, mss)); c.later == Accept && d.Verdict != Rewrite {
				t.Errorf("a SYN when it is forgotten: %v because of %q", d.Verdict, d.Reason)
			}
		})
	}
}

func TestRepeatedSYNIsNotAskedAgain(t *testing.T) {
	core := newCore(t, state.Learn)
	core.decide(0, state.Plain, 7, syn(t, mss))
	if d := core.decide(time.Second, state.Plain, 8, syn(t, mss)); d.Verdict != Accept || d.Reason != state.NotLearnt {
		t.Errorf("the repeat: %v because of %q", d.Verdict, d.Reason)
	}
	// Whatever comes now may answer the SYN without the option.
	if d := core.decide(2*time.Second, state.Multipath, 9, synack(t, mss)); d.Verdict != Accept || d.Reason != state.NotAsked {
		t.Errorf("the SYN+ACK: %v because of %q", d.Verdict, d.Reason)
	}
	if core.LearntLen() != 0 {
		t.Error("something was learnt")
	}
}

func TestLateAndRepeatedAnswersDoNotReachTheClientWithMPCapable(t *testing.T) {
	answer := func(t *testing.T, core *driver, id uint32) {
		t.Helper()
		d := core.decide(2*time.Second, state.Multipath, id, synack(t, mss, capableSYNACK))
		if d.Verdict != Rewrite || optionsOf(t, d.Edited).Capable {
			t.Errorf("SYN+ACK %d: %v because of %q", id, d.Verdict, d.Reason)
		}
	}
	core := newCore(t, state.Learn)
	core.decide(0, state.Plain, 7, syn(t, mss))
	core.decide(time.Second, state.Plain, 8, syn(t, mss)) // passes without the option
	answer(t, core, 9)                                    // to the first SYN
	if core.LearntLen() != 0 {
		t.Error("something is learnt from a late answer")
	}
	core = newCore(t, state.Learn)
	core.decide(0, state.Plain, 7, syn(t, mss))
	answer(t, core, 8)
	answer(t, core, 9) // the server repeats it
}

func TestWhatCannotBeEditedPasses(t *testing.T) {
	full := layers.TCPOption{OptionType: 254, OptionLength: 40, OptionData: make([]byte, 38)}
	broken := syn(t, mss, capable)
	broken[len(broken)-1] ^= 1
	for _, c := range []struct {
		name   string
		side   state.Side
		packet []byte
		action state.Action
		reason string
	}{
		{"no room for an option", state.Plain, syn(t, full), state.Learn, "no-option-space"},
		{"a checksum that is wrong", state.Multipath, broken, state.Strip, "bad-checksum"},
	} {
		core := newCore(t, c.action)
		d := core.decide(0, c.side, 7, c.packet)
		if d.Verdict != Accept || d.Reason.String() != c.reason || d.Edited != nil {
			t.Errorf("%s: %v because of %q", c.name, d.Verdict, d.Reason)
		}
		if counted(core, c.reason) == 0 {
			t.Errorf("%s is not counted", c.name)
		}
		if f, ok := core.Flow(key6); ok && f.State.Live() {
			t.Errorf("%s: the flow is still followed", c.name)
		}
	}
}

func TestFullBoxStripsWhatItCannotBond(t *testing.T) {
	core := newDriver(t, Config{Table: state.Config{MaxHalfOpen: 1}, Policy: &Policy{Default: state.Relay}})
	core.decide(0, state.Multipath, 7, segment(t, client4, server4, func(h *layers.TCP) { h.SYN = true }, mss, capable))
	packet := syn(t, mss, capable)
	before := bytes.Clone(packet)
	d := core.decide(0, state.Multipath, 8, packet)
	if d.Verdict != Rewrite || d.Reason != state.HalfOpenFull || optionsOf(t, d.Edited).Capable {
		t.Errorf("%v because of %q", d.Verdict, d.Reason)
	}
	if !bytes.Equal(packet, before) {
		t.Error("the packet itself was changed")
	}
}

func TestHAGThatPrefersEndToEndLeavesServersAloneThatSpeakMPTCP(t *testing.T) {
	for _, c := range []struct {
		answer layers.TCPOption
		reason string
		later  Verdict
	}{{capableSYNACK, "learnt-mptcp", Accept}, {mss, "learnt-plain", Hold}} {
		core := newCore(t, state.Learn)
		if d := core.decide(0, state.Multipath, 7, syn(t, capable)); d.Verdict != Accept {
			t.Errorf("the first SYN: %v", d.Verdict)
		}
		if d := core.decide(0, state.Plain, 8, synack(t, c.answer)); d.Verdict != Accept || d.Reason.String() != c.reason {
			t.Errorf("the SYN+ACK: %v because of %q", d.Verdict, d.Reason)
		}
		if d := core.decide(1, state.Multipath, 9, syn(t, capable)); d.Verdict != c.later || d.Reason.String() != c.reason {
			t.Errorf("a later SYN: %v because of %q, want %v", d.Verdict, d.Reason, c.later)
		}
	}
}

func TestHostsOwnMPTCPIsMarkedForTheOtherBox(t *testing.T) {
	const code = 43
	policy := &Policy{Default: state.Relay, EndToEnd: code}
	cpe := newDriver(t, Config{Policy: policy})
	hag := newDriver(t, Config{Policy: policy})
	original := syn(t, mss, capable)
	d := cpe.decide(0, state.Plain, 7, original)
	var s rewrite.Segment
	check(t, s.Parse(d.Edited))
	if d.Verdict != Rewrite || d.Reason != state.EndToEnd || s.DSCP() != code {
		t.Fatalf("at the CPE: %v because of %q, DSCP %d", d.Verdict, d.Reason, s.DSCP())
	}
	d = hag.decide(0, state.Multipath, 8, d.Edited)
	if d.Verdict != Rewrite || d.Reason != state.EndToEnd || !bytes.Equal(d.Edited, original) {
		t.Errorf("at the HAG: %v because of %q, packet\n%x, want\n%x", d.Verdict, d.Reason, d.Edited, original)
	}
	marked := cpe.decide(1, state.Plain, 9, original).Edited
	strips := newDriver(t, Config{Policy: &Policy{Default: state.Strip, EndToEnd: code}})
	if d := strips.decide(0, state.Multipath, 8, marked); d.Reason != state.EndToEnd || !bytes.Equal(d.Edited, original) {
		t.Errorf("at a HAG that strips: %v because of %q, packet\n%x, want\n%x", d.Verdict, d.Reason, d.Edited, original)
	}
	if d := hag.decide(0, state.Multipath, 9, segment(t, client4, server4, func(h *layers.TCP) { h.SYN = true }, capable)); d.Verdict != Hold {
		t.Errorf("a SYN of the CPE's own at the HAG: %v", d.Verdict)
	}
	learns := newDriver(t, Config{Policy: &Policy{Default: state.Learn, EndToEnd: code}})
	learns.decide(0, state.Plain, 7, syn(t, mss))
	d = learns.decide(0, state.Plain, 8, original) // the client begins again, with MPTCP
	check(t, s.Parse(d.Edited))
	if d.Verdict != Rewrite || d.Reason != state.NotLearnt || s.DSCP() != code {
		t.Errorf("a SYN that takes the place of one to learn from: %v because of %q, DSCP %d", d.Verdict, d.Reason, s.DSCP())
	}
}
