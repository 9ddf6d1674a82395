//go:build linux

package box

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/host"
)

func TestCheckThatPanicsIsNamedOnce(t *testing.T) {
	x := newBench(t, Config{Role: HAG})
	var log bytes.Buffer
	x.cfg.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	found := host.Result{Name: "clock", Findings: []host.Finding{host.WrongClock.Finding("", "wrong")}}
	x.report([]host.Result{found})
	for range 3 {
		x.report([]host.Result{
			{Name: "firewall", Err: fmt.Errorf("%w: odd rule", host.ErrPanic)},
			{Name: "clock", Err: fmt.Errorf("no answer")},
			{Name: "interfaces", Err: fmt.Errorf("%w: odd link", host.ErrPanic)},
		})
	}
	for _, name := range []string{"firewall", "interfaces"} {
		if n := strings.Count(log.String(), "check="+name); n != 1 {
			t.Errorf("the check %q is named %d times", name, n)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want 2:\n%s", n, &log)
	}
	if all := x.findings.All(); len(all) != 1 {
		t.Errorf("a check that cannot look changes what was found: %v", all)
	}
}
