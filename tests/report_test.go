//go:build linux

package tests

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// report has synbond write a report on a host, and returns its files.
func report(t *testing.T, h *netlab.Host, args ...string) map[string]string {
	t.Helper()
	out := filepath.Join(scratch(t), "report.tar.gz")
	p := synbond()
	cmd := h.Command(p.Path, append([]string{"report", "--out", out}, args...)...)
	cmd.Env = append(os.Environ(), p.Env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := h.Run(cmd); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if at, err := f.Stat(); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("others may read the report: %v, %v", at.Mode(), err)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(z); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(header.Name, "synbond-report/")] = string(b)
	}
}

// A report has what a helper needs and no secret; with --anonymize no address either.
func TestReportHasNoSecretAndAnonymizedNoAddress(t *testing.T) {
	t.Parallel()
	const secret = "swordfish & co"
	dir := scratch(t)
	file := configFile(t, "# our "+secret+"\nplain = [\"lan\"]\n[[path]]\ninterface = \"dsl\"\n[[path]]\ninterface = \"lte\"\njoin = [\"203.0.113.34:9000\"]\n"+
		"[probe]\nsecret = \""+secret+"\"\n[[rule]]\nname = \"mine\"\nfrom = [\"192.0.2.200\"]\naction = \"pass\"\n")
	n := netlabtest.Build(t, twoLines)
	p := start(t, n, "--config", file, "--record", dir)
	var addresses []string
	for _, f := range families {
		l := listenAt(t, n.Server, f.server)
		serve(l, echo)
		chat(t, dial(t, n.Client, addrOf(l)), "hello")
		addresses = append(addresses, f.client.String(), f.server.String())
	}
	for _, l := range n.Lines {
		addresses = append(addresses, l.HAG6.String(), l.HAG4.String())
	}
	addresses = append(addresses, "192.0.2.200")
	eventually(t, "the recording has packets", func() bool { return dump(t, p.cpe).Totals.Recording.Packets >= 4 })
	for _, anonymize := range []bool{false, true} {
		args := []string{"--config", file, "--control", p.cpe.Control, "--recording"}
		if anonymize {
			args = append(args, "--anonymize")
		}
		files := report(t, n.CPE, args...)
		for _, name := range []string{"README.txt", "config.toml", "version.txt", "kernel.txt", "doctor.json", "rules.txt", "flows.json", "paths.json", "findings.json", "sysctl.txt"} {
			if files[name] == "" {
				t.Errorf("no %s in the report: %s", name, files["README.txt"])
			}
		}
		recordings, seen := 0, map[string]bool{}
		for name, text := range files {
			if strings.HasSuffix(name, ".pcapng") {
				recordings++
			}
			if strings.Contains(text, "swordfish") {
				t.Errorf("the secret is in %s", name)
			}
			for _, a := range addresses {
				binary := netip.MustParseAddr(a).AsSlice()
				if strings.Contains(text, a) || strings.HasSuffix(name, ".pcapng") && bytes.Contains([]byte(text), binary) {
					seen[a] = true
					if anonymize {
						t.Errorf("%s is in %s", a, name)
					}
				}
			}
		}
		if recordings == 0 || !anonymize && len(seen) < len(addresses)-2 {
			t.Errorf("anonymize %v: %d recordings, addresses %v", anonymize, recordings, seen)
		}
	}
	if left, _ := filepath.Glob("synbond-report-*"); slices.Compact(left) != nil {
		t.Errorf("left behind: %s", left)
	}
}
