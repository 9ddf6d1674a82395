package pcaps

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
)

// MPTCP options in the handshakes of the tests.
var (
	clientKey, serverKey = uint64(0x0102030405060708), uint64(0x1112131415161718)

	capableSYN    = rewrite.MPCapable{Version: 1, Flags: rewrite.CapableHMACSHA}.Append(nil)
	capableSYNACK = rewrite.MPCapable{Version: 1, Flags: rewrite.CapableHMACSHA, Form: rewrite.CapableKey, SenderKey: serverKey}.Append(nil)
	capableACK    = rewrite.MPCapable{
		Version: 1, Flags: rewrite.CapableHMACSHA, Form: rewrite.CapableKeys, SenderKey: clientKey, ReceiverKey: serverKey,
	}.Append(nil)
	oldSYN = rewrite.MPCapable{Flags: rewrite.CapableHMACSHA, Form: rewrite.CapableKey, SenderKey: clientKey}.Append(nil)
)

func relay(cfg Config) Config {
	if cfg.Policy == nil {
		cfg.Policy = &core.Policy{EndToEnd: 43}
	}
	return cfg
}

// replayed is the result of a replay.
type replayed struct {
	decisions []Decision
	lines     []string // each decision as "frame: in: verdict (reason): out"
	report    *Report
	out       []captured
	texts     []string // each frame of out
}

// replayFile replays a capture without faults.
func replayFile(t testing.TB, file []byte, cfg Config) replayed {
	t.Helper()
	p, err := tryReplay(t, file, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryReplay(t testing.TB, file []byte, cfg Config) (replayed, error) {
	t.Helper()
	var p replayed
	cfg = relay(cfg)
	cfg.Decided = func(d Decision) error {
		p.decisions = append(p.decisions, d)
		line := fmt.Sprintf("%d: %s: %s", d.Frame, d.In, d.Verdict)
		if d.Reason != "" {
			line += " (" + d.Reason + ")"
		}
		if d.Out != "" {
			line += ": " + d.Out
		}
		p.lines = append(p.lines, line)
		return nil
	}
	in, err := NewReader(bytes.NewReader(file))
	if err != nil {
		return p, err
	}
	var out bytes.Buffer
	p.report, err = Replay(t.Context(), in, NewWriter(&out, Pcapng), cfg)
	if out.Len() > 0 {
		var wrong error
		if p.out, wrong = readAll(&out); wrong != nil {
			t.Error(wrong)
		}
	}
	for i := range p.out {
		p.texts = append(p.texts, describePacket(p.out[i].Packet()))
	}
	return p, err
}

// wantLines compares the decisions.
func (p replayed) wantLines(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(p.lines, want) {
		t.Errorf("decisions\n\t%s\nwant\n\t%s", strings.Join(p.lines, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// wantOut compares the texts of the packets that left the box, and checks their checksums.
func (p replayed) wantOut(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(p.texts, want) {
		t.Errorf("out\n\t%s\nwant\n\t%s", strings.Join(p.texts, "\n\t"), strings.Join(want, "\n\t"))
	}
	for i, f := range p.out {
		var seg rewrite.Segment
		if err := seg.Parse(f.Packet()); err == nil && !seg.ChecksumOK() {
			t.Errorf("packet %d, %s, has a wrong checksum", i+1, p.texts[i])
		}
	}
}

// wantFlow compares side, action, state and reason of the only flow.
func (p replayed) wantFlow(t *testing.T, want string) *Flow {
	t.Helper()
	if len(p.report.Flows) != 1 {
		t.Fatalf("%d flows, want 1", len(p.report.Flows))
	}
	f := p.report.Flows[0]
	got := strings.TrimSpace(strings.Join([]string{f.Side, f.Action, f.State, f.Reason}, " "))
	if got != want {
		t.Errorf("flow is %q, want %q", got, want)
	}
	return f
}
