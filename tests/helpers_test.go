//go:build linux

package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/cli"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// roleVar makes the test binary run as another program: see runRole.
const roleVar = "SYNBOND_TESTS_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVar); role != "" {
		os.Exit(runRole(role))
	}
	if netlab.Reexeced() && os.Getenv(ownRunVar) == "" {
		ownRun()
	}
	netlabtest.Main(leakChecked{m})
}

// ownRunVar is set in the environment of a test binary that ownRun started.
const ownRunVar = "SYNBOND_TESTS_OWN_RUN"

// ownRun starts another process of the test binary with an empty /run, where "ip netns" keeps
// the names of namespaces: root of a user namespace may not write to the machine's.
// It returns only where that cannot be; tests that need names then say so.
func ownRun() {
	if strings.HasPrefix(os.TempDir(), "/run/") {
		return // tests need their temporary files
	}
	runtime.LockOSThread() // the mount namespace is the thread's until Exec ends all others
	if unix.Unshare(unix.CLONE_NEWNS) != nil || unix.Mount("none", "/run", "tmpfs", 0, "mode=755") != nil {
		return
	}
	_ = unix.Exec("/proc/self/exe", os.Args, append(os.Environ(), ownRunVar+"=1")) // see above
}

// runRole is the main function of the tests' child processes. It returns the exit code.
func runRole(role string) int {
	switch role {
	case "synbond":
	case "synbond-without-mptcp": // as on a kernel without CONFIG_MPTCP
		if err := unix.Mount("none", "/proc/sys/net/mptcp", "tmpfs", 0, ""); err != nil {
			fmt.Println(err)
			return 3
		}
	case "web":
		return web()
	default:
		return 3
	}
	return cli.Main(os.Args[1:], os.Stdout, os.Stderr)
}

// synbond returns this test binary as the program synbond.
func synbond() netlab.Program {
	return netlab.Program{Path: "/proc/self/exe", Env: []string{roleVar + "=synbond"}}
}

// leakChecked runs the tests and then fails if processes or namespaces are left.
type leakChecked struct{ m *testing.M }

func (w leakChecked) Run() int {
	code := w.m.Run()
	var left []string
	for range 60 {
		if left = leftovers(); len(left) == 0 {
			return code
		}
		time.Sleep(50 * time.Millisecond)
	}
	fmt.Println("left behind:", strings.Join(left, ", "))
	return max(code, 1)
}

// leftovers lists this process's children, and the network namespaces that its
// threads and files keep alive.
func leftovers() []string {
	var left []string
	tasks, _ := filepath.Glob("/proc/self/task/*") // the pattern is right
	home, _ := os.Readlink("/proc/self/ns/net")
	for _, task := range tasks {
		b, err := os.ReadFile(task + "/children")
		if children := strings.TrimSpace(string(b)); err == nil && children != "" {
			left = append(left, "processes "+children)
		}
		if ns, err := os.Readlink(task + "/ns/net"); err == nil && ns != home {
			left = append(left, "a thread in "+ns)
		}
	}
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, f := range files {
		if ns, err := os.Readlink(f); err == nil && strings.HasPrefix(ns, "net:") {
			left = append(left, "an open "+ns)
		}
	}
	return left
}

// within returns a context that ends with the test, or after d.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// family is one IP version with its addresses in the network.
type family struct {
	name           string
	client, server netip.Addr
}

var families = []family{
	{"IPv6", netlab.Client6, netlab.Server6},
	{"IPv4", netlab.Client4, netlab.Server4},
}

// twoLines is an access network without delays: as fast as the machine.
var twoLines = netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}, {Name: "lte"}}}

// scratch makes a folder with a path short enough for a unix socket.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "synbond")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// pair is a network with both boxes running.
type pair struct {
	*netlab.Network
	cpe, hag *netlab.Box
	dir      string   // for control sockets
	cpeFlags []string // for restartCPE
}

// start starts both boxes, which end with the test.
func start(t *testing.T, n *netlab.Network, cpeFlags ...string) *pair {
	t.Helper()
	p := &pair{Network: n, dir: scratch(t)}
	p.up(t, cpeFlags...)
	t.Cleanup(func() { p.down(t) })
	return p
}

// up starts both boxes.
func (p *pair) up(t *testing.T, cpeFlags ...string) {
	t.Helper()
	var err error
	if p.cpe, p.hag, err = p.StartPair(synbond(), p.dir, cpeFlags...); err != nil {
		t.Fatal(err)
	}
}

// down stops the boxes that run, and fails the test unless they exit with 0.
func (p *pair) down(t *testing.T) {
	t.Helper()
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		if b == nil {
			continue
		}
		if err := b.Stop(); err != nil {
			t.Errorf("%s ended with %v: %s", b.Role, err, strings.Join(b.Log(), "; "))
		}
	}
	p.cpe, p.hag = nil, nil
}

// restartCPE stops the CPE and starts it again.
func (p *pair) restartCPE(t *testing.T) {
	t.Helper()
	err := p.cpe.Stop()
	p.cpe = nil
	if err == nil {
		p.cpe, err = synbond().StartBox(p.CPE, p.dir, "cpe", p.cpeFlags...)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// kill kills both boxes.
func (p *pair) kill(t *testing.T) {
	t.Helper()
	if err := errors.Join(p.cpe.Kill(), p.hag.Kill()); err != nil {
		t.Fatal(err)
	}
	p.cpe, p.hag = nil, nil
}

// dump returns the state of a box, with the flows that ended lately.
func dump(t *testing.T, b *netlab.Box) api.Dump {
	t.Helper()
	d, err := b.Flows(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return *d
}

// flowTo finds the youngest flow of box b to server, live or ended.
func flowTo(t *testing.T, b *netlab.Box, server netip.AddrPort) (api.Flow, bool) {
	t.Helper()
	d := dump(t, b)
	slices.SortFunc(d.Flows, func(a, b api.Flow) int { return int(a.AgeMS - b.AgeMS) })
	i := slices.IndexFunc(d.Flows, func(f api.Flow) bool { return f.Server == server })
	if i < 0 {
		return api.Flow{}, false
	}
	return d.Flows[i], true
}

// flowFrom finds the flow of box b that a client's connection is.
func flowFrom(t *testing.T, b *netlab.Box, c net.Conn) (api.Flow, bool) {
	t.Helper()
	flows := dump(t, b).Flows
	i := slices.IndexFunc(flows, func(f api.Flow) bool { return f.Client.String() == c.LocalAddr().String() })
	if i < 0 {
		return api.Flow{}, false
	}
	return flows[i], true
}

// snapshot lists everything that a box changes on hosts.
func snapshot(t *testing.T, hosts ...*netlab.Host) []string {
	t.Helper()
	var all []string
	for _, h := range hosts {
		lines, err := h.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		err = h.Do(func() error {
			pm, err := mptcp.Open()
			if err != nil {
				return err
			}
			defer pm.Close()
			endpoints, err := pm.Endpoints()
			if err != nil {
				return err
			}
			limits, err := pm.Limits()
			lines = append(lines, fmt.Sprintf("endpoints %v, limits %v", endpoints, limits))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			all = append(all, h.Name+": "+l)
		}
	}
	return all
}

// same compares two snapshots.
func same(t *testing.T, before, after []string) {
	t.Helper()
	for _, l := range after {
		if !slices.Contains(before, l) {
			t.Errorf("left behind: %s", l)
		}
	}
	for _, l := range before {
		if !slices.Contains(after, l) {
			t.Errorf("taken away: %s", l)
		}
	}
}

// configFile writes a configuration file.
func configFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(scratch(t), "box.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// eventually fails a test unless fn returns true within half a minute: a busy
// machine takes its time.
func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(50 * time.Millisecond) {
		if fn() {
			return
		}
	}
	t.Errorf("never seen: %s", what)
}

// longVar in the environment has the tests run that wait for long.
const longVar = "SYNBOND_LONG"

// long skips a test that waits for a quarter of a minute or more, unless they are asked for.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv(longVar) == "" {
		t.Skip("it takes long: " + longVar + "=1 go test runs it")
	}
}
