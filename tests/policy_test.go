//go:build linux

package tests

import (
	"cmp"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// TestPolicyIsReplacedWhileABoxRuns makes a CPE read its rules again: valid ones apply
// to new flows and leave running ones alone, invalid ones change nothing.
func TestPolicyIsReplacedWhileABoxRuns(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	file := configFile(t, "")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := start(t, n, "--config", file)
	l := listenAt(t, n.Server, netlab.Server6)
	serve(l, echo)
	// connect makes a connection and returns the reason of its flow.
	connect := func() (state, reason string, c net.Conn) {
		t.Helper()
		c = dial(t, n.Client, addrOf(l))
		chat(t, c, "hello")
		f, ok := flowFrom(t, p.cpe, c)
		if !ok {
			t.Fatal("the flow is not shown")
		}
		return f.State, cmp.Or(f.Reason, f.Rule), c
	}
	state, _, first := connect()
	if state != "relaying" {
		t.Errorf("without rules a flow is %s", state)
	}
	write("[[rule]]\nname = \"servers\"\nto = [\"" + netlab.Server6.String() + "\"]\naction = \"pass\"\n")
	if err := p.cpe.Reload(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new rule holds", func() bool {
		state, reason, _ := connect()
		return state == "passed" && reason == "servers"
	})
	chat(t, first, "still there")
	write("[[rule]]\nto = [\"nowhere\"]\naction = \"reject\"\n")
	if err := p.cpe.Reload(); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if state, reason, _ := connect(); state != "passed" || reason != "servers" {
			t.Errorf("after bad rules a flow is %s because of %q", state, reason)
		}
	}
	cpe := p.cpe
	p.down(t)
	if log := strings.Join(cpe.Log(), "\n"); !strings.Contains(log, "the settings stay as they are") || !strings.Contains(log, "nowhere") {
		t.Errorf("nobody said why: %q", log)
	}
}

// A box that reads its file again applies limits, times and the level of the log, and names
// the keys that need a restart.
func TestReloadAppliesLimitsAndNamesWhatNeedsARestart(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	file := configFile(t, "")
	p := start(t, n, "--config", file)
	l := listenAt(t, n.Server, netlab.Server6)
	serve(l, echo)
	first := dial(t, n.Client, addrOf(l))
	chat(t, first, "hello")
	reload := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := p.cpe.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	reasons := func(want string) func() bool {
		return func() bool {
			c := dial(t, n.Client, addrOf(l))
			defer c.Close()
			chat(t, c, "hello")
			f, _ := flowFrom(t, p.cpe, c)
			return f.Reason == want
		}
	}
	reload("log_level = \"debug\"\nqueue = 92\ninitial_window = 20\n[limits]\nflows = 1\n")
	eventually(t, "the box is full", reasons("flows-full"))
	chat(t, first, "still there")
	reload("queue = 91\n[limits]\nflows = 10\nflows = 11\n")
	if !reasons("flows-full")() {
		t.Error("a file with a mistake has changed a limit")
	}
	reload("log_level = \"debug\"\n[limits]\nflows = 100\n")
	eventually(t, "the box is full no longer", reasons(""))
	cpe := p.cpe
	p.down(t)
	log := strings.Join(cpe.Log(), "\n")
	for _, want := range []string{
		`some need a restart" file=` + file + ` applied="limits.flows, log_level" restart="initial_window, queue"`,
		"limits.flows is there twice",
		"level=DEBUG",
		`read again" file=` + file + ` applied=limits.flows`,
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log does not say %s: %s", want, log)
		}
	}
}
