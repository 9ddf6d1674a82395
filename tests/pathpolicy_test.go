//go:build linux

package tests

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// configured starts both boxes, the CPE with a configuration file: lte has the keys of
// the path lte, tables has further tables.
func configured(t *testing.T, n *netlab.Network, lte, tables string, flags ...string) *pair {
	t.Helper()
	p := &pair{Network: n, dir: scratch(t)}
	t.Cleanup(func() { p.down(t) })
	at := n.Line("lte")
	file := configFile(t, fmt.Sprintf(`
		plain = ["%s"]
		[[path]]
		interface = "dsl"
		[[path]]
		interface = "lte"
		join = ["[%s]:%d", "%s:%d"]
		%s
		%s`, netlab.CPELanInterface, at.HAG6, netlab.JoinPort, at.HAG4, netlab.JoinPort, lte, tables))
	flags = append(flags, "--config", file)
	var err error
	if p.hag, err = n.StartHAG(synbond(), p.dir); err != nil {
		t.Fatal(err)
	}
	if p.cpe, err = synbond().StartBox(n.CPE, p.dir, "cpe", flags...); err != nil {
		t.Fatal(err)
	}
	p.cpeFlags = flags
	return p
}

// slowLines carry 20 and 40 Mbit/s without delay.
var slowLines = netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Rate: 20e6}, {Name: "lte", Rate: 40e6}}}

// usedAs reports whether a path has that use.
func usedAs(name string) func(*api.PathState) bool {
	return func(p *api.PathState) bool { return p.Use == name }
}

// download makes a transfer over a new connection.
func download(t *testing.T, n *netlab.Network, bytes int64) {
	t.Helper()
	if _, err := netlab.Transfer(within(t, 20*time.Second), traffic(t, n.Server, n.Client, netlab.Server6), netlab.Down, bytes); err != nil {
		t.Fatal(err)
	}
}

func TestOverflowPathIsUsedWhileTheFirstIsBusy(t *testing.T) {
	p := configured(t, netlabtest.Build(t, slowLines), `
		mode = "overflow"
		busy_rate = "8mbit"
		busy_for = "200ms"
		idle_for = "400ms"`, "")
	c := chatter(t, p.Network, families[0])
	backup := func(b *netlab.Box) bool {
		f, _ := flowFrom(t, b, c)
		for _, s := range f.Subflows {
			if s.Path == "lte" {
				return s.Backup
			}
		}
		return false
	}
	both := func(what string, want bool) {
		t.Helper()
		for _, b := range []*netlab.Box{p.cpe, p.hag} {
			eventually(t, fmt.Sprintf("%s: %s takes lte for a backup: %v", what, b.Role, want), func() bool { return backup(b) == want })
		}
	}
	sees(t, p.cpe, "lte", "is a backup", usedAs("backup"))
	both("before", true)
	before := carried(p.Network)
	download(t, p.Network, 200_000)
	if now := carried(p.Network); now[1]-before[1] > 20_000 {
		t.Errorf("a short transfer had lte carry %d bytes", now[1]-before[1])
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		download(t, p.Network, 6<<20)
	}()
	sees(t, p.cpe, "lte", "is used", usedAs("normal"))
	both("meanwhile", false)
	<-done
	sees(t, p.cpe, "lte", "is a backup again", usedAs("backup"))
	both("afterwards", true)
	if now := carried(p.Network); now[1]-before[1] < 1<<20 {
		t.Errorf("a long transfer had lte carry %d bytes", now[1]-before[1])
	}
}

func TestStandbyPathIsUsedWhileTheOtherIsDown(t *testing.T) {
	p := configured(t, netlabtest.Build(t, twoLines), `mode = "standby"`, "")
	c := chatter(t, p.Network, families[0])
	sees(t, p.cpe, "dsl", "has its subflow", has(1))
	sees(t, p.cpe, "lte", "has none", has(0))
	if err := p.Line("dsl").Carrier(false); err != nil {
		t.Fatal(err)
	}
	sees(t, p.cpe, "lte", "has one in its stead", has(1))
	chat(t, c, "still there?")
	if err := p.Line("dsl").Carrier(true); err != nil {
		t.Fatal(err)
	}
	sees(t, p.cpe, "dsl", "has its subflow again", has(1))
	sees(t, p.cpe, "lte", "has none again", has(0))
	chat(t, c, "still there!")
}

func TestQuotaOutlivesARestart(t *testing.T) {
	dir := scratch(t)
	p := configured(t, netlabtest.Build(t, slowLines), `quota = "2MB"`, "", "--state-dir", dir+"/deep/er")
	sees(t, p.cpe, "lte", "is used", usedAs("normal"))
	used := func() uint64 { return pathOf(t, p.cpe, "lte").Quota.Used }
	eventually(t, "the quota is used up", func() bool {
		download(t, p.Network, 1<<20)
		return used() >= 2e6
	})
	sees(t, p.cpe, "lte", "is closed", usedAs("closed"))
	before := used()
	p.restartCPE(t)
	if now := used(); now < before {
		t.Errorf("%d bytes are used, %d were before the restart", now, before)
	}
	sees(t, p.cpe, "lte", "is closed still", usedAs("closed"))
	chatter(t, p.Network, families[0])
	if err := p.Line("dsl").Carrier(false); err != nil {
		t.Fatal(err)
	}
	sees(t, p.cpe, "lte", "is used where it is all there is", usedAs("normal"))
}

func TestRulesGrantPaths(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	one, later, free := listenAt(t, n.Server, netlab.Server6), listenAt(t, n.Server, netlab.Server6), listenAt(t, n.Server, netlab.Server6)
	p := configured(t, n, "", fmt.Sprintf(`
		[[rule]]
		name = "one"
		ports = ["%d"]
		action = "relay"
		paths = ["dsl"]
		[[rule]]
		name = "later"
		ports = ["%d"]
		action = "relay"
		after = "1MiB"`, addrOf(one).Port(), addrOf(later).Port()))
	subflows := func(c net.Conn) string {
		f, _ := flowFrom(t, p.cpe, c)
		var names []string
		for _, s := range f.Subflows {
			names = append(names, s.Path)
		}
		return f.Rule + ": " + strings.Join(names, " ")
	}
	var conns []net.Conn
	for _, l := range []net.Listener{one, later, free} {
		serve(l, echo)
		c := dial(t, n.Client, addrOf(l))
		chat(t, c, "hello")
		conns = append(conns, c)
	}
	eventually(t, "a connection without a rule has both paths", func() bool { return subflows(conns[2]) == ": dsl lte" })
	if a, b := subflows(conns[0]), subflows(conns[1]); a != "one: dsl" || b != "later: dsl" {
		t.Errorf("at first the others have %q, %q", a, b)
	}
	for _, c := range conns[:2] {
		chat(t, c, strings.Repeat("hello ", 200_000))
	}
	eventually(t, "a connection that has grown has both paths", func() bool { return subflows(conns[1]) == "later: dsl lte" })
	if a := subflows(conns[0]); a != "one: dsl" {
		t.Errorf("one that may not has %q", a)
	}
}

// TestBoxRunsOnUsablePathsOnly starts a CPE with a path that cannot be used: flows use
// the other path, and the unusable one has a reason until it is repaired.
func TestBoxRunsOnUsablePathsOnly(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	lte := n.Line("lte")
	addresses := func(change func(netlink.Link, *netlink.Addr) error) {
		t.Helper()
		err := n.CPE.Do(func() error {
			link, err := netlink.LinkByName(lte.Name)
			if err != nil {
				return err
			}
			for _, p := range []netip.Prefix{netip.PrefixFrom(lte.CPE6, 64), netip.PrefixFrom(lte.CPE4, 28)} {
				addr, err := netlink.ParseAddr(p.String())
				if err != nil {
					return err
				}
				if err := change(link, addr); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	addresses(netlink.AddrDel)
	p := start(t, n)
	sees(t, p.cpe, "lte", "has no address", func(p *api.PathState) bool { return isDown(p) && p.Reason == "no address" })
	c := chatter(t, n, families[0])
	if f, _ := flowFrom(t, p.cpe, c); f.State != "relaying" || len(f.Subflows) != 1 {
		t.Errorf("a flow is %+v", f)
	}
	addresses(netlink.AddrAdd)
	sees(t, p.cpe, "lte", "is up, with a subflow", func(p *api.PathState) bool { return isUp(p) && p.Subflows == 1 })
}

func TestDifferentSecretIsReportedAndFlowsRun(t *testing.T) {
	p := configured(t, netlabtest.Build(t, twoLines), "", "[probe]\nsecret = \"the CPE's alone\"")
	sees(t, p.cpe, "dsl", "is refused, but up", func(p *api.PathState) bool {
		return p.State == "up" && strings.Contains(p.Reason, "secret is another")
	})
	c := chatter(t, p.Network, families[0])
	eventually(t, "both subflows", func() bool {
		f, _ := flowFrom(t, p.cpe, c)
		return f.State == "relaying" && len(f.Subflows) == 2
	})
}

func TestRateLimitsAPathEachWayAndIsRemovedAtTheEnd(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	before := queueing(t, n.CPE)
	p := configured(t, n, `rate = "10mbit"`, "", "--first-path-down", "own-source")
	sees(t, p.cpe, "lte", "is up", isUp)
	if err := n.Line("dsl").Carrier(false); err != nil { // all goes by lte
		t.Fatal(err)
	}
	sees(t, p.cpe, "dsl", "is down", isDown)
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		r, err := netlab.Transfer(within(t, 20*time.Second), traffic(t, n.Server, n.Client, netlab.Server6), d, 2<<20)
		if err != nil || r.Goodput > 12e6 {
			t.Errorf("%s: %.1f Mbit/s, %v", d, r.Goodput/1e6, err)
		}
		t.Logf("%s: %.1f Mbit/s", d, r.Goodput/1e6)
	}
	if err := n.Line("dsl").Carrier(true); err != nil {
		t.Fatal(err)
	}
	p.down(t)
	same(t, before, queueing(t, n.CPE))
}

func TestForeignQueueingDisciplineIsLeftAlone(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	err := n.CPE.Do(func() error {
		link, err := netlink.LinkByName("lte")
		if err != nil {
			return err
		}
		return netlink.QdiscAdd(netlink.NewHtb(netlink.QdiscAttrs{
			LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT,
		}))
	})
	if err != nil {
		t.Fatal(err)
	}
	before := queueing(t, n.CPE)
	p := configured(t, n, `rate = "10mbit"`, "")
	sees(t, p.cpe, "lte", "is up", isUp)
	same(t, before, queueing(t, n.CPE))
	cpe := p.cpe
	p.down(t)
	if log := strings.Join(cpe.Log(), "\n"); !strings.Contains(log, "queueing of its own: htb 1:0") {
		t.Errorf("nobody said why: %q", log)
	}
}

// queueing lists the interfaces of a host and their queueing disciplines.
func queueing(t *testing.T, h *netlab.Host) (all []string) {
	t.Helper()
	err := h.Do(func() error {
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, l := range links {
			all = append(all, l.Attrs().Name)
			qdiscs, err := netlink.QdiscList(l)
			if err != nil {
				return err
			}
			for _, q := range qdiscs {
				all = append(all, fmt.Sprintf("%s: %s %s", l.Attrs().Name, q.Type(), netlink.HandleStr(q.Attrs().Handle)))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
