//go:build linux

package tests

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/pcaps"
	"github.com/synbond/synbond/rewrite"
)

// capture makes the golden captures again: go test ./tests -run GoldenCaptures -capture.
var capture = flag.Bool("capture", false, "make the captures in pcaps/golden again")

// goldenDir has the captures that package pcaps replays.
const goldenDir = "../pcaps/golden"

// goldenScenario is traffic on a network, with the captures of it.
type goldenScenario struct {
	name, shows string
	// run makes the traffic and returns one recording for each box that captured.
	run func(*testing.T) []recording
	// has lists the packets that a capture must have, as describe prints them, by the role of the box.
	has map[string][]string
	// quick scenarios run with every run of the tests.
	quick bool
}

// recording is one box's capture of a scenario: scenario.role.pcapng.
type recording struct {
	role       string // of the box whose interfaces were captured
	format     string // of the file: "pcapng", or "pcap"
	origin     string // kernel and date, or the program that wrote it
	interfaces []pcaps.Interface
	frames     []pcaps.Frame
	flows      []api.Flow // of the box, if it ran
}

// file returns the name of the recording's file.
func (s recording) file(scenario string) string { return scenario + "." + s.role + "." + s.format }

// TestGoldenCapturesAreMadeByTheLab runs the quick scenarios. With -capture it runs
// all of them, and their captures become the golden ones.
func TestGoldenCapturesAreMadeByTheLab(t *testing.T) {
	dir := t.TempDir()
	if *capture {
		dir = goldenDir
	}
	recorded, origins := 0, originsHead
	for _, sc := range goldenScenarios {
		if !sc.quick && !*capture {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			for _, s := range sc.run(t) {
				s.write(t, dir, sc.name)
				sc.check(t, s.role, filepath.Join(dir, s.file(sc.name)))
				origins += sc.row(s)
			}
			recorded++
		})
	}
	if *capture && recorded == len(goldenScenarios) {
		save(t, filepath.Join(goldenDir, "README.md"), []byte(origins))
	}
}

// TestGoldenCapturesShowWhatTheySay reads the captures in pcaps/golden.
func TestGoldenCapturesShowWhatTheySay(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(goldenDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files := captures(t)
	for _, sc := range goldenScenarios {
		for role := range sc.has {
			i := slices.IndexFunc(files, func(f string) bool {
				return strings.HasPrefix(filepath.Base(f), sc.name+"."+role+".pcap")
			})
			if i < 0 {
				t.Errorf("no capture of scenario %s by the %s", sc.name, role)
				continue
			}
			if !bytes.Contains(readme, []byte("`"+filepath.Base(files[i])+"`")) {
				t.Errorf("%s has no line of origin", files[i])
			}
			sc.check(t, role, files[i])
			files = slices.Delete(files, i, i+1)
		}
	}
	if len(files) > 0 {
		t.Errorf("captures of no scenario: %q", files)
	}
}

// captures returns the names of the golden captures' files.
func captures(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldenDir, "*.pcap*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// check reads a capture of the scenario and looks for the packets that it must have.
func (sc goldenScenario) check(t *testing.T, role, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 30<<10 {
		t.Errorf("%s has %d bytes: too many to keep", file, len(b))
	}
	seen := make(map[string]bool)
	readCapture(t, b, func(r *pcaps.Reader, f *pcaps.Frame) {
		if link := r.Interface(f.Interface); link.Description == "" && strings.HasSuffix(file, ".pcapng") {
			t.Errorf("%s: interface %s has no origin", file, link.Name)
		}
		seen[describe(f)] = true
	})
	for _, want := range sc.has[role] {
		if !seen[want] {
			t.Errorf("%s: no %s", file, want)
		}
	}
	odd := strings.HasPrefix(filepath.Base(file), "odd.")
	if seen[badChecksum] != odd {
		t.Errorf("%s: segments with a bad checksum: %v", file, seen[badChecksum])
	}
	if t.Failed() {
		t.Logf("%s has %q", file, slices.Sorted(maps.Keys(seen)))
	}
}

// readCapture calls fn for every frame of a capture.
func readCapture(t *testing.T, file []byte, fn func(*pcaps.Reader, *pcaps.Frame)) {
	t.Helper()
	r, err := pcaps.NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		fn(r, f)
	}
}

const badChecksum = "segment with a bad checksum"

// describe returns a frame's kind in a few words: "SYN|ACK MP_CAPABLE v1", "ICMPv6 1/4".
func describe(f *pcaps.Frame) string {
	p := f.Packet()
	var seg rewrite.Segment
	switch err := seg.Parse(p); {
	case p == nil:
		return "no IP packet"
	case f.Missing() > 0 && err != nil:
		return "cut"
	case len(p) >= 28 && p[0]>>4 == 4 && p[9] == unix.IPPROTO_ICMP:
		return fmt.Sprintf("ICMP %d/%d", p[20], p[21])
	case len(p) >= 48 && p[0]>>4 == 6 && p[6] == unix.IPPROTO_ICMPV6:
		return fmt.Sprintf("ICMPv6 %d/%d", p[40], p[41])
	case err != nil:
		return err.Error()
	case f.Missing() == 0 && !seg.ChecksumOK():
		return badChecksum
	}
	words := []string{seg.Flags.String()}
	o := new(rewrite.Option)
	for walk := rewrite.WalkOptions(seg.Options); walk.Next(o); {
		switch {
		case o.Type == rewrite.OptionMPCapable:
			words = append(words, fmt.Sprintf("MP_CAPABLE v%d", o.MPCapable.Version))
		case o.Type.IsMPTCP():
			name, _, _ := strings.Cut(o.Type.String(), " ")
			words = append(words, name)
		}
	}
	if len(seg.Payload) > 0 && seg.IsSYN() {
		words = append(words, "with data")
	}
	return strings.Join(words, " ")
}

// write writes the capture's file and, beside it, one with the flows that the box reported.
func (s recording) write(t *testing.T, dir, scenario string) {
	t.Helper()
	var file bytes.Buffer
	name := filepath.Join(dir, s.file(scenario))
	w := pcaps.NewWriter(&file, pcaps.FormatOf(name))
	for _, f := range s.frames {
		in := s.interfaces[f.Interface]
		in.Description = s.origin
		if err := w.Write(&f, in); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	save(t, name, file.Bytes())
	if s.flows != nil {
		save(t, filepath.Join(dir, scenario+"."+s.role+".flows.txt"), []byte(formatFlows(s.flows)))
	}
}

func save(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// formatFlows returns a line for each flow of a box, the oldest flow first.
func formatFlows(flows []api.Flow) string {
	var b strings.Builder
	slices.SortStableFunc(flows, func(x, y api.Flow) int { return int(y.AgeMS - x.AgeMS) })
	for _, f := range flows {
		fmt.Fprintf(&b, "%s → %s: %s, %s, %s, %s\n", f.Client, f.Server, f.Side, f.Action, f.State, cmp.Or(f.Reason, "-"))
	}
	return b.String()
}

// fromLab returns the origin of captures that the kernel's TCP made.
func fromLab(t *testing.T) string {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	release := regexp.MustCompile(`^[0-9.]*[0-9]`).FindString(unix.ByteSliceToString(name.Release[:]))
	return "synbond's lab, Linux " + release + ", " + time.Now().UTC().Format(time.DateOnly)
}

// row returns a recording's row in the table of the README.
func (sc goldenScenario) row(s recording) string {
	var at []string
	for _, in := range s.interfaces {
		at = append(at, in.Name)
	}
	return fmt.Sprintf("| `%s` | %s | %s: %s | %d | %s |\n",
		s.file(sc.name), sc.shows, strings.ToUpper(s.role), strings.Join(at, ", "), len(s.frames), s.origin)
}

const originsHead = `# Golden captures

Made by ` + "`go test ./tests -run TestGoldenCapturesAreMadeByTheLab -capture`" + `, which writes this page, too. A scenario runs in
the lab, and is captured on the interfaces of a box: SCENARIO.BOX.pcapng. Where that box ran, SCENARIO.BOX.flows.txt lists the
flows that it reported afterwards: client, server, side, action, state, reason.

[replayed](replayed) has the output of replaying each capture, and the captures written by it, by role and action.
` + "`go test ./pcaps -run Golden`" + ` compares both and prints each packet that differs; with ` + "`-update`" + ` it writes the files again.

| capture | what it shows | seen at | frames | origin |
|---|---|---|---|---|
`
