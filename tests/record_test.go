//go:build linux

package tests

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// recordedPair starts both boxes, each with a configuration file, to record in
// one folder. They end with the test.
func recordedPair(t *testing.T, n *netlab.Network, dir, cpeConfig, hagConfig string) *pair {
	t.Helper()
	p := &pair{Network: n, dir: scratch(t)}
	t.Cleanup(func() { p.down(t) })
	join := netip.AddrPortFrom(n.Lines[1].HAG6, netlab.JoinPort).String()
	box := func(h *netlab.Host, role, config string, flags ...string) *netlab.Box {
		t.Helper()
		flags = append(flags, "--config", config, "--record", dir, "--path", "dsl")
		b, err := synbond().StartBox(h, p.dir, role, flags...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	p.hag = box(n.HAG, "hag", hagConfig, "--plain", netlab.HAGWanInterface, "--path", "lte", "--join", join)
	p.cpe = box(n.CPE, "cpe", cpeConfig, "--plain", netlab.CPELanInterface, "--path", "lte,join="+join)
	return p
}

// recordings returns the capture files of a role in a folder, oldest first.
func recordings(t *testing.T, dir, role string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, role+"-*.pcapng"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestRecordingIsBoundedUnderAFlood sends more SYNs than a small ring can hold.
func TestRecordingIsBoundedUnderAFlood(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	dir := scratch(t)
	small := configFile(t, "record_files = 3\nrecord_file_size = 100_000\n")
	p := recordedPair(t, n, dir, small, small)
	l := listenAt(t, n.Server, netlab.Server6)
	serve(l, echo)
	flood(t, n.Client, netlab.Client6, netip.AddrPortFrom(netlab.Server6, 9), 3000)
	eventually(t, "the flood is refused", func() bool { return dump(t, p.cpe).Totals.Entered["refused"] >= 3000 })
	if err := say(t.Context(), n.Client, addrOf(l)); err != nil {
		t.Error(err)
	}
	var d api.Dump
	var files []string
	eventually(t, "the last connection is written, and no file is begun while one looks", func() bool {
		before := dump(t, p.cpe).Totals.Recording
		d, files = dump(t, p.cpe), recordings(t, dir, "cpe")
		r := d.Totals.Recording
		return r.Packets+r.Dropped > 3000 && before.File == r.File && len(files) > 0 && files[len(files)-1] == r.File &&
			slices.ContainsFunc(d.Flows, func(f api.Flow) bool { return f.Server == addrOf(l) && f.Recording != "" })
	})
	if len(files) != 3 {
		t.Errorf("there are the files %q", files)
	}
	for _, file := range files {
		if at, err := os.Stat(file); err != nil || at.Size() > 100_000 {
			t.Errorf("%s: %v, %v", file, at, err)
		}
	}
	named := 0
	for _, f := range d.Flows {
		if f.Recording != "" && !slices.Contains(files, f.Recording) {
			t.Errorf("a flow is in %q, which is not there", f.Recording)
		}
		if f.Recording != "" {
			named++
		}
	}
	if named == len(d.Flows) {
		t.Errorf("all %d flows are in the ring", named)
	}
}

// TestRecordingOutlivesItsFolder removes the folder of a box's recording, and restores it.
func TestRecordingOutlivesItsFolder(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	dir := filepath.Join(scratch(t), "recordings")
	p := recordedPair(t, n, dir, configFile(t, ""), configFile(t, ""))
	l := listenAt(t, n.Server, netlab.Server6)
	serve(l, echo)
	if err := errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "packets are dropped", func() bool {
		if err := say(t.Context(), n.Client, addrOf(l)); err != nil {
			t.Error(err)
		}
		r := dump(t, p.cpe).Totals.Recording
		return r.Dropped > 0 && r.File == ""
	})
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a new file", func() bool {
		if err := say(t.Context(), n.Client, addrOf(l)); err != nil {
			t.Error(err)
		}
		return dump(t, p.cpe).Totals.Recording.File != ""
	})
	cpe := p.cpe
	p.down(t)
	log := strings.Join(cpe.Log(), "\n")
	if strings.Count(log, "cannot record") != 1 || !strings.Contains(log, "the recording goes on") {
		t.Errorf("the box said %q", log)
	}
	for _, role := range []string{"cpe", "hag"} {
		for _, file := range recordings(t, dir, role) {
			if len(frames(t, file)) == 0 {
				t.Errorf("%s is empty", file)
			}
		}
	}
}

func TestRecordingOfAKilledBoxIsReadable(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	dir := scratch(t)
	p := recordedPair(t, n, dir, configFile(t, ""), configFile(t, ""))
	l := listenAt(t, n.Server, netlab.Server6)
	serve(l, echo)
	if err := say(t.Context(), n.Client, addrOf(l)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the handshake is flushed", func() bool { return dump(t, p.cpe).Totals.Recording.Packets >= 4 })
	p.kill(t)
	if got := len(frames(t, recordings(t, dir, "cpe")[0])); got < 4 {
		t.Errorf("%d frames are left", got)
	}
}

func TestRecordingNeedsAFolder(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	file := configFile(t, "")
	before := snapshot(t, n.CPE)
	call(t, n.CPE, nil, "cpe", "--plain", netlab.CPELanInterface, "--path", "dsl", "--record", filepath.Join(file, "under"),
		"--control", filepath.Join(scratch(t), "box.sock")).oneLine(t, 1, file, "--record")
	same(t, before, snapshot(t, n.CPE))
}
