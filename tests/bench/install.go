//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// provide installs the tools that a system lacks, as root with Debian's apt-get. It
// returns the reason why the system cannot run, or "".
func (c *system) provide(ctx context.Context) string {
	missing := c.missing()
	if len(missing) == 0 {
		return ""
	}
	needs := "it needs " + strings.Join(missing, ", ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Getuid() != 0 {
		return needs
	}
	fmt.Fprintln(os.Stderr, "installing", strings.Join(missing, ", "))
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	install := append([]string{"install", "-qy", "--no-install-recommends"}, missing...)
	for _, args := range [][]string{{"update", "-q"}, install} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Sprintf("%s, and apt-get %s: %v: %s", needs, args[0], err, lastLine(out))
		}
	}
	if missing := c.missing(); len(missing) > 0 {
		return "it needs " + strings.Join(missing, ", ")
	}
	return ""
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
