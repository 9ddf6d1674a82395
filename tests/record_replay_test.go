//go:build linux

package tests

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
	"github.com/synbond/synbond/pcaps"
)

// Rules for ports of servers with another action than the default.
const (
	cpeRules = `
[[rule]]
name = "guests"
ports = ["7001"]
action = "pass"

[[rule]]
name = "curious"
ports = ["7002"]
action = "learn"

[[rule]]
name = "forbidden"
ports = ["7003"]
action = "reject"

[timeouts]
dial = "2500ms"
`
	hagRules = `
[[rule]]
name = "unbonded"
ports = ["7004"]
action = "strip"

[timeouts]
dial = "3500ms"
`
)

// happenings makes flows of all kinds through a pair of boxes, except failures.
func happenings(t *testing.T, p *pair, f family) {
	t.Helper()
	n := p.Network
	talk := func(clients, servers string, port uint16) netip.AddrPort {
		t.Helper()
		l := listen(t, n.Server, servers, netip.AddrPortFrom(f.server, port))
		serve(l, echo)
		c, err := n.Client.Dial(within(t, 10*time.Second), clients, "", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		chat(t, c, "hello")
		c.Close()
		return addrOf(l)
	}
	server := talk("tcp", "tcp", 0) // relayed
	talk("mptcp", "mptcp", 0)       // end to end
	talk("tcp", "tcp", 7001)        // passed by the CPE
	talk("tcp", "mptcp", 7002)      // learnt from by the CPE
	talk("tcp", "tcp", 7004)        // stripped by the HAG
	for range 3 {                   // the same port again
		c, err := dialFrom(n.Client, netip.AddrPortFrom(f.client, 40123), server)
		if err != nil {
			t.Fatal(err)
		}
		chat(t, c, "hello")
		reset(t, c)
	}
	lost := listenAt(t, n.Server, f.server) // whose first answer is lost, so that the SYN is repeated
	serve(lost, echo)
	l := loss{host: n.Server, hook: nftables.ChainHookOutput, port: sourcePort, flags: synACK}
	if err := l.install(addrOf(lost).Port()); err != nil {
		t.Fatal(err)
	}
	if err := say(t.Context(), n.Client, addrOf(lost)); err != nil {
		t.Error(err)
	}
	chat(t, dial(t, n.Client, server), "hello") // stays open
}

// obstacles returns servers to which no connection succeeds.
func obstacles(t *testing.T, n *netlab.Network) (all []target) {
	t.Helper()
	const silent = 7009
	unlimited(t, n.CPE, n.HAG, n.Server)
	rejectSYNs(t, n.Server, nftables.ChainHookInput)
	dark := loss{host: n.Server, hook: nftables.ChainHookInput, port: destPort, flags: syn, all: true}
	if err := dark.install(silent); err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, r := range rejections {
			all = append(all, target{r.name, netip.AddrPortFrom(f.server, r.port)})
		}
		for name, port := range map[string]uint16{"closed port": 9, "forbidden": 7003, "no answer": silent} {
			all = append(all, target{name, netip.AddrPortFrom(f.server, port)})
		}
	}
	return all
}

// told has the fields of a flow, live or replayed, that are compared.
type told struct {
	Client, Server, Side, Action, State, Reason string
}

// replayed has the fields of `synbond replay --json` that are compared.
type replayed struct {
	Decisions []struct {
		Frame                 int
		Verdict, Reason, Rule string
	}
	Flows []told
}

// farApart has delays like real networks: the kernel takes an ICMP error that arrives
// while connect(2) still runs for a soft one (tcp_v6_err, sock_owned_by_user), which
// no capture shows.
var farApart = netlab.Topology{
	Lines:       []netlab.LineConfig{{Name: "dsl", Delay: 5 * time.Millisecond}, {Name: "lte", Delay: 5 * time.Millisecond}},
	ServerDelay: 10 * time.Millisecond,
}

func TestRecordingReplaysToTheSameDecisions(t *testing.T) {
	n := netlabtest.Build(t, farApart)
	targets := obstacles(t, n)
	dir := scratch(t)
	configs := map[string]string{"cpe": configFile(t, cpeRules), "hag": configFile(t, hagRules)}
	p := recordedPair(t, n, dir, configs["cpe"], configs["hag"])
	outcomes(t, n.Client, targets, shortTime)
	for _, f := range families {
		happenings(t, p, f)
	}
	flood(t, n.Client, netlab.Client6, netip.AddrPortFrom(netlab.Server6, 7004), 10) // a port scan
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		eventually(t, b.Role+" has settled all flows", func() bool {
			live := dump(t, b).Totals.Live
			return live["dialing"]+live["released"]+live["learning"] == 0 && live["relaying"] == len(families)
		})
	}
	time.Sleep(1500 * time.Millisecond) // a recording is flushed once a second
	live := map[string]api.Dump{"cpe": dump(t, p.cpe), "hag": dump(t, p.hag)}
	for role, d := range live {
		files := recordings(t, dir, role)
		if len(files) != 1 || d.Totals.Recording.Dropped > 0 {
			t.Fatalf("%s has the files %q, and dropped %d packets", role, files, d.Totals.Recording.Dropped)
		}
		again := replay(t, n.Client, files[0], "--role", role, "--config", configs[role])
		last := make(map[[2]string]told) // as the box shows a 5-tuple that is used again
		for _, f := range again.Flows {
			last[[2]string{f.Client, f.Server}] = f
		}
		for _, f := range d.Flows {
			want := told{f.Client.String(), f.Server.String(), f.Side, f.Action, f.State, f.Reason}
			if got := last[[2]string{want.Client, want.Server}]; got != want {
				t.Errorf("%s: replayed  %+v\nthe box had    %+v", role, got, want)
			}
			if f.Recording != files[0] {
				t.Errorf("%s: the handshake of %s is said to be in %q", role, f.Client, f.Recording)
			}
		}
		sameVerdicts(t, role, files[0], again)
		dissects(t, files[0])
	}
}

// replay runs synbond replay over a file.
func replay(t *testing.T, h *netlab.Host, file string, flags ...string) (r replayed) {
	t.Helper()
	got := call(t, h, nil, append([]string{"replay", file, "--json"}, flags...)...)
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("replay ended with %d: %s", got.code, got.stderr)
	}
	if err := json.Unmarshal([]byte(got.stdout), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// frames reads a capture file to its end.
func frames(t *testing.T, file string) (all []pcaps.Frame) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := pcaps.NewReader(in)
	for err == nil {
		var f *pcaps.Frame
		if f, err = r.Next(); err == nil {
			kept := *f
			kept.Comments = slices.Clone(f.Comments)
			all = append(all, kept)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("%s: %v after %d frames", file, err, len(all))
	}
	return all
}

// sameVerdicts compares the box's verdicts, in comments on its packets, with those of
// a replay of the same packets.
func sameVerdicts(t *testing.T, role, file string, again replayed) {
	t.Helper()
	got := make(map[int]string)
	for _, d := range again.Decisions {
		got[d.Frame] = strings.TrimSuffix(d.Verdict+": "+cmp.Or(d.Reason, d.Rule), ": ")
	}
	compared := 0
	for _, f := range frames(t, file) {
		if f.Direction != pcaps.Inbound || len(f.Comments) == 0 || strings.HasPrefix(f.Comments[0], "accepted") {
			continue
		}
		compared++
		if want, _, _ := strings.Cut(f.Comments[0], ","); got[f.Number] != want {
			t.Errorf("%s, frame %d: replay says %q, the box said %q", role, f.Number, got[f.Number], want)
		}
	}
	if compared < 50 {
		t.Errorf("%s: only %d decisions are recorded", role, compared)
	}
}

// dissects has tshark look for what is wrong with a file, in a subtest. ICMP
// errors quote packets whose checksum their host has not completed. Both legs of a
// flow have one 5-tuple: where ports are used again that is too much for tshark's
// analysis of MPTCP connections, which then asserts the opposite. Where a checksum would
// be 0, Linux sends 0xffff also in TCP (skb_checksum_help), which tshark calls bad
// although receivers accept it (RFC 1624, section 3).
func dissects(t *testing.T, file string) {
	t.Helper()
	t.Run("as tshark reads it", func(t *testing.T) {
		tooltest.Need(t, "that tshark finds nothing wrong with a recording", "tshark")
		out, err := exec.Command("tshark", "-n", "-r", file, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-Y",
			`_ws.malformed || ((tcp.checksum.status == "Bad" && tcp.checksum != 0xffff || ip.checksum.status == "Bad") && !icmp && !icmpv6)`).Output()
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "Dissector bug") {
				t.Error(line)
			}
		}
		if err != nil {
			t.Error(err)
		}
	})
}
