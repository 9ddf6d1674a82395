package pcaps

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/rewrite"
)

// summary returns a text for a frame: "SYN MP_CAPABLE v1, [2001:db8:1::2]:40000 → [2001:db8:2::2]:80".
func (f *captured) summary() string {
	p := f.Packet()
	var seg rewrite.Segment
	if p == nil {
		return "a frame without IP"
	}
	if report, ok := parseICMP(p); ok {
		return fmt.Sprintf("%s, from %s", report.text, report.from)
	}
	if err := seg.Parse(p); err != nil {
		return fmt.Sprintf("a packet of %d bytes (%v)", len(p), err)
	}
	return fmt.Sprintf("%s, %s → %s", strings.Join(elements(&seg), " "), seg.Src, seg.Dst)
}

// elements returns the flags of a segment and the names of its MPTCP options.
func elements(seg *rewrite.Segment) []string {
	words := []string{strings.ReplaceAll(seg.Flags.String(), "|", "+")}
	o := new(rewrite.Option)
	for walk := rewrite.WalkOptions(seg.Options); walk.Next(o); {
		switch {
		case o.Type == rewrite.OptionMPCapable:
			words = append(words, fmt.Sprintf("MP_CAPABLE v%d", o.MPCapable.Version))
		case o.Type.IsMPTCP():
			words = append(words, o.Type.String())
		}
	}
	return words
}

// field is one property of a frame, for a comparison.
type field struct{ name, value string }

// fields returns all properties of a frame, from the outermost header inwards.
func (f *captured) fields() []field {
	all := []field{
		{"time", f.Time.UTC().Format(time.RFC3339Nano)},
		{"interface", f.In.Name},
		{"link type", f.In.LinkType.String()},
		{"direction", f.Direction.String()},
		{"comments", fmt.Sprintf("%q", f.Comments)},
		{"length on the wire", fmt.Sprint(f.Length)},
		{"captured length", fmt.Sprint(len(f.Data))},
		{"link-layer header", fmt.Sprintf("%x", f.Data[:f.ip])},
	}
	var seg rewrite.Segment
	if p := f.Packet(); p != nil && seg.Parse(p) == nil {
		traits := seg.Traits()
		all = append(all,
			field{"addresses", fmt.Sprintf("%s → %s", seg.Src, seg.Dst)},
			field{"hop limit", fmt.Sprint(traits.HopLimit)},
			field{"DSCP", fmt.Sprint(traits.DSCP)},
			field{"flags and MPTCP options", strings.Join(elements(&seg), " ")},
			field{"sequence number", fmt.Sprint(seg.Seq)},
			field{"acknowledgment number", fmt.Sprint(seg.Ack)},
			field{"window", fmt.Sprint(seg.Window)},
			field{"options", fmt.Sprintf("%x", seg.Options)},
			field{"payload", fmt.Sprintf("%x", seg.Payload)},
		)
	}
	return append(all, field{"bytes", fmt.Sprintf("%x", f.Data)})
}

// difference returns a text for the first field that differs between two frames, or "".
func difference(want, got *captured) string {
	w, g := want.fields(), got.fields()
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			return fmt.Sprintf("%s %s, want %s", g[i].name, g[i].value, w[i].value)
		}
	}
	return ""
}

// differences compares two captures frame by frame, and returns a text for each difference.
// A missing or additional frame is one difference: the frames behind it still match.
func differences(want, got []captured) (texts []string) {
	w, g := 0, 0
	for w < len(want) || g < len(got) {
		switch {
		case g == len(got), w < len(want) && nextIs(want[w:], &got[g]):
			texts = append(texts, fmt.Sprintf("frame %d: missing: %s", w+1, want[w].summary()))
			w++
		case w == len(want), nextIs(got[g:], &want[w]):
			texts = append(texts, fmt.Sprintf("frame %d: additional: %s", g+1, got[g].summary()))
			g++
		default:
			if d := difference(&want[w], &got[g]); d != "" {
				texts = append(texts, fmt.Sprintf("frame %d: expected %s, got %s: %s", g+1, want[w].summary(), got[g].summary(), d))
			}
			w, g = w+1, g+1
		}
	}
	return texts
}

// nextIs reports whether a frame equals the second of a list, and not the first.
func nextIs(list []captured, f *captured) bool {
	return len(list) > 1 && difference(&list[0], f) != "" && difference(&list[1], f) == ""
}

func TestDifferencesOfCaptures(t *testing.T) {
	file := readFile(t, filepath.Join(goldenDir, "version0.hag.pcapng"))
	want := mustRead(t, file)
	for name, tt := range map[string]struct {
		change func([]captured) []captured
		want   []string // the beginning of each difference
	}{
		"the same": {func(all []captured) []captured { return all }, nil},
		"an option is gone": {func(all []captured) []captured {
			var seg rewrite.Segment
			if err := seg.Parse(all[0].Packet()); err != nil {
				t.Fatal(err)
			}
			stripped, err := seg.Strip(nil)
			if err != nil {
				t.Fatal(err)
			}
			all[0].Replace(stripped)
			return all
		}, []string{"frame 1: expected SYN MP_CAPABLE v0, [2001:db8:1::2]:40000 → [2001:db8:2::2]:443, got SYN, [2001:db8:1::2]:40000 → "}},
		"a comment differs": {func(all []captured) []captured {
			all[5].Comments = []string{"hold"}
			return all
		}, []string{`frame 6: expected SYN MP_JOIN SYN, [2001:db8:11:1::2]:40001 → [2001:db8:2::2]:443, got SYN MP_JOIN SYN, [2001:db8:11:1::2]:40001 → [2001:db8:2::2]:443: comments ["hold"], want []`}},
		"one is missing": {func(all []captured) []captured {
			return slices.Delete(all, 1, 2)
		}, []string{"frame 2: missing: SYN+ACK MP_CAPABLE v0, [2001:db8:2::2]:443 → [2001:db8:1::2]:40000"}},
		"one is additional": {func(all []captured) []captured {
			return slices.Insert(all, 1, all[22])
		}, []string{"frame 2: additional: RST+ACK, [2001:db8:2::2]:443 → [2001:db8:11:1::2]:40002"}},
		"the end is missing": {func(all []captured) []captured {
			return all[:len(all)-1]
		}, []string{"frame 29: missing: ACK, "}},
	} {
		t.Run(name, func(t *testing.T) {
			got := differences(want, tt.change(mustRead(t, file)))
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %d", got, len(tt.want))
			}
			for i, begins := range tt.want {
				if !strings.HasPrefix(got[i], begins) {
					t.Errorf("got\n%s\nwant\n%s…", got[i], begins)
				}
			}
		})
	}
}
