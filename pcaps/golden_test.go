package pcaps

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

// update writes the expected results again: go test ./pcaps -run Golden -update.
var update = flag.Bool("update", false, "write the results of replaying the golden captures to golden/replayed")

const (
	goldenDir   = "golden"
	replayedDir = "golden/replayed"
)

// replayCase is one way to replay a golden capture.
type replayCase struct {
	file   string // of the capture
	role   string // "any" without a role
	action state.Action
	live   bool // the box that ran during the capture had this action
}

// name returns the name of the expected results: SCENARIO.BOX.ROLE-ACTION.
func (r replayCase) name() string { return nameOf(r.file) + "." + r.role + "-" + r.action.String() }

// nameOf returns the scenario and the box of a capture: SCENARIO.BOX.
func nameOf(file string) string {
	return strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
}

// live holds the default action of the boxes in scenarios with another one than relay.
var live = map[string]state.Action{"learn": state.Learn, "prefer": state.Learn}

// others holds further actions for the replay of a capture.
var others = map[string][]state.Action{
	"relayed-ipv6.cpe":      {state.Pass, state.Learn, state.Reject},
	"relayed-ipv6.hag":      {state.Pass, state.Strip, state.Reject},
	"relayed-ipv4.cpe":      {state.Learn, state.Reject},
	"relayed-ipv4.hag":      {state.Strip},
	"retransmitted.cpe":     {state.Learn},
	"retransmitted.hag":     {state.Strip},
	"fast-open.cpe":         {state.Learn},
	"extension-headers.cpe": {state.Learn, state.Reject},
	"end-to-end.hag":        {state.Strip},
	"odd.cpe":               {state.Learn, state.Reject},
	"fallback.hag":          {state.Strip},
	"cooked.cpe":            {state.Learn},
	"vlan.hag":              {state.Strip},
	"snap.hag":              {state.Strip},
	"version0.hag":          {state.Strip},
}

// withoutRole lists captures for a further replay without a role.
var withoutRole = []string{"cooked.cpe", "version0.hag"}

// replayCases returns all ways to replay the golden captures.
func replayCases(t *testing.T) (all []replayCase) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldenDir, "*.pcap*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden captures: %v", err)
	}
	for _, file := range files {
		name := nameOf(file)
		scenario, role, _ := strings.Cut(name, ".")
		action, differs := live[scenario]
		if !differs {
			action = state.Relay
		}
		all = append(all, replayCase{file, role, action, true})
		for _, a := range others[name] {
			all = append(all, replayCase{file: file, role: role, action: a})
		}
		if slices.Contains(withoutRole, name) {
			all = append(all, replayCase{file: file, role: "any", action: state.Relay})
		}
	}
	return all
}

// joins are the addresses of the lab's HAG for subflows.
var joins = []netip.AddrPort{netip.MustParseAddrPort("[2001:db8:11:2::2]:9000"), netip.MustParseAddrPort("203.0.113.34:9000")}

// result is the result of a replayCase.
type result struct {
	text   []byte // the output of `synbond replay`
	report *Report
	out    []byte // the output capture
}

// replay replays the capture. It also returns the capture.
func (r replayCase) replay(t *testing.T) (result, []byte) {
	t.Helper()
	capture := readFile(t, r.file)
	in, err := NewReader(bytes.NewReader(capture))
	if err != nil {
		t.Fatal(err)
	}
	var text, out bytes.Buffer
	lines := Lines{W: &text}
	cfg := Config{
		Plain: []string{"lan", "wan"}, Paths: []string{"dsl", "lte"}, Join: joins,
		Policy:  &core.Policy{Default: r.action, EndToEnd: 43}, // the default of end_to_end_dscp
		Decided: lines.Decision,
	}
	if r.role != "any" {
		cfg.Role = core.Role(r.role)
	}
	report, err := Replay(t.Context(), in, NewWriter(&out, Pcapng), cfg)
	if err == nil {
		err = report.Print(&text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return result{text.Bytes(), report, out.Bytes()}, capture
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGoldenCapturesReplayAsExpected compares the text and the output capture of each
// replay, byte for byte.
func TestGoldenCapturesReplayAsExpected(t *testing.T) {
	left := make(map[string]bool)                              // expected results without a replayCase
	files, _ := filepath.Glob(filepath.Join(replayedDir, "*")) // the pattern is right
	for _, name := range files {
		left[name] = true
	}
	for _, r := range replayCases(t) {
		expected := filepath.Join(replayedDir, r.name())
		text, out := expected+".txt", expected+".pcapng.gz"
		delete(left, text)
		delete(left, out)
		t.Run(r.name(), func(t *testing.T) {
			got, _ := r.replay(t)
			if *update {
				save(t, text, got.text)
				save(t, out, gzipped(got.out))
				return
			}
			compareText(t, readFile(t, text), got.text)
			want := expanded(t, readFile(t, out))
			if bytes.Equal(want, got.out) {
				return
			}
			texts := differences(mustRead(t, want), mustRead(t, got.out))
			for _, d := range texts {
				t.Error(d)
			}
			if len(texts) == 0 {
				t.Error("the frames are the same, but the bytes of the file differ")
			}
		})
	}
	for name := range left {
		if !*update {
			t.Errorf("%s belongs to no replay", name)
		} else if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
}

func save(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// expanded decompresses a gzip file.
func expanded(t *testing.T, b []byte) []byte {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if b, err = io.ReadAll(r); err != nil {
		t.Fatal(err)
	}
	return b
}

// compareText reports the lines outside the longest common subsequence of two texts.
func compareText(t *testing.T, want, got []byte) {
	t.Helper()
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	common := make([][]int, len(w)+1) // number of common lines of w[i:] and g[j:]
	for i := range common {
		common[i] = make([]int, len(g)+1)
	}
	for i, line := range slices.Backward(w) {
		for j := range slices.Backward(g) {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if line == g[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	for i, j := 0, 0; i < len(w) || j < len(g); {
		switch {
		case i < len(w) && j < len(g) && w[i] == g[j]:
			i, j = i+1, j+1
		case j == len(g) || i < len(w) && common[i+1][j] >= common[i][j+1]:
			t.Errorf("line %d is missing: %s", j+1, w[i])
			i++
		default:
			t.Errorf("line %d is new: %s", j+1, g[j])
			j++
		}
	}
}

// TestGoldenReplaysAgreeWithLiveBoxes compares the flows of a replay with the flows that
// the box reported after the capture: the last flow of each 5-tuple.
func TestGoldenReplaysAgreeWithLiveBoxes(t *testing.T) {
	compared := 0
	for _, r := range replayCases(t) {
		reported, err := os.ReadFile(filepath.Join(goldenDir, nameOf(r.file)+".flows.txt"))
		if err != nil || !r.live {
			continue // a capture without a box, or a replay with another action
		}
		t.Run(r.name(), func(t *testing.T) {
			got, _ := r.replay(t)
			want := strings.Split(strings.TrimSpace(string(reported)), "\n")
			var flows []string
			for i, f := range got.report.Flows {
				if slices.ContainsFunc(got.report.Flows[i+1:], func(later *Flow) bool { return later.Client == f.Client && later.Server == f.Server }) {
					continue
				}
				flow := fmt.Sprintf("%s → %s: %s, %s, ", f.Client, f.Server, f.Side, f.Action)
				if f.State == state.Dialing.String() {
					// Without a packet to the client the capture does not have the outcome of the dial.
					want = slices.DeleteFunc(want, func(w string) bool { return strings.HasPrefix(w, flow) })
					continue
				}
				flows = append(flows, flow+f.State+", "+cmp.Or(f.Reason, "-"))
			}
			compared += len(want)
			for _, w := range want {
				if !slices.Contains(flows, w) {
					t.Errorf("missing in the replay: %s", w)
				}
			}
			for _, f := range flows {
				if !slices.Contains(want, f) {
					t.Errorf("only in the replay: %s", f)
				}
			}
		})
	}
	if compared < 40 {
		t.Errorf("%d flows compared, want 40 at least", compared)
	}
}
