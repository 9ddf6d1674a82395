package tests

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/cli"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/paths"
)

// playVar makes the test binary play a program, see play.
const playVar = "SYNBOND_TESTS_PLAY"

func TestMain(m *testing.M) {
	if part := os.Getenv(playVar); part != "" {
		os.Exit(play(part))
	}
	netlabtest.Main(watched{m})
}

// play is what a child process of the tests does.
func play(part string) int {
	switch part {
	case "synbond":
	case "synbond-without-mptcp": // on a kernel as it seems without CONFIG_MPTCP
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

// synbond is this test binary in the part of synbond.
func synbond() netlab.Program {
	return netlab.Program{Path: "/proc/self/exe", Env: []string{playVar + "=synbond"}}
}

// watched runs the tests and then looks for what they have left.
type watched struct{ m *testing.M }

func (w watched) Run() int {
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

// leftovers lists child processes, and network namespaces that a thread or a
// file of this process keeps alive.
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

// within bounds what a test does by time.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// family is one IP version with the addresses that the lab gives it.
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

// build makes a network that is taken down with the test.
func build(t *testing.T, topology netlab.Topology) *netlab.Network {
	t.Helper()
	netlabtest.Require(t)
	n, err := netlab.Build(topology)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// scratch is a folder with a path short enough for a unix socket.
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
	dir      string   // of the control sockets
	cpeFlags []string // of one that can be started again
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

// down stops the boxes that run; they must end as they should.
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

// kill ends both boxes as a crash would.
func (p *pair) kill(t *testing.T) {
	t.Helper()
	if err := errors.Join(p.cpe.Kill(), p.hag.Kill()); err != nil {
		t.Fatal(err)
	}
	p.cpe, p.hag = nil, nil
}

// dump is the state of a box with the flows that ended lately.
func dump(t *testing.T, b *netlab.Box) box.Dump {
	t.Helper()
	var d box.Dump
	if err := b.Flows(within(t, 5*time.Second), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// flowTo finds the flow to server, live or ended, that box b saw last.
func flowTo(t *testing.T, b *netlab.Box, server netip.AddrPort) (box.Flow, bool) {
	t.Helper()
	d := dump(t, b)
	slices.SortFunc(d.Flows, func(a, b box.Flow) int { return int(a.AgeMS - b.AgeMS) })
	i := slices.IndexFunc(d.Flows, func(f box.Flow) bool { return f.Server == server })
	if i < 0 {
		return box.Flow{}, false
	}
	return d.Flows[i], true
}

// flowFrom finds the flow of a client's connection as box b sees it.
func flowFrom(t *testing.T, b *netlab.Box, c net.Conn) (box.Flow, bool) {
	t.Helper()
	flows := dump(t, b).Flows
	i := slices.IndexFunc(flows, func(f box.Flow) bool { return f.Client.String() == c.LocalAddr().String() })
	if i < 0 {
		return box.Flow{}, false
	}
	return flows[i], true
}

// snapshot lists what a box might leave behind on the hosts.
func snapshot(t *testing.T, hosts ...*netlab.Host) []string {
	t.Helper()
	var all []string
	for _, h := range hosts {
		lines, err := h.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		err = h.Do(func() error {
			pm, err := paths.Open()
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

// listen opens a listener on a host that ends with the test, on a free port
// unless addr has one.
func listen(t *testing.T, h *netlab.Host, network string, addr netip.AddrPort) net.Listener {
	t.Helper()
	l, err := h.Listen(network, addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// listenAt is listen with TCP on a free port of an address.
func listenAt(t *testing.T, h *netlab.Host, addr netip.Addr) net.Listener {
	t.Helper()
	return listen(t, h, "tcp", netip.AddrPortFrom(addr, 0))
}

// serve answers every connection of l by fn until the listener closes.
func serve(l net.Listener, fn func(net.Conn)) {
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go func() {
					defer c.Close()
					fn(c)
				}()
			}
		}
	}()
}

// echo sends back what comes, to its end.
func echo(c net.Conn) { io.Copy(c, c) }

// chat sends a word to an echo server, and waits for it to come back.
func chat(t *testing.T, c net.Conn, word string) {
	t.Helper()
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(word))); err != nil {
		t.Fatal(err)
	}
}

// configFile is a configuration file with that text.
func configFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(scratch(t), "box.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// addrOf is where a listener listens.
func addrOf(l net.Listener) netip.AddrPort {
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// traffic runs the lab's traffic server on a host, and returns a dialer to it
// from another host.
func traffic(t *testing.T, server, client *netlab.Host, addr netip.Addr) netlab.Dialer {
	t.Helper()
	l := listenAt(t, server, addr)
	go netlab.ServeTraffic(l) //nolint:errcheck // ends with the listener
	return func(ctx context.Context) (net.Conn, error) {
		return client.Dial(ctx, "tcp", "", l.Addr().String())
	}
}

// dial connects from a host by TCP, with a deadline for all that follows.
func dial(t *testing.T, h *netlab.Host, to netip.AddrPort) net.Conn {
	t.Helper()
	c, err := h.Dial(within(t, 20*time.Second), "tcp", "", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// attempt connects, closes, and tells how long it took and the error number, 0
// for none.
func attempt(t *testing.T, h *netlab.Host, to netip.AddrPort) (time.Duration, syscall.Errno) {
	t.Helper()
	start := time.Now()
	c, err := h.Dial(within(t, 20*time.Second), "tcp", "", to.String())
	took := time.Since(start)
	if err == nil {
		c.Close()
		return took, 0
	}
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		t.Fatal(err)
	}
	return took, errno
}

// quickest is the shortest of a few attempts, and the error of the last one.
func quickest(t *testing.T, h *netlab.Host, to netip.AddrPort) (best time.Duration, errno syscall.Errno) {
	t.Helper()
	best = time.Hour
	for range 5 {
		var took time.Duration
		took, errno = attempt(t, h, to)
		best = min(best, took)
	}
	return best, errno
}

// eventually waits until fn is content, for at most 5 seconds.
func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for range 100 {
		if fn() {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("never seen: %s", what)
}
