package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"github.com/synbond/synbond/pcaps"
)

// expectation compares a replay with the --json of an earlier one.
type expectation struct {
	file    string
	want    any
	got     bytes.Buffer
	printer replayPrinter // to got
}

// newExpectation reads the JSON of an earlier replay. It returns nil without a file.
func newExpectation(file string) (*expectation, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	e := &expectation{file: file}
	if e.want, err = parseReplay(b); err != nil {
		return nil, fmt.Errorf("--expect %s: want the output of synbond replay --json: %w", file, err)
	}
	e.printer = jsonPrinter(&e.got)
	return e, nil
}

// parseReplay reads the JSON of a replay.
func parseReplay(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	for _, key := range []string{"decisions", "flows", "totals"} {
		if _, ok := v[key]; !ok {
			return nil, fmt.Errorf("no %q", key)
		}
	}
	return v, nil
}

// with returns a printer that also gives everything to the expectation, which may be nil.
func (e *expectation) with(p replayPrinter) replayPrinter {
	if e == nil {
		return p
	}
	return replayPrinter{
		decided: func(d pcaps.Decision) error { return errors.Join(e.printer.decided(d), p.decided(d)) },
		end:     func(r *pcaps.Report) error { return errors.Join(e.printer.end(r), p.end(r)) },
	}
}

// shownDifferences bounds the differences that are printed.
const shownDifferences = 10

// compare prints the first differences, one a line, and returns an error if there are any.
// The expectation may be nil.
func (e *expectation) compare(w io.Writer) error {
	if e == nil {
		return nil
	}
	got, err := parseReplay(e.got.Bytes())
	if err != nil {
		return err
	}
	all := differ(nil, "", e.want, got)
	for _, d := range all[:min(len(all), shownDifferences)] {
		fmt.Fprintln(w, d)
	}
	if more := len(all) - shownDifferences; more > 0 {
		fmt.Fprintf(w, "and %d differences more\n", more)
	}
	if len(all) > 0 {
		return fmt.Errorf("differences from %s: %d", e.file, len(all))
	}
	return nil
}

// differ appends a text for each difference between two JSON values at a place.
func differ(texts []string, place string, want, got any) []string {
	switch w := want.(type) {
	case map[string]any:
		if g, ok := got.(map[string]any); ok {
			return differInKeys(texts, place, w, g)
		}
	case []any:
		if g, ok := got.([]any); ok {
			return differInItems(texts, place, w, g)
		}
	}
	if w, g := compactJSON(want), compactJSON(got); w != g {
		texts = append(texts, fmt.Sprintf("%s: %s, expected %s", place, g, w))
	}
	return texts
}

func differInKeys(texts []string, place string, want, got map[string]any) []string {
	keys := maps.Clone(want)
	maps.Copy(keys, got)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		at := key
		if place != "" {
			at = place + " " + key
		}
		w, expected := want[key]
		g, there := got[key]
		switch {
		case !there:
			texts = append(texts, fmt.Sprintf("%s: nothing, expected %s", at, compactJSON(w)))
		case !expected:
			texts = append(texts, fmt.Sprintf("%s: %s, expected nothing", at, compactJSON(g)))
		default:
			texts = differ(texts, at, w, g)
		}
	}
	return texts
}

// differInItems compares lists item by item. A missing or additional item is one difference:
// the items behind it still match.
func differInItems(texts []string, place string, want, got []any) []string {
	w, g := 0, 0
	for w < len(want) || g < len(got) {
		switch {
		case g == len(got), w < len(want) && secondIs(want[w:], got[g]):
			texts = append(texts, fmt.Sprintf("%s %d: missing: %s", place, w+1, compactJSON(want[w])))
			w++
		case w == len(want), secondIs(got[g:], want[w]):
			texts = append(texts, fmt.Sprintf("%s %d: additional: %s", place, g+1, compactJSON(got[g])))
			g++
		default:
			texts = differ(texts, fmt.Sprintf("%s %d%s", place, g+1, about(got[g])), want[w], got[g])
			w, g = w+1, g+1
		}
	}
	return texts
}

// secondIs reports whether a value equals the second of a list, and not the first.
func secondIs(list []any, v any) bool {
	text := compactJSON(v)
	return len(list) > 1 && compactJSON(list[0]) != text && compactJSON(list[1]) == text
}

// about returns the frame and the flow of a decision or flow in brackets, or "".
func about(v any) string {
	item, ok := v.(map[string]any)
	if !ok || item["client"] == nil || item["frame"] == nil {
		return ""
	}
	return fmt.Sprintf(" (frame %v, %v → %v)", item["frame"], item["client"], item["server"])
}

// compactJSON returns a value as JSON, with sorted keys.
func compactJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
