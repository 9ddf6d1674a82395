//go:build linux

package tests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/tooltest"
)

// Other programs on a box's machine decide what is forwarded, where to, and how. With
// boxes their decisions hold as without.

// routers are the machines of a network that have a box.
func (p *pair) routers() map[string]*netlab.Host {
	return map[string]*netlab.Host{"CPE": p.CPE, "HAG": p.HAG}
}

// admin runs commands of nft(8), ip(8) and sysctl(8) on a host, one a line.
func admin(t *testing.T, h *netlab.Host, lines ...string) {
	t.Helper()
	for _, line := range lines {
		cmd := h.Command("sh", "-c", line)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := h.Run(cmd); err != nil {
			t.Fatalf("on %s: %s: %v: %s", h.Name, line, err, out.String())
		}
	}
}

// ruleset gives a host a table of nftables rules of its own until the test ends.
func ruleset(t *testing.T, h *netlab.Host, chains string) {
	t.Helper()
	cmd := h.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table inet neighbour {\n" + chains + "\n}\n")
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := h.Run(cmd); err != nil {
		t.Fatalf("on %s: nft: %v: %s", h.Name, err, out.String())
	}
	t.Cleanup(func() { admin(t, h, "nft delete table inet neighbour") })
}

// neighbours starts both boxes, on a machine that has the tools of administrators.
func neighbours(t *testing.T) *pair {
	t.Helper()
	tooltest.Need(t, "the boxes beside other programs", "nft", "ip", "sysctl", "sh")
	return start(t, netlabtest.Build(t, twoLines))
}

// greet serves a word at an address of a host, on a free port if that is 0.
func greet(t *testing.T, h *netlab.Host, at netip.AddrPort, word string) netip.AddrPort {
	t.Helper()
	l := listen(t, h, "tcp", at)
	serve(l, func(c net.Conn) { io.WriteString(c, word) }) //nolint:errcheck // the client will notice
	return addrOf(l)
}

// greeting connects from a host and returns the word that comes, or else the error in short.
func greeting(t *testing.T, h *netlab.Host, to netip.AddrPort) string {
	t.Helper()
	return greetingWithin(t, h, to, 1500*time.Millisecond)
}

// greetingWithin is greeting with a limit for the time until the connection is there.
func greetingWithin(t *testing.T, h *netlab.Host, to netip.AddrPort, limit time.Duration) string {
	t.Helper()
	c, err := h.Dial(within(t, limit), "tcp", "", to.String())
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		return errno.Error()
	case err != nil:
		return "no answer"
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		t.Fatal(err)
	}
	word, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(word)
}

// wantGreeting fails the test unless the client hears that word, and then that both boxes
// have relayed it, or that none knows of it.
func (p *pair) wantGreeting(t *testing.T, to netip.AddrPort, want string, relayed bool) {
	t.Helper()
	if got := greeting(t, p.Client, to); got != want {
		t.Errorf("from %s: %q, want %q", to, got, want)
	}
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		if f, _ := flowTo(t, b, to); f.MPTCP != relayed {
			t.Errorf("to %s %s has the flow %+v, want it relayed: %v", to, b.Role, f, relayed)
		}
	}
}

func TestFiltersOfForwardedPacketsHold(t *testing.T) {
	const forward = "chain forward { type filter hook forward priority 0; policy %s; %s; }"
	p := neighbours(t)
	for name, h := range p.routers() {
		for _, f := range families {
			for _, c := range []struct{ name, policy, rule, want string }{
				{"drop", "accept", "tcp dport %d drop", "no answer"},
				{"reset", "accept", "tcp dport %d reject with tcp reset", syscall.ECONNREFUSED.Error()},
				{"unreachable", "accept", "tcp dport %d reject with icmpx host-unreachable", syscall.EHOSTUNREACH.Error()},
				{"accept some", "drop", "tcp dport != %d accept; meta l4proto { icmp, icmpv6 } accept", "no answer"},
			} {
				t.Run(name+" "+f.name+" "+c.name, func(t *testing.T) {
					forbidden := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "forbidden")
					allowed := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "allowed")
					ruleset(t, h, fmt.Sprintf(forward, c.policy, fmt.Sprintf(c.rule, forbidden.Port())))
					if got := greeting(t, p.Client, forbidden); got != c.want {
						t.Errorf("what is forbidden: %q, want %q", got, c.want)
					}
					p.wantGreeting(t, allowed, "allowed", true)
				})
			}
		}
	}
}

func TestHostsThatPolicyRoutingSendsElsewhereGoThere(t *testing.T) {
	p := neighbours(t)
	if err := netlab.Connect(p.CPE, "vpn", p.HAG, "vpn"); err != nil {
		t.Fatal(err)
	}
	for h, host := range map[*netlab.Host]string{p.CPE: "1", p.HAG: "2"} {
		admin(t, h, "ip link set vpn up", "ip addr add 192.0.2.25"+host+"/24 dev vpn", "ip addr add fd99::"+host+"/64 dev vpn nodad")
	}
	admin(t, p.CPE,
		"ip route add default via 192.0.2.252 table 300", "ip -6 route add default via fd99::2 table 300",
		"ip rule add from "+netlab.Client4.String()+" lookup 300 prio 50", "ip -6 rule add from "+netlab.Client6.String()+" lookup 300 prio 50")
	for _, f := range families {
		to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
		before := sent(t, p.CPE, "vpn")
		p.wantGreeting(t, to, "hello", false)
		if n := sent(t, p.CPE, "vpn") - before; n < 3 {
			t.Errorf("%s: %d packets went by the other way", f.name, n)
		}
	}
}

// TestAnswersMayComeByAnotherLine has policy routing send what hosts send by the second line, while
// the HAG answers by the first. A rule for what comes in by a line does not concern hosts.
func TestAnswersMayComeByAnotherLine(t *testing.T) {
	p := neighbours(t)
	ruleset(t, p.CPE, `chain pre { type filter hook prerouting priority -150; iifname "lan" meta mark set meta mark | 0x00020000; }`)
	for _, family := range []string{"ip", "ip -6"} {
		admin(t, p.CPE, family+" rule add iif dsl lookup main prio 40", family+" rule add fwmark 0x20000/0x20000 lookup 101 prio 50")
	}
	for _, f := range families {
		p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
	}
}

// sent returns the number of packets that an interface has sent.
func sent(t *testing.T, h *netlab.Host, ifname string) (n int) {
	t.Helper()
	cmd := h.Command("sh", "-c", "awk -F '[ :]+' '$2 == \""+ifname+"\" {print $12}' /proc/self/net/dev")
	out, err := &bytes.Buffer{}, error(nil)
	cmd.Stdout = out
	if err = h.Run(cmd); err == nil {
		_, err = fmt.Sscan(out.String(), &n)
	}
	if err != nil {
		t.Fatalf("packets of %s: %v: %q", ifname, err, out)
	}
	return n
}

// TestMarksOfOthersDoNotMatter gives all that comes in a mark beside the box's, before and
// after the box has set its own, and has one program overwrite it.
func TestMarksOfOthersDoNotMatter(t *testing.T) {
	p := neighbours(t)
	for _, c := range []struct {
		name     string
		priority int
		change   string
	}{
		{"before the box", -310, "meta mark set meta mark | 0x00010100"},
		{"after the box", -150, "meta mark set meta mark | 0x00010100"},
		{"segments overwritten", -150, "tcp flags != syn meta mark set 0x00000100"},
	} {
		for name, h := range p.routers() {
			t.Run(c.name+", "+name, func(t *testing.T) {
				ruleset(t, h, fmt.Sprintf("chain pre { type filter hook prerouting priority %d; iifname != lo %s; }", c.priority, c.change))
				for _, f := range families {
					p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
				}
			})
		}
	}
}

// TestSYNsOutliveOverwrittenMarks has programs overwrite the whole mark of all that comes in, by lo
// too, as `-j MARK --set-mark` does.
func TestSYNsOutliveOverwrittenMarks(t *testing.T) {
	p := neighbours(t)
	for name, h := range p.routers() {
		for _, mark := range []string{"0x00000100", "numgen inc mod 7"} {
			t.Run(name+" "+mark, func(t *testing.T) {
				ruleset(t, h, "chain pre { type filter hook prerouting priority -150; meta mark set "+mark+"; }")
				for _, f := range families {
					p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
				}
				for _, b := range []*netlab.Box{p.cpe, p.hag} {
					if found := findings(t, b); len(found) > 0 {
						t.Errorf("%s finds %v", b.Role, found)
					}
				}
			})
		}
	}
}

// TestPolicyRulesOfAnyPriorityHoldForHostsOnly gives both routers policy rules that come before
// all others: the first one that the box's would come before, had they not been there already.
func TestPolicyRulesOfAnyPriorityHoldForHostsOnly(t *testing.T) {
	tooltest.Need(t, "the boxes beside policy routing", "ip", "sh")
	n := netlabtest.Build(t, twoLines)
	for _, h := range []*netlab.Host{n.CPE, n.HAG} {
		admin(t, h, "ip rule add pref 1 lookup main", "ip -6 rule add pref 1 lookup main")
	}
	p := start(t, n)
	hello := func() {
		t.Helper()
		for _, f := range families {
			p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
		}
	}
	hello()
	for _, h := range []*netlab.Host{n.CPE, n.HAG} {
		admin(t, h, "ip rule del pref 1", "ip -6 rule del pref 1")
	}
	hello()
	p.down(t)
	for _, h := range []*netlab.Host{n.CPE, n.HAG} {
		admin(t, h, "! ip rule | grep 'lookup 91'", "! ip -6 rule | grep 'lookup 91'")
	}
}

// TestPolicyRoutingChoosesThePath has policy routing send what a host sends by the second
// line, and has the HAG answer by that.
func TestPolicyRoutingChoosesThePath(t *testing.T) {
	const byLTE = " lookup 101 prio 50" // package netlab: the table of the second line
	for name, rule := range map[string]string{"by mark": "fwmark 0x20000/0x20000", "by interface": "iif lan"} {
		t.Run(name, func(t *testing.T) {
			p := neighbours(t)
			ruleset(t, p.CPE, `chain pre { type filter hook prerouting priority -150; iifname "lan" meta mark set meta mark | 0x00020000; }`)
			admin(t, p.CPE, "ip rule add "+rule+byLTE, "ip -6 rule add "+rule+byLTE)
			if err := p.RouteClient(p.Lines[1]); err != nil {
				t.Fatal(err)
			}
			seen := tap(t, p.Network)
			for _, f := range families {
				to := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello")
				p.wantGreeting(t, to, "hello", true)
				if syn, _ := handshakes(t, seen.second); syn.Dst != to {
					t.Errorf("%s: the last SYN on the second line is to %v, want %v", f.name, syn.Dst, to)
				}
			}
		})
	}
}

// TestStrictReversePathFilterWithMarks has the kernel look up the way back to a packet's
// source with the packet's mark.
func TestStrictReversePathFilterWithMarks(t *testing.T) {
	p := neighbours(t)
	for _, h := range p.routers() {
		admin(t, h, "sysctl -qw net.ipv4.conf.all.src_valid_mark=1 net.ipv4.conf.all.rp_filter=1")
	}
	for _, f := range families {
		p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
	}
}

func TestTranslatedDestinationsHold(t *testing.T) {
	const nat = "chain pre { type nat hook prerouting priority dstnat; tcp dport %d %s; }"
	p := neighbours(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			asked := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "asked")
			other := greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "other")
			router := greet(t, p.CPE, netip.MustParseAddrPort("[::]:0"), "router")
			for _, c := range []struct {
				want, how  string
				translated uint64
			}{
				{"router", fmt.Sprintf("redirect to :%d", router.Port()), 0},
				{"other", fmt.Sprintf("dnat to :%d", other.Port()), 1},
			} {
				t.Run(c.want, func(t *testing.T) {
					before := dump(t, p.cpe).Totals.Translated
					ruleset(t, p.CPE, fmt.Sprintf(nat, asked.Port(), c.how))
					eventually(t, "the box asks what is translated", func() bool { // it hears of the chain
						greeting(t, p.Client, asked)
						return c.translated == 0 || dump(t, p.cpe).Totals.Translated > before
					})
					if got := greeting(t, p.Client, asked); got != c.want {
						t.Errorf("%q answers, want %q", got, c.want)
					}
					p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
				})
			}
		})
	}
}

func TestClampedMSSIsThatOfTheOnwardSYN(t *testing.T) {
	const mss = 1200
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			p := neighbours(t)
			ruleset(t, p.CPE, fmt.Sprintf("chain forward { type filter hook forward priority mangle; tcp flags syn tcp option maxseg size set %d; }", mss))
			seen := tap(t, p.Network)
			p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
			for i, where := range []*netlab.Tap{seen.first, seen.server} {
				if syn, _ := handshakes(t, where); syn.Traits().MSS != mss {
					t.Errorf("on link %d the MSS is %d, want %d", i+1, syn.Traits().MSS, mss)
				}
			}
		})
	}
}

// TestBridgeWhoseFramesPassNetfilter makes the CPE's plain side a bridge, and has frames
// on it pass the rules for IP, as container engines do.
func TestBridgeWhoseFramesPassNetfilter(t *testing.T) {
	const subject = "the boxes beside br_netfilter"
	tooltest.Need(t, subject, "ip", "sysctl", "sh")
	n := netlabtest.Build(t, twoLines)
	admin(t, n.CPE,
		"ip link add bridge type bridge", "ip addr flush dev lan", "ip link set lan master bridge", "ip link set bridge up",
		"ip addr add "+netlab.CPELan4.String()+"/24 dev bridge", "ip addr add "+netlab.CPELan6.String()+"/64 dev bridge nodad")
	if _, err := n.CPE.ReadSysctl("net.bridge.bridge-nf-call-iptables"); errors.Is(err, os.ErrNotExist) {
		tooltest.Missing(t, subject, "the kernel has no br_netfilter")
	}
	admin(t, n.CPE, "sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1")
	p := &pair{Network: n, dir: scratch(t)}
	var err error
	if p.hag, err = n.StartHAG(synbond(), p.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.down(t) })
	lte := n.Lines[1]
	p.cpe, err = synbond().StartBox(n.CPE, p.dir, "cpe", "--plain", "bridge", "--path", "dsl",
		"--path", fmt.Sprintf("lte,join=[%s]:%d,join=%s:%d", lte.HAG6, netlab.JoinPort, lte.HAG4, netlab.JoinPort))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		p.wantGreeting(t, greet(t, p.Server, netip.AddrPortFrom(f.server, 0), "hello"), "hello", true)
	}
}
