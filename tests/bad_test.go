//go:build linux

package tests

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/nfq"
)

// said is the exit code and the output of a program.
type said struct {
	code           int
	stdout, stderr string
}

// call runs synbond on a host to its end, within a time. A CPE stores what it
// stores in a folder of the test.
func call(t *testing.T, h *netlab.Host, change func(*exec.Cmd), args ...string) said {
	t.Helper()
	if len(args) > 0 && args[0] == "cpe" {
		args = append(args, "--state-dir", scratch(t))
	}
	p := synbond()
	cmd := h.Command(p.Path, args...)
	cmd.Env = append(os.Environ(), p.Env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if change != nil {
		change(cmd)
	}
	if err := h.Start(cmd); err != nil {
		t.Fatal(err)
	}
	stop := time.AfterFunc(10*time.Second, func() { cmd.Process.Kill() }) //nolint:errcheck // it may have ended
	defer stop.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return said{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// keptWindow matches the line that a box logs where it may load no BPF program, as in
// a user namespace. It is no error.
var keptWindow = regexp.MustCompile(`(?m)^time=\S+ level=INFO msg="` + keepsWindow + `".*\n`)

// oneLine checks that a program failed with that exit code and one line on standard
// error that has all words.
func (s said) oneLine(t *testing.T, code int, words ...string) {
	t.Helper()
	s.stderr = keptWindow.ReplaceAllString(s.stderr, "")
	if s.code != code {
		t.Errorf("exit code %d, want %d", s.code, code)
	}
	if strings.Count(s.stderr, "\n") != 1 || !strings.HasPrefix(s.stderr, "synbond: ") {
		t.Errorf("want one line that begins with the program's name, got %q", s.stderr)
	}
	for _, w := range words {
		if !strings.Contains(s.stderr, w) {
			t.Errorf("%q is not in %q", w, s.stderr)
		}
	}
}

func TestBadUsageGivesOneLineAndExitCode2(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	before := snapshot(t, n.CPE)
	for name, tt := range map[string]struct {
		args  string
		words []string
	}{
		"no subcommand":            {"", []string{"subcommand", "--help"}},
		"unknown subcommand":       {"bond", []string{`"bond"`}},
		"unknown flag":             {"cpe --plan lan", []string{"--plan"}},
		"a word too many":          {"cpe --plain lan --path dsl now", []string{`"now"`}},
		"no plain interface":       {"cpe --path dsl", []string{"--plain"}},
		"no path":                  {"cpe --plain lan", []string{"--path"}},
		"an interface twice":       {"cpe --plain lan --path lan", []string{"lan", "twice"}},
		"a side too many":          {"replay - --plain lan --path lan", []string{"lan", "twice"}},
		"two paths of one name":    {"cpe --plain lan --path dsl,name=a --path lte,name=a", []string{`"a"`, "name="}},
		"a path's unknown word":    {"cpe --plain lan --path dsl,speed=9", []string{"speed=9", "join="}},
		"a control path too long":  {"cpe --plain lan --path dsl --control /" + strings.Repeat("x", 200), []string{"--control", "107"}},
		"a path's unknown mode":    {"cpe --plain lan --path dsl,mode=maybe", []string{`"maybe"`, "standby"}},
		"a quota that is none":     {"cpe --plain lan --path dsl,quota=much/day", []string{`"much"`, "10GB"}},
		"a period that is none":    {"cpe --plain lan --path dsl,quota=1GB/year", []string{`"year"`, "month"}},
		"a rate that is none":      {"cpe --plain lan --path dsl,rate=fast", []string{`"fast"`, "20mbit"}},
		"an overflow of no rate":   {"cpe --plain lan --path dsl --path lte,mode=overflow", []string{"lte", "overflow", "busy"}},
		"a HAG's path of a mode":   {"hag --plain lan --path dsl,mode=standby --join 203.0.113.2:9", []string{"dsl", "CPE"}},
		"unknown way meanwhile":    {"cpe --plain lan --path dsl --first-path-down wait", []string{`"wait"`, "own-source"}},
		"a join without port":      {"cpe --plain lan --path dsl,join=2001:db8::1", []string{"2001:db8::1", "[2001:db8::1]:9000"}},
		"a join with port 0":       {"hag --plain lan --path dsl --join 203.0.113.2:0", []string{"203.0.113.2:0", "port"}},
		"a join to no address":     {"hag --plain lan --path dsl --join [::]:9000", []string{"[::]:9000"}},
		"a HAG without join":       {"hag --plain lan --path dsl", []string{"--join"}},
		"a HAG with a path's join": {"hag --plain lan --path dsl,join=203.0.113.2:9 --join 203.0.113.2:9", []string{"join="}},
		"unknown action":           {"cpe --plain lan --path dsl --action fly", []string{`"fly"`, "relay"}},
		"unknown log level":        {"cpe --plain lan --path dsl --log-level loud", []string{`"loud"`, "debug"}},
		"a queue out of range":     {"cpe --plain lan --path dsl --queue 65536", []string{"--queue"}},
		"unknown role":             {"rules --role router --plain lan --path dsl", []string{`"router"`, "cpe", "hag"}},
	} {
		t.Run(name, func(t *testing.T) {
			call(t, n.CPE, nil, strings.Fields(tt.args)...).oneLine(t, 2, tt.words...)
		})
	}
	same(t, before, snapshot(t, n.CPE))
}

func TestUnsuitableMachineGivesOneLineAndIsUnchanged(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	dir := scratch(t)
	control := filepath.Join(dir, "box.sock")
	cpe := "cpe --plain lan --path dsl --path lte --control " + control
	hag := "hag --plain wan --path dsl --path lte --control " + control
	join := netip.AddrPortFrom(n.Lines[0].HAG6, netlab.JoinPort)
	listen(t, n.HAG, "tcp", join)
	metrics := listenAt(t, n.CPE, netlab.CPELan6)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		host   *netlab.Host
		args   string
		change func(*exec.Cmd)
		words  []string
	}{
		"unknown plain interface":     {n.CPE, "cpe --plain lan9 --path dsl --control " + control, nil, []string{"lan9", "ip link"}},
		"unknown path":                {n.CPE, "cpe --plain lan --path dsl9 --control " + control, nil, []string{"dsl9", "ip link"}},
		"another's join address":      {n.HAG, hag + " --join 192.0.2.1:9000", nil, []string{"192.0.2.1", "no address of this machine"}},
		"a join port in use":          {n.HAG, hag + " --join " + join.String(), nil, []string{join.String(), "in use", "--join"}},
		"a metrics port in use":       {n.CPE, cpe + " --metrics " + metrics.Addr().String(), nil, []string{"in use", "--metrics"}},
		"a metrics address not its":   {n.CPE, cpe + " --metrics 192.0.2.1:9", nil, []string{"192.0.2.1", "--metrics"}},
		"a control path in a file":    {n.CPE, cpe + " --control " + file + "/box.sock", nil, []string{"--control"}},
		"a control path that is one":  {n.CPE, cpe + " --control " + file, nil, []string{file, "--control"}},
		"a configuration that is not": {n.CPE, "cpe --config /none.toml", nil, []string{"/none.toml"}},
		"no box to ask":               {n.CPE, "flows --control " + control, nil, []string{control}},
		"a kernel without MPTCP": {n.CPE, cpe, func(cmd *exec.Cmd) {
			cmd.Env = append(cmd.Env, roleVar+"=synbond-without-mptcp")
			cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
			cmd.SysProcAttr.Unshareflags = syscall.CLONE_NEWNS // makes all mounts private
		}, []string{"CONFIG_MPTCP"}},
		"a user without privilege": {n.CPE, cpe, func(cmd *exec.Cmd) {
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}
			if os.Getuid() != 0 || inUserNamespace() {
				cmd.SysProcAttr.Credential = nil // there is no other user: as one of a further namespace
				cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
			}
		}, []string{"privilege", "root"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := snapshot(t, tt.host)
			call(t, tt.host, tt.change, strings.Fields(tt.args)...).oneLine(t, 1, tt.words...)
			same(t, before, snapshot(t, tt.host))
		})
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
		t.Errorf("a foreign file has changed: %q, %v", b, err)
	}
	if left, _ := filepath.Glob(control + "*"); len(left) > 0 {
		t.Errorf("files left behind: %v", left)
	}
}

// inUserNamespace reports whether this user namespace maps only some users.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && !strings.Contains(string(b), "4294967295")
}

func TestSecondBoxIsRefused(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	other := scratch(t) + "/other.sock"
	for name, tt := range map[string]struct {
		host  *netlab.Host
		args  string
		words []string
	}{
		"on the same machine":          {p.CPE, "cpe --plain lan --path dsl --queue 77 --control " + other, []string{"another box"}},
		"of the other role":            {p.CPE, "hag --plain lan --path dsl --queue 77 --join 203.0.113.1:9 --control " + other, []string{"another box"}},
		"with the same control socket": {p.Client, "cpe --plain eth0 --path lo --control " + p.cpe.Control, []string{p.cpe.Control, "in use", "--control"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := snapshot(t, tt.host)
			call(t, tt.host, nil, strings.Fields(tt.args)...).oneLine(t, 1, tt.words...)
			same(t, before, snapshot(t, tt.host))
		})
	}
	l := listenAt(t, p.Server, netlab.Server6)
	serve(l, echo)
	p.relays(t, l) // the first box goes on
}

func TestQueueInUseGivesOneLine(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	ctx, cancel := context.WithCancel(t.Context())
	var q *nfq.Queue
	err := n.CPE.Do(func() (err error) {
		q, err = nfq.Open(nfq.QueueConfig{Number: 7, MaxLength: 10})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	defer cancel()
	if err := q.Start(ctx, func(nfq.Packet) {}); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, n.CPE)
	args := strings.Fields("cpe --plain lan --path dsl --queue 7 --control " + scratch(t) + "/box.sock")
	call(t, n.CPE, nil, args...).oneLine(t, 1, "7", "--queue")
	same(t, before, snapshot(t, n.CPE))
}

func TestConfigurationFileIsStrict(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	dir := scratch(t)
	file := filepath.Join(dir, "cpe.toml")
	const good = "plain = [\"lan\"]\ncontrol = \"DIR/box.sock\"\n\n[[path]]\ninterface = \"dsl\"\n"
	for name, tt := range map[string]struct {
		text  string
		words []string
	}{
		"unknown key":        {good + "speed = 3\n", []string{file + ":6", "path.speed"}},
		"unknown table":      {good + "[paths]\n", []string{file + ":6", "paths"}},
		"no TOML":            {"plain = [\"lan\"\n\npath = 3", []string{file + ":"}},
		"a word for a list":  {"plain = \"lan\"\n", []string{file + ":1", "plain"}},
		"a word for a limit": {good + "[limits]\nflows = \"many\"\n", []string{file + ":7", "flows"}},
		"a negative limit":   {good + "[limits]\nflows = -1\n", []string{"flows"}},
		"a time of no unit":  {good + "[timeouts]\ndial = \"fast\"\n", []string{file + ":7", "fast"}},
		"a negative time":    {good + "[timeouts]\ndial = \"-1s\"\n", []string{file + ":7", "-1s"}},
	} {
		t.Run(name, func(t *testing.T) {
			before := snapshot(t, n.CPE)
			text := strings.ReplaceAll(tt.text, "DIR", dir)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			got := call(t, n.CPE, nil, "cpe", "--config", file)
			if got.code != 1 && got.code != 2 {
				t.Errorf("exit code %d", got.code)
			}
			got.oneLine(t, got.code, tt.words...)
			if strings.Contains(got.stderr, "struct") {
				t.Errorf("an error in terms of the source code: %s", got.stderr)
			}
			same(t, before, snapshot(t, n.CPE))
		})
	}
	// A valid file works, and flags override it.
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(good, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := synbond().StartBox(n.CPE, dir, "cpe", "--config", file, "--path", "lte,name=mobile")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(); err != nil {
		t.Error(err)
	}
	if log := strings.Join(b.Log(), "\n"); !strings.Contains(log, "mobile") || strings.Contains(log, "dsl") {
		t.Errorf("the flag did not override the file: %s", log)
	}
}
