package box

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
			core := newCore(state.Learn)
			d := core.Packet(0, state.Plain, 7, syn(t, mss))
			if m := optionsOf(t, d.Packet); d.Verdict != Rewrite || !m.Capable || m.Version != 1 {
				t.Errorf("the SYN: %v with %+v", d.Verdict, m)
			}
			d = core.Packet(time.Second, state.Multipath, 8, synack(t, mss, c.answer))
			if d.Verdict != c.verdict || d.Reason != c.reason {
				t.Errorf("the SYN+ACK: %v because of %q", d.Verdict, d.Reason)
			}
			if d.Verdict == Rewrite && optionsOf(t, d.Packet).Capable {
				t.Error("the client is to see MP_CAPABLE")
			}
			if _, live := core.Table.Lookup(key6); live {
				t.Error("the flow is still followed")
			}
			d = core.Packet(time.Minute, state.Plain, 9, syn(t, mss))
			if d.Verdict != c.later || d.Reason != c.reason {
				t.Errorf("a later SYN: %v because of %q", d.Verdict, d.Reason)
			}
			if d := core.Packet(3*time.Hour, state.Plain, 10, syn(t, mss)); c.later == Accept && d.Verdict != Rewrite {
				t.Errorf("a SYN when it is forgotten: %v because of %q", d.Verdict, d.Reason)
			}
		})
	}
}

func TestRepeatedSYNIsNotAskedAgain(t *testing.T) {
	core := newCore(state.Learn)
	core.Packet(0, state.Plain, 7, syn(t, mss))
	if d := core.Packet(time.Second, state.Plain, 8, syn(t, mss)); d.Verdict != Accept || d.Reason != "not-learnt" {
		t.Errorf("the repeat: %v because of %q", d.Verdict, d.Reason)
	}
	// Whatever comes now may answer the SYN without the option.
	if d := core.Packet(2*time.Second, state.Multipath, 9, synack(t, mss)); d.Verdict != Accept || d.Reason != "not-asked" {
		t.Errorf("the SYN+ACK: %v because of %q", d.Verdict, d.Reason)
	}
	if core.Learnt.Len() != 0 {
		t.Error("something was learnt")
	}
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
		core := newCore(c.action)
		d := core.Packet(0, c.side, 7, c.packet)
		if d.Verdict != Accept || d.Reason != c.reason || d.Packet != nil {
			t.Errorf("%s: %v because of %q", c.name, d.Verdict, d.Reason)
		}
		if core.Table.Totals().Reasons[c.reason] == 0 {
			t.Errorf("%s is not counted", c.name)
		}
		if _, live := core.Table.Lookup(key6); live {
			t.Errorf("%s: the flow is still followed", c.name)
		}
	}
}

func TestFullBoxStripsWhatItCannotBond(t *testing.T) {
	core := NewCore(state.Config{MaxHalfOpen: 1}, state.LearntConfig{}, &Policy{Default: state.Relay})
	core.Packet(0, state.Multipath, 7, segment(t, client4, server4, func(h *layers.TCP) { h.SYN = true }, mss, capable))
	packet := syn(t, mss, capable)
	before := bytes.Clone(packet)
	d := core.Packet(0, state.Multipath, 8, packet)
	if d.Verdict != Rewrite || d.Reason != "half-open-full" || optionsOf(t, d.Packet).Capable {
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
		core := newCore(state.Learn)
		if d := core.Packet(0, state.Multipath, 7, syn(t, capable)); d.Verdict != Accept {
			t.Errorf("the first SYN: %v", d.Verdict)
		}
		if d := core.Packet(0, state.Plain, 8, synack(t, c.answer)); d.Verdict != Accept || d.Reason != c.reason {
			t.Errorf("the SYN+ACK: %v because of %q", d.Verdict, d.Reason)
		}
		if d := core.Packet(1, state.Multipath, 9, syn(t, capable)); d.Verdict != c.later || d.Reason != c.reason {
			t.Errorf("a later SYN: %v because of %q, want %v", d.Verdict, d.Reason, c.later)
		}
	}
}

func TestHostsOwnMPTCPIsMarkedForTheOtherBox(t *testing.T) {
	const code = 43
	policy := &Policy{Default: state.Relay, EndToEnd: code}
	cpe := NewCore(state.Config{}, state.LearntConfig{}, policy)
	hag := NewCore(state.Config{}, state.LearntConfig{}, policy)
	original := syn(t, mss, capable)
	d := cpe.Packet(0, state.Plain, 7, original)
	var s rewrite.Segment
	check(t, s.Parse(d.Packet))
	if d.Verdict != Rewrite || d.Reason != "end-to-end" || s.DSCP() != code {
		t.Fatalf("at the CPE: %v because of %q, DSCP %d", d.Verdict, d.Reason, s.DSCP())
	}
	d = hag.Packet(0, state.Multipath, 8, d.Packet)
	if d.Verdict != Rewrite || d.Reason != "end-to-end" || !bytes.Equal(d.Packet, original) {
		t.Errorf("at the HAG: %v because of %q, packet\n%x, want\n%x", d.Verdict, d.Reason, d.Packet, original)
	}
	marked := cpe.Packet(1, state.Plain, 9, original).Packet
	strips := NewCore(state.Config{}, state.LearntConfig{}, &Policy{Default: state.Strip, EndToEnd: code})
	if d := strips.Packet(0, state.Multipath, 8, marked); d.Reason != "end-to-end" || !bytes.Equal(d.Packet, original) {
		t.Errorf("at a HAG that strips: %v because of %q, packet\n%x, want\n%x", d.Verdict, d.Reason, d.Packet, original)
	}
	if d := hag.Packet(0, state.Multipath, 9, segment(t, client4, server4, func(h *layers.TCP) { h.SYN = true }, capable)); d.Verdict != Hold {
		t.Errorf("a SYN of the CPE's own at the HAG: %v", d.Verdict)
	}
}
