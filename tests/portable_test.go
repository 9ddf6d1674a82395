//go:build linux

package tests

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// goTool runs the go command at the root of the module, and returns its output.
func goTool(t *testing.T, env []string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("go is required with CI=true: ", err)
		}
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Env = "..", append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// Captures are also replayed on machines without Linux: the whole command builds there, and
// every package with its tests. Where nothing has been compiled for it before, that takes minutes.
func TestCommandBuildsOnMacOS(t *testing.T) {
	long(t)
	goTool(t, []string{"GOOS=darwin", "GOARCH=arm64", "CGO_ENABLED=0"}, "vet", "./...")
}

// A replay needs the decisions of a box, but nothing that changes a kernel.
func TestReplayLinksNoKernelLibraries(t *testing.T) {
	unwanted := []string{bpfLib, nftablesLib, nfqueueLib, netlinkLib, routingLib, genetlinkLib, prometheusLib,
		module + "internal/box", module + "nfq", module + "relay"}
	for _, c := range []struct{ system, pkg string }{{"linux", "./pcaps"}, {"darwin", "."}} {
		for _, path := range strings.Fields(goTool(t, []string{"GOOS=" + c.system}, "list", "-deps", c.pkg)) {
			if slices.ContainsFunc(unwanted, func(u string) bool { return path == u || strings.HasPrefix(path, u+"/") }) {
				t.Errorf("%s on %s links %s", c.pkg, c.system, path)
			}
		}
	}
}
