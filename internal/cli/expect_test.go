package cli

import (
	"os"
	"strings"
	"testing"
)

// expected returns a file with the JSON of a replay, with a text replaced.
func expected(t *testing.T, in, old, text string) string {
	t.Helper()
	code, out, stderr := run("replay", "--json", in)
	if code != 0 || !strings.Contains(out, old) {
		t.Fatalf("exit %d, no %q: %s%s", code, old, out, stderr)
	}
	return write(t, "expected.json", []byte(strings.ReplaceAll(out, old, text)))
}

func TestReplayExpectsTheSameResults(t *testing.T) {
	in := capture(t)
	for _, args := range [][]string{nil, {"--json"}} {
		code, out, stderr := run(append([]string{"replay", in, "--expect", expected(t, in, "hold", "hold")}, args...)...)
		if code != 0 || stderr != "" || !strings.Contains(out, "hold") {
			t.Errorf("exit %d: %s%s", code, out, stderr)
		}
	}
}

func TestReplayNamesTheFirstDifferences(t *testing.T) {
	in := capture(t)
	decision := func(verdict string) string { return `,"verdict":"` + verdict + `"` }
	for _, c := range []struct {
		name, old, text string
		says            []string
	}{
		{"another verdict", decision("hold"), decision("accept"), []string{
			`decisions 1 (frame 1, 192.0.2.1:40000 → 198.51.100.2:443) verdict: "hold", expected "accept"`, "differences from ", ": 1\n"}},
		{"a decision more", "\"decisions\":[\n", "\"decisions\":[\n{\"frame\":0},\n", []string{`decisions 1: missing: {"frame":0}`, ": 1\n"}},
		{"a flow less", `"flows":[`, `"flows":[],"other":[`, []string{"flows 1: additional: {", "other: nothing, expected [{", ": 2\n"}},
		{"other counts", `"packets":2`, `"packets":3`, []string{"totals packets: 2, expected 3", "flows 1 (frame 1, 192.0.2.1:40000 → 198.51.100.2:443) packets: 2, expected 3"}},
		{"a key less", `"not_ip":0,`, ``, []string{"totals not_ip: 0, expected nothing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, stderr := run("replay", in, "--expect", expected(t, in, c.old, c.text))
			if code != exitFailure || !strings.Contains(out, "hold") {
				t.Errorf("exit %d: %s", code, out)
			}
			for _, text := range c.says {
				if !strings.Contains(stderr, text) {
					t.Errorf("no %q in:\n%s", text, stderr)
				}
			}
		})
	}
}

func TestReplayPrintsTenDifferences(t *testing.T) {
	in := capture(t)
	code, out, _ := run("replay", "--json", in)
	if code != 0 {
		t.Fatal(out)
	}
	many := write(t, "many.json", []byte(strings.ReplaceAll(out, `":`, `x":`)))
	if b, err := os.ReadFile(many); err == nil {
		text := string(b)
		for _, key := range []string{"decisions", "flows", "totals"} {
			text = strings.Replace(text, key+"x", key, 1)
		}
		many = write(t, "more.json", []byte(text))
	}
	code, _, stderr := run("replay", in, "--expect", many)
	if code != exitFailure || strings.Count(stderr, "\n") != shownDifferences+2 || !strings.Contains(stderr, "differences more\n") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestReplayRefusesOtherExpectations(t *testing.T) {
	in := capture(t)
	for _, c := range []struct{ name, file, says string }{
		{"no file", in + ".json", "no such file"},
		{"the capture itself", in, "want the output of synbond replay --json"},
		{"another object", write(t, "a.json", []byte(`{"flows":[]}`)), `no "decisions"`},
	} {
		code, out, stderr := run("replay", in, "--expect", c.file)
		if code != exitFailure || out != "" || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: exit %d: %s%s", c.name, code, out, stderr)
		}
	}
}
