//go:build linux

package tests

import (
	"bufio"
	"errors"
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

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// relays checks that both boxes relay a new connection with MPTCP.
func (p *pair) relays(t *testing.T, l net.Listener) {
	t.Helper()
	c := dial(t, p.Client, addrOf(l))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		f, ok := flowTo(t, b, addrOf(l))
		if !ok || f.State != "relaying" || !f.MPTCP {
			t.Errorf("%s has %+v", b.Role, f)
		}
	}
	c.Close()
}

func TestRulesThatAFirewallFlushesComeBack(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	l := listenAt(t, p.Server, netlab.Server6)
	serve(l, echo)
	c := dial(t, p.Client, addrOf(l))
	chat(t, c, "before")
	for _, h := range []*netlab.Host{p.CPE, p.HAG} {
		err := h.Do(func() error {
			nft, err := nftables.New()
			if err != nil {
				return err
			}
			nft.FlushRuleset()
			return nft.Flush()
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	chat(t, c, "after")
	p.relays(t, l)
}

// TestBoxRestoresTheMachineThoughNobodyReadsItsLog ends the reader of a box's standard error
// before the box, as Ctrl-C in a pipeline does.
func TestBoxRestoresTheMachineThoughNobodyReadsItsLog(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	program := synbond()
	cmd := n.CPE.Command(program.Path, append(program.Args, "cpe", "--log-level", "debug", "--control", filepath.Join(scratch(t), "cpe.sock"),
		"--plain", netlab.CPELanInterface, "--path", "dsl")...)
	cmd.Env = append(os.Environ(), program.Env...)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = n.CPE.Start(cmd)
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(stderr); lines.Scan() && !strings.Contains(lines.Text(), "ready"); {
	}
	stderr.Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the box ended with %v", err)
	}
	err = n.CPE.Netlink(func(nl *netlink.Handle) error {
		rules, err := nl.RuleList(unix.AF_INET6)
		for _, r := range rules {
			if r.Table == 91 {
				t.Errorf("the box has left the policy rule %v", r)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestStoppedBoxesLeaveNothingBehind(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	for _, h := range []*netlab.Host{n.CPE, n.HAG} {
		err := h.Netlink(func(nl *netlink.Handle) error {
			lo, err := nl.LinkByName("lo")
			if err != nil {
				return err
			}
			return nl.LinkSetDown(lo)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	before := snapshot(t, n.CPE, n.HAG)
	p := start(t, n)
	l := listenAt(t, n.Server, netlab.Server6)
	serve(l, echo)
	p.relays(t, l)
	absent := netip.AddrPortFrom(netlab.Server6.Next(), 80)
	c, err := n.Client.Dial(within(t, 100*time.Millisecond), "tcp", "", absent.String())
	if err == nil {
		c.Close()
		t.Error("connected to an absent host")
	}
	running := dial(t, n.Client, addrOf(l)) // one relayed, one held: neither delays the end
	p.down(t)
	same(t, before, snapshot(t, n.CPE, n.HAG))
	if left, err := os.ReadDir(p.dir); err != nil || len(left) > 0 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
	if _, err := running.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the relayed connection ended with %v, want a reset", err)
	}
}

func TestKilledBoxesCostBondingNotConnectivity(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	before := snapshot(t, n.CPE, n.HAG)
	var listeners []net.Listener
	for _, f := range families {
		l := listenAt(t, n.Server, f.server)
		serve(l, echo)
		listeners = append(listeners, l)
	}
	p := start(t, n)
	for range 2 { // the second time over the leftovers of the first
		for _, l := range listeners {
			p.relays(t, l)
		}
		p.kill(t)
		for _, l := range listeners {
			// A SYN that is dropped is sent again after a second.
			if took, errno := quickest(t, n.Client, addrOf(l)); errno != 0 || took > time.Second {
				t.Errorf("%s with dead boxes: %v after %v", l.Addr(), errno, took)
			}
		}
		p.up(t)
	}
	for _, l := range listeners {
		p.relays(t, l)
	}
	p.down(t)
	same(t, before, snapshot(t, n.CPE, n.HAG))
	if left, err := filepath.Glob(p.dir + "/*"); err != nil || len(left) > 0 {
		t.Errorf("files left behind: %v, %v", left, err)
	}
}

func TestOneBoxAloneCarriesPlainTCP(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	for _, end := range []struct {
		name string
		stop func() error
	}{
		{"CPE alone", func() error { return p.hag.Stop() }},
		{"no box", func() error { return p.cpe.Stop() }},
	} {
		if err := end.stop(); err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			server := traffic(t, p.Server, p.Client, f.server)
			r, err := netlab.Transfer(within(t, 10*time.Second), server, netlab.Up, 1<<20)
			if err != nil || r.PeerSeen.Addr() != f.client {
				t.Errorf("%s, %s: %v, the server saw %v", end.name, f.name, err, r.PeerSeen)
			}
		}
	}
	p.cpe, p.hag = nil, nil
	// The order does not matter: StartPair starts the HAG first, a restart starts it last.
	p.up(t)
	l := listenAt(t, p.Server, netlab.Server6)
	serve(l, echo)
	p.relays(t, l)
}

func TestLineIsUsedAgainOnceItIsBack(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	l := listenAt(t, p.Server, netlab.Server6)
	serve(l, echo)
	lte := p.Line("lte")
	// joined reports whether the next connection gets a subflow over lte.
	joined := func() bool {
		c := dial(t, p.Client, addrOf(l))
		defer c.Close()
		time.Sleep(300 * time.Millisecond) // for what the path manager does
		f, _ := flowTo(t, p.cpe, addrOf(l))
		return slices.ContainsFunc(f.Subflows, func(s api.Subflow) bool { return s.Local.Addr() == lte.CPE6 })
	}
	eventually(t, "a subflow by lte at first", joined)
	for i, line := range p.Lines {
		t.Run(line.Name, func(t *testing.T) {
			p.lineDown(t, line)
			if line == lte {
				server := traffic(t, p.Server, p.Client, netlab.Server6)
				if r, err := netlab.Transfer(within(t, 10*time.Second), server, netlab.Down, 1<<20); err != nil {
					t.Errorf("on the path that remains: %d bytes, %v", r.Bytes, err)
				}
			}
			// A box may remember for some seconds how packets went. Have it look
			// again while the line is down, as its dump does.
			time.Sleep(2200 * time.Millisecond)
			dump(t, p.cpe)
			p.lineUp(t, i)
			eventually(t, "a subflow by lte again", joined) // once the line has held for a while
		})
	}
}

// lineDown takes the CPE's interface on a line down.
func (p *pair) lineDown(t *testing.T, line *netlab.Line) {
	t.Helper()
	err := p.CPE.Netlink(func(nl *netlink.Handle) error { return linkUp(nl, line.Name, false) })
	if err != nil {
		t.Fatal(err)
	}
}

// lineUp brings the CPE's interface on line i up again, with its IPv6 address and
// routes, which the kernel had removed. They are those of package netlab.
func (p *pair) lineUp(t *testing.T, i int) {
	t.Helper()
	line := p.Lines[i]
	err := p.CPE.Netlink(func(nl *netlink.Handle) error { return linkUp(nl, line.Name, true) })
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.PrefixFrom(line.CPE6, 64)
	if err := p.CPE.AddAddress(line.Name, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		t.Fatal(err)
	}
	router, everywhere := addr.Masked().Addr().Next(), netip.MustParsePrefix("::/0")
	for _, r := range []netlab.Route{
		{To: addr.Masked(), Dev: line.Name},
		{To: everywhere, Via: router, Dev: line.Name, Metric: 100 * (i + 1)},
		{To: everywhere, Via: router, Dev: line.Name, Table: 100 + i},
	} {
		if err := p.CPE.AddRoute(r); err != nil {
			t.Fatal(err)
		}
	}
}

func linkUp(nl *netlink.Handle, name string, up bool) error {
	l, err := nl.LinkByName(name)
	if err != nil {
		return err
	}
	if up {
		return nl.LinkSetUp(l)
	}
	return nl.LinkSetDown(l)
}

// TestPolicyRoutingThatSomebodyRemovesComesBack removes it as managers of networks do with
// rules and routes that are not theirs.
func TestPolicyRoutingThatSomebodyRemovesComesBack(t *testing.T) {
	const table = 91
	p := start(t, netlabtest.Build(t, twoLines))
	l := listenAt(t, p.Server, netlab.Server6)
	serve(l, echo)
	c := dial(t, p.Client, addrOf(l))
	chat(t, c, "before")
	before := snapshot(t, p.CPE, p.HAG)
	remove := map[string]func(*netlink.Handle) error{
		"rules": func(nl *netlink.Handle) error {
			rules, err := nl.RuleList(unix.AF_INET6)
			for _, r := range rules {
				if r.Family = unix.AF_INET6; r.Table == table {
					err = errors.Join(err, nl.RuleDel(&r))
				}
			}
			return err
		},
		"routes": func(nl *netlink.Handle) error {
			routes, err := nl.RouteListFiltered(unix.AF_INET6, &netlink.Route{Table: table}, netlink.RT_FILTER_TABLE)
			for _, r := range routes {
				err = errors.Join(err, nl.RouteDel(&r))
			}
			return err
		},
	}
	for what, remove := range remove {
		for _, h := range []*netlab.Host{p.CPE, p.HAG} {
			if err := h.Netlink(remove); err != nil {
				t.Fatalf("remove %s on %s: %v", what, h.Name, err)
			}
		}
		chat(t, c, "after")
		p.relays(t, l)
		same(t, before, snapshot(t, p.CPE, p.HAG))
	}
}
