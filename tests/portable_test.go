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

// Captures are also read and replayed on machines without Linux.
func TestPcapsBuildsOnMacOS(t *testing.T) {
	goTool(t, []string{"GOOS=darwin", "CGO_ENABLED=0"}, "vet", "./rewrite", "./state", "./internal/core", "./pcaps")
}

// A replay needs the decisions of a box, but nothing that changes a kernel.
func TestPcapsLinksNoKernelLibraries(t *testing.T) {
	unwanted := []string{bpfLib, nftablesLib, nfqueueLib, netlinkLib, routingLib, genetlinkLib, prometheusLib,
		module + "internal/box", module + "nfq", module + "relay"}
	for _, path := range strings.Fields(goTool(t, nil, "list", "-deps", "./pcaps")) {
		if slices.ContainsFunc(unwanted, func(u string) bool { return path == u || strings.HasPrefix(path, u+"/") }) {
			t.Errorf("pcaps links %s", path)
		}
	}
}
