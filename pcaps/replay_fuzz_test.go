package pcaps

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// addReplaySeeds adds captures of handshakes: whole, truncated and recorded.
func addReplaySeeds(f *testing.F) {
	join, joinAnswer, joinACK := joinSteps(1)
	for _, packets := range [][][]byte{
		{conn6.syn(), conn6.syn(), conn6.synack(), conn6.ack(nil), conn6.fromClient(rewrite.FIN|rewrite.ACK, nil, "data")},
		{conn4.syn(capableSYN), conn4.synack(capableSYNACK), conn4.ack(capableACK), conn6.syn(join), conn6.synack(joinAnswer), conn6.ack(joinACK)},
		{conn4.synData("data", oldSYN), icmpError(core.NoRoute, server4.Addr(), client4.Addr(), conn4.syn())},
		{conn6.syn(), icmpError(core.HostUnreachable, server6.Addr(), client6.Addr(), conn6.syn())},
	} {
		for action := range state.Actions {
			f.Add(newCapture(f, Pcapng).add(packets...).bytes(), uint8(action))
			cut := newCapture(f, Pcap).on(Interface{LinkType: LinkCooked})
			for i, p := range packets {
				frame := cooked(byte(i*4), p)
				frame.Length = len(frame.Data)
				frame.Data = frame.Data[:len(frame.Data)*3/4]
				cut.frame(frame)
			}
			f.Add(cut.bytes(), uint8(action))
			recorded := newCapture(f, Pcapng)
			for i, p := range packets {
				recorded.on([]Interface{recordedLAN, recordedDSL}[i%2])
				recorded.frame(Frame{Data: p, Direction: Direction(i % 3)}, "queued")
			}
			f.Add(recorded.bytes(), uint8(action))
		}
	}
}

// FuzzReplay replays any bytes: nothing panics, and a Reader can read the output.
func FuzzReplay(f *testing.F) {
	addReplaySeeds(f)
	f.Fuzz(func(t *testing.T, file []byte, choice uint8) {
		in, err := NewReader(bytes.NewReader(file))
		if err != nil {
			return
		}
		roles := []core.Role{"", core.CPE, core.HAG}
		cfg := Config{
			Role:   roles[int(choice/8)%len(roles)],
			Policy: &core.Policy{Default: state.Action(int(choice) % len(state.Actions)), EndToEnd: 43},
			Table:  state.Config{MaxFlows: 4, MaxHalfOpen: 2, MaxEnded: 2}, MaxFlows: 3,
		}
		var out bytes.Buffer
		report, err := Replay(t.Context(), in, NewWriter(&out, Pcapng), cfg)
		if err != nil && !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrFormat) {
			t.Fatal(err)
		}
		if err := report.Print(new(bytes.Buffer)); err != nil {
			t.Fatal(err)
		}
		if report.Totals.Written == 0 {
			return
		}
		frames, err := readAll(&out)
		if err != nil || uint64(len(frames)) != report.Totals.Written {
			t.Errorf("read %d of %d written packets: %v", len(frames), report.Totals.Written, err)
		}
		if bytes.Contains(file, []byte("hold")) || bytes.Contains(file, []byte("deliver")) {
			return // comments of the capture may look like those of the replay
		}
		for i, fr := range frames {
			var seg rewrite.Segment
			decided := slices.ContainsFunc(fr.Comments, func(c string) bool { return c == "hold" || c == "deliver" })
			if decided && (seg.Parse(fr.Packet()) != nil || !seg.ChecksumOK()) {
				t.Errorf("packet %d is malformed: %x", i+1, fr.Data)
			}
		}
	})
}
