//go:build linux

package tests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/tooltest"
)

// network is a shell script that builds a network with ip(8): see its head.
const network = "testdata/network.sh"

// web is an HTTP server. GET / returns the client's address, GET /object returns
// object, PUT returns the hash of the body.
func web() int {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr) // the server made it
		fmt.Fprint(w, host)
	})
	mux.HandleFunc("GET /object", func(w http.ResponseWriter, _ *http.Request) { w.Write(object()) })
	mux.HandleFunc("PUT /", func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		if _, err := io.Copy(h, r.Body); err != nil {
			return
		}
		fmt.Fprintf(w, "%x", h.Sum(nil))
	})
	fmt.Fprintln(os.Stderr, http.ListenAndServe(":80", mux))
	return 1
}

// object returns 20 MB of pseudo-random bytes.
func object() []byte {
	b := make([]byte, 20_000_000)
	rand.NewChaCha8([32]byte{42}).Read(b) //nolint:errcheck // never fails
	return b
}

// foreign is a network made by the script. The prefix begins its namespaces' names.
type foreign struct {
	prefix string
	self   string // the test binary
	dir    string
}

// foreignNetwork runs the script. It skips the test where the machine lacks a tool, or
// named namespaces.
func foreignNetwork(t *testing.T, tools ...string) foreign {
	t.Helper()
	const subject = "the boxes, tested with other programs"
	tooltest.Need(t, subject, append(tools, "bash", "ip", "sysctl")...)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := foreign{prefix: fmt.Sprintf("sbt%d", os.Getpid()), self: self, dir: scratch(t)}
	if out, err := exec.Command("ip", "netns", "add", f.prefix+"-probe").CombinedOutput(); err != nil {
		tooltest.Missing(t, subject, fmt.Sprintf("no named network namespaces: %v: %s", err, bytes.TrimSpace(out)))
	}
	if err := exec.Command("ip", "netns", "del", f.prefix+"-probe").Run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.script(t, "down") })
	f.script(t, "up")
	return f
}

func (f foreign) script(t *testing.T, verb string) {
	t.Helper()
	if out, err := exec.Command("bash", network, verb, f.prefix).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", network, verb, err, out)
	}
}

// command returns a command that runs on a host of the network, with the variables of env.
func (f foreign) command(ctx context.Context, host string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", f.prefix + "-" + host, name}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// run runs a program to its end and returns its output.
func (f foreign) run(t *testing.T, host, name string, args ...string) string {
	t.Helper()
	out, err := f.command(within(t, 30*time.Second), host, nil, name, args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s on %s: %v: %s", name, host, err, out)
	}
	return string(out)
}

// process is a program in the background. It ends with the test.
type process struct {
	cmd   *exec.Cmd
	ended chan error
}

// background starts a program and waits until it prints word.
func (f foreign) background(t *testing.T, word, host string, env []string, name string, args ...string) *process {
	t.Helper()
	log := filepath.Join(f.dir, host+"-"+filepath.Base(name)+".log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close() // the program has its own
	p := &process{cmd: f.command(context.Background(), host, env, name, args...), ended: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	t.Cleanup(func() { p.end(syscall.SIGKILL) })
	if word == "" {
		return p
	}
	eventually(t, word+" of "+name, func() bool {
		b, err := os.ReadFile(log)
		return err == nil && bytes.Contains(b, []byte(word))
	})
	return p
}

// end sends a signal, waits, and returns the result of the program.
func (p *process) end(s syscall.Signal) error {
	select {
	case err := <-p.ended:
		p.ended <- err
		return err
	default:
	}
	p.cmd.Process.Signal(s) //nolint:errcheck // it may have ended
	err := <-p.ended
	p.ended <- err
	return err
}

// boxes starts CPE and HAG with flags.
func (f foreign) boxes(t *testing.T) (cpe, hag *process) {
	t.Helper()
	env := []string{roleVar + "=synbond"}
	hag = f.background(t, "ready", "hag", env, f.self, "hag", "--plain", "core0", "--path", "acc1", "--path", "acc2",
		"--join", "[fd32:2::2]:9000", "--join", "10.32.2.2:9000", "--control", f.dir+"/hag.sock")
	cpe = f.background(t, "ready", "cpe", env, f.self, "cpe", "--plain", "lan0", "--path", "ppp0,name=dsl",
		"--path", "wwan0,name=lte,join=[fd32:2::2]:9000,join=10.32.2.2:9000", "--control", f.dir+"/cpe.sock",
		"--state-dir", f.dir)
	return cpe, hag
}

// servers has the URLs of the script's server, with the client's address that it must see.
var servers = []struct{ url, client string }{
	{"http://[fd02::10]/", "fd01::10"},
	{"http://10.2.0.10/", "10.1.0.10"},
}

// curls downloads, uploads, and asks for the client's address.
func (f foreign) curls(t *testing.T) {
	t.Helper()
	file := filepath.Join(f.dir, "object")
	if err := os.WriteFile(file, object(), 0o600); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%x", sha256.Sum256(object()))
	for _, s := range servers {
		if seen := f.run(t, "client", "curl", "-sS", s.url); seen != s.client {
			t.Errorf("%s saw %q, want %q", s.url, seen, s.client)
		}
		if got := f.run(t, "client", "curl", "-sS", s.url+"object"); got != string(object()) {
			t.Errorf("%sobject: %d bytes came, not those that were sent", s.url, len(got))
		}
		if got := f.run(t, "client", "curl", "-sS", "-T", file, s.url); got != want {
			t.Errorf("%s got an object with hash %s, sent was %s", s.url, got, want)
		}
	}
}

// bonds fetches and sends until the flows of both address families have had a
// subflow on each path. A transfer may end before the join on a fast machine.
func (f foreign) bonds(t *testing.T) {
	t.Helper()
	var out []byte
	for range 5 {
		f.curls(t)
		flows := f.command(t.Context(), "cpe", []string{roleVar + "=synbond"}, f.self, "flows", "--all", "--control", f.dir+"/cpe.sock")
		var err error
		if out, err = flows.CombinedOutput(); err != nil || strings.Count(string(out), " dsl ") < 6 {
			t.Errorf("synbond flows: %v: %s", err, out)
		}
		if regexp.MustCompile(`\[fd32:1::2]:.* lte `).Match(out) && regexp.MustCompile(`10\.32\.1\.2:.* lte `).Match(out) {
			return
		}
	}
	t.Errorf("a family of addresses has never had a subflow on lte: %s", out)
}

// state lists the settings that a box changes, as other people's tools print them.
func (f foreign) state(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, host := range []string{"cpe", "hag"} {
		for _, question := range []string{
			"nft list tables", "ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all",
			"ip mptcp endpoint", "ip mptcp limits", "sysctl net.mptcp", "ip -br link show lo",
		} {
			words := strings.Fields(question)
			for line := range strings.Lines(f.run(t, host, words[0], words[1:]...)) {
				fmt.Fprintf(&all, "%s: %s: %s", host, question, line)
			}
		}
	}
	// Link-local and multicast routes come at any time. Loopback, once up, keeps its
	// addresses.
	return regexp.MustCompile(`.*(fe80:|ff00::/8| dev lo ).*\n`).ReplaceAllString(all.String(), "")
}

// sameState compares two results of state.
func sameState(t *testing.T, before, after string) {
	t.Helper()
	same(t, strings.Split(before, "\n"), strings.Split(after, "\n"))
}

func TestForeignNetworkWorksAndIsUnchangedAfterwards(t *testing.T) {
	f := foreignNetwork(t, "curl", "nft")
	f.background(t, "", "server", []string{roleVar + "=web"}, f.self)
	eventually(t, "the web server", func() bool {
		return f.command(t.Context(), "client", nil, "curl", "-sS", "-o", "/dev/null", servers[0].url).Run() == nil
	})
	before := f.state(t)
	cpe, hag := f.boxes(t)
	f.bonds(t)

	// A modem that loses its line takes its interface away, and brings it back.
	f.script(t, "modem-down")
	if seen := f.run(t, "client", "curl", "-sS", servers[0].url); seen != servers[0].client {
		t.Errorf("without the modem: the server saw %q", seen)
	}
	f.script(t, "modem-up")
	f.curls(t)

	for _, b := range []*process{cpe, hag} {
		if err := b.end(syscall.SIGTERM); err != nil {
			t.Errorf("a box that was told to end: %v", err)
		}
	}
	sameState(t, before, f.state(t))
	files, err := filepath.Glob(f.dir + "/*.sock*")
	if err != nil || len(files) > 0 {
		t.Errorf("files left behind: %v, %v", files, err)
	}
	// Twice in a row both are killed; the third pair starts over the leftovers.
	for range 2 {
		cpe, hag = f.boxes(t)
		cpe.end(syscall.SIGKILL) //nolint:errcheck // it says so
		hag.end(syscall.SIGKILL) //nolint:errcheck // it says so
		f.curls(t)
	}
	cpe, hag = f.boxes(t)
	f.curls(t)
	cpe.end(syscall.SIGINT) //nolint:errcheck // seen above
	hag.end(syscall.SIGINT) //nolint:errcheck // seen above
	sameState(t, before, f.state(t))
}

// needTcpdump skips a test in a user namespace in which tcpdump cannot give up its
// privileges, as some builds of it do before they read a file: the only user of the
// namespace is root, and setgroups(2) is forbidden there.
func needTcpdump(t *testing.T) {
	t.Helper()
	const subject = "the boxes, tested with tcpdump"
	tooltest.Need(t, subject, "tcpdump")
	out, err := exec.Command("tcpdump", "-n", "-c", "1", "-r", "../pcaps/golden/cooked.cpe.pcap").CombinedOutput()
	switch {
	case err == nil:
	case netlab.Reexeced():
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Skipf("could not check %s: in a user namespace: %s", subject, lines[len(lines)-1])
	default:
		t.Fatalf("tcpdump: %v: %s", err, out)
	}
}

func TestForeignToolsSeeMPTCPOnlyBetweenTheBoxes(t *testing.T) {
	needTcpdump(t)
	f := foreignNetwork(t, "curl", "iperf3", "tcpdump")
	f.boxes(t)
	f.background(t, "listening", "server", nil, "iperf3", "-s", "--forceflush")
	capture := func(host, ifname string) func() string {
		file := filepath.Join(f.dir, host+"-"+ifname+".pcap")
		p := f.background(t, "listening on", host, nil, "tcpdump", "-U", "--immediate-mode", "-i", ifname, "-w", file,
			"tcp[13]&2!=0 or (ip6[6]==6 and ip6[53]&2!=0)")
		return func() string {
			p.end(syscall.SIGINT) //nolint:errcheck // only the file is of interest
			return f.run(t, host, "tcpdump", "-n", "-r", file)
		}
	}
	client, first, second, server := capture("client", "eth0"), capture("cpe", "ppp0"), capture("cpe", "wwan0"), capture("server", "eth0")
	for _, args := range [][]string{{}, {"-R"}, {"-P", "4"}, {"--bidir"}, {"-u", "-b", "5M"}} {
		for _, to := range []string{"fd02::10", "10.2.0.10"} {
			f.run(t, "client", "iperf3", append([]string{"-c", to, "-n", "2M"}, args...)...)
		}
	}
	for name, dump := range map[string]string{"client – CPE": client(), "HAG – server": server()} {
		if !strings.Contains(dump, "Flags [S]") || strings.Contains(dump, "mptcp") {
			t.Errorf("%s: want plain SYNs only:\n%s", name, dump)
		}
	}
	if dump := first(); strings.Count(dump, "Flags [S],") != strings.Count(dump, "mptcp 4 capable v1]") {
		t.Errorf("first path: want MP_CAPABLE in each SYN:\n%s", dump)
	}
	if dump := second(); !strings.Contains(dump, "mptcp 12 join") || strings.Contains(dump, "capable") {
		t.Errorf("second path: want MP_JOIN and no MP_CAPABLE:\n%s", dump)
	}
}
