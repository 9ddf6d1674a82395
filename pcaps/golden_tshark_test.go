package pcaps

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTsharkFindsNoFaultInGoldenReplays decodes with tshark each packet that a replay has
// built or edited.
func TestTsharkFindsNoFaultInGoldenReplays(t *testing.T) {
	var all bytes.Buffer
	w := NewWriter(&all, Pcapng)
	var from []string // of each frame
	for _, r := range replayCases(t) {
		got, capture := r.replay(t)
		copied := make(map[string]bool)
		for _, f := range mustRead(t, capture) {
			copied[string(f.Data)] = true
		}
		for i, f := range mustRead(t, got.out) {
			if copied[string(f.Data)] {
				continue
			}
			if err := w.Write(&f.Frame, f.In); err != nil {
				t.Fatal(err)
			}
			from = append(from, fmt.Sprintf("%s, frame %d: %s", r.name(), i+1, f.summary()))
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if len(from) < 100 {
		t.Errorf("%d packets built or edited, want 100 at least", len(from))
	}
	for _, line := range faults(t, all.Bytes()) {
		number, what, _ := strings.Cut(line, "\t")
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > len(from) {
			t.Fatalf("tshark printed %q", line)
		}
		t.Errorf("%s: tshark: %s", from[n-1], what)
	}
}

// faults returns tshark's lines for the frames of a capture that are malformed or have a
// wrong checksum. The packet quoted by an ICMP error may have a wrong checksum.
func faults(t *testing.T, file []byte) []string {
	t.Helper()
	const bad = "_ws.malformed || ip.checksum.status == 0 || icmp.checksum.status == 0 || icmpv6.checksum.status == 0" +
		" || (tcp.checksum.status == 0 && !icmp && !icmpv6)"
	lines := runTool(t, file, "tshark", "-n", "-r", "FILE", "-Y", bad, "-T", "fields", "-e", "frame.number", "-e", "_ws.col.Info",
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE")
	return slices.DeleteFunc(lines, func(l string) bool { return l == "" })
}
