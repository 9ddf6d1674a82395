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
	if log := strings.Join(cpe.Log(), "\n"); !strings.Contains(log, "the policy stays as it is") || !strings.Contains(log, "nowhere") {
		t.Errorf("nobody said why: %q", log)
	}
}
