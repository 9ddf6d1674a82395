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

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/pcaps"
	"github.com/synbond/synbond/rewrite"
)

// capture has the golden captures made anew: go test ./tests -run GoldenCaptures -capture.
var capture = flag.Bool("capture", false, "make the captures of pcaps/golden anew")

// goldenDir is where package pcaps keeps the captures that it replays.
const goldenDir = "../pcaps/golden"

// scene is something that happens in a network, and is captured.
type scene struct {
	name, shows string
	// film plays it. It returns a shot for each box that watched.
	film func(*testing.T) []shot
	// has lists, by the role of the box that watched, packets that must be there, as sketch says it.
	has map[string][]string
	// quick scenes are played in every run of the tests.
	quick bool
}

// shot is one capture of a scene: scene.role.pcapng.
type shot struct {
	role       string // of the box whose interfaces were watched
	format     string // of the file: "pcapng", or "pcap"
	origin     string // how it was made
	interfaces []pcaps.Interface
	frames     []pcaps.Frame
	flows      []box.Flow // what the box told of them, if it ran
}

// file is the name of the shot's file.
func (s shot) file(scene string) string { return scene + "." + s.role + "." + s.format }

// TestGoldenCapturesAreMadeByTheLab plays the quick scenes, or all of them with
// -capture, which then become the golden captures.
func TestGoldenCapturesAreMadeByTheLab(t *testing.T) {
	dir := t.TempDir()
	if *capture {
		dir = goldenDir
	}
	filmed, origins := 0, originsHead
	for _, sc := range scenes {
		if !sc.quick && !*capture {
			continue
		}
		t.Run(sc.name, func(t *testing.T) {
			for _, s := range sc.film(t) {
				s.write(t, dir, sc.name)
				sc.check(t, s.role, filepath.Join(dir, s.file(sc.name)))
				origins += sc.row(s)
			}
			filmed++
		})
	}
	if *capture && filmed == len(scenes) {
		save(t, filepath.Join(goldenDir, "README.md"), []byte(origins))
	}
}

// TestGoldenCapturesShowWhatTheySay looks into the captures as they are.
func TestGoldenCapturesShowWhatTheySay(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(goldenDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	files := captures(t)
	for _, sc := range scenes {
		for role := range sc.has {
			i := slices.IndexFunc(files, func(f string) bool {
				return strings.HasPrefix(filepath.Base(f), sc.name+"."+role+".pcap")
			})
			if i < 0 {
				t.Errorf("no capture of scene %s by the %s", sc.name, role)
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
		t.Errorf("captures of no scene: %q", files)
	}
}

// captures are the golden captures that there are.
func captures(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldenDir, "*.pcap*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// check reads a capture of the scene and compares it with what it must have.
func (sc scene) check(t *testing.T, role, file string) {
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
			t.Errorf("%s: interface %s does not say where it is from", file, link.Name)
		}
		seen[sketch(f)] = true
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

// readCapture has fn look at every frame of a capture.
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

// sketch says in a few words what a frame is: "SYN|ACK MP_CAPABLE v1", "ICMPv6 1/4".
func sketch(f *pcaps.Frame) string {
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

// write writes the shot's capture and, beside it, what the box told of the flows.
func (s shot) write(t *testing.T, dir, scene string) {
	t.Helper()
	var file bytes.Buffer
	name := filepath.Join(dir, s.file(scene))
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
		save(t, filepath.Join(dir, scene+"."+s.role+".flows.txt"), []byte(tell(s.flows)))
	}
}

func save(t *testing.T, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// tell prints what a box knew of its flows, the one that began first on top.
func tell(flows []box.Flow) string {
	var b strings.Builder
	slices.SortStableFunc(flows, func(x, y box.Flow) int { return int(y.AgeMS - x.AgeMS) })
	for _, f := range flows {
		fmt.Fprintf(&b, "%s → %s: %s, %s, %s, %s\n", f.Client, f.Server, f.Side, f.Action, f.State, cmp.Or(f.Reason, "-"))
	}
	return b.String()
}

// fromLab is the origin of captures of a real kernel.
func fromLab(t *testing.T) string {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	release := regexp.MustCompile(`^[0-9.]*[0-9]`).FindString(unix.ByteSliceToString(name.Release[:]))
	return "synbond's lab, Linux " + release + ", " + time.Now().UTC().Format(time.DateOnly)
}

// row is the line of origin of a shot.
func (sc scene) row(s shot) string {
	var at []string
	for _, in := range s.interfaces {
		at = append(at, in.Name)
	}
	return fmt.Sprintf("| `%s` | %s | %s: %s | %d | %s |\n",
		s.file(sc.name), sc.shows, strings.ToUpper(s.role), strings.Join(at, ", "), len(s.frames), s.origin)
}

const originsHead = `# Golden captures

Made by ` + "`go test ./tests -run TestGoldenCapturesAreMadeByTheLab -capture`" + `, which writes this page, too. A scene is played in
the lab, and captured by a box at its interfaces: SCENE.BOX.pcapng. Where that box ran, SCENE.BOX.flows.txt is what it told
of the flows afterwards: client, server, side, action, state, reason.

In [replayed](replayed) is what replaying each capture says, and writes, by role and action. ` + "`go test ./pcaps -run Golden`" + `
compares, and tells each packet that differs; with ` + "`-update`" + ` it makes the files anew.

| capture | what it shows | seen at | frames | origin |
|---|---|---|---|---|
`
