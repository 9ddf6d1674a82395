//go:build linux

package probe

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/paths"
)

// observed is a monitor of the lab's CPE and all that it has published.
type observed struct {
	*Monitor
	mu     sync.Mutex
	begun  time.Time
	states []observation
}

type observation struct {
	at    time.Time
	paths []paths.Status
	hag   paths.HAGStatus
}

// last returns the newest observation.
func (o *observed) last() observation {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.states[len(o.states)-1]
}

// failures returns the number of failures of path i since the first status.
func (o *observed) failures(i int) (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for k := 1; k < len(o.states); k++ {
		if o.states[k-1].paths[i].Up && !o.states[k].paths[i].Up {
			n++
		}
	}
	return n
}

// await waits until a status that was told after since is as wanted, and returns
// how long after since that was.
func (o *observed) await(t *testing.T, since time.Time, what string, want func(observation) bool) (took time.Duration) {
	t.Helper()
	eventually(t, what+" is not seen", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, s := range o.states {
			if !s.at.Before(since) && want(s) {
				took = s.at.Sub(since)
				return true
			}
		}
		return false
	})
	if t.Failed() {
		t.Logf("last: %+v", o.last())
	}
	t.Logf("%s: after %v", what, took.Round(time.Millisecond))
	return took
}

// observe runs a monitor on the CPE, with join addresses of every line.
func observe(t *testing.T, n *netlab.Network, cfg paths.ProbeConfig) *observed {
	t.Helper()
	all := make([]paths.Path, len(n.Lines))
	for i, l := range n.Lines {
		all[i] = paths.Path{Name: l.Name, Interface: l.Name, Join: []netip.AddrPort{at(l.HAG6, probePort), at(l.HAG4, probePort)}}
	}
	o := &observed{begun: time.Now()}
	var machine *host.Machine
	check(t, n.CPE.Do(func() (err error) {
		if machine, err = host.OpenMachine(); err != nil {
			return err
		}
		o.Monitor, err = NewMonitor(machine, nil, all, cfg, slog.New(slog.DiscardHandler))
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	watching := netlabtest.Inside(t, n.CPE, func() error { return machine.Watch(ctx, true) })
	running := netlabtest.Inside(t, n.CPE, func() error { return o.Run(ctx, o.note) })
	t.Cleanup(func() {
		cancel()
		check(t, <-watching)
		check(t, <-running)
		check(t, machine.Close())
	})
	return o
}

func (o *observed) note() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.states = append(o.states, observation{time.Now(), o.Statuses(), o.HAG()})
}

const probePort = 7100

// refusedReason is the reason of a path whose join address has no box.
const refusedReason = "no box takes probes at the join address"

// patient is a silence that machines do not make which run many tests at a time.
const patient = 500 * time.Millisecond

// respond runs a responder on the HAG until stop.
func respond(t *testing.T, n *netlab.Network, secret string) (r *Responder, stop func()) {
	t.Helper()
	var joins []netip.AddrPort
	for _, l := range n.Lines {
		joins = append(joins, at(l.HAG6, probePort), at(l.HAG4, probePort))
	}
	end := func(paths.SubflowMatch) (int, error) { return 0, nil }
	check(t, n.HAG.Do(func() (err error) {
		r, err = NewResponder(joins, secret, end, slog.New(slog.DiscardHandler))
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	running := netlabtest.Inside(t, n.HAG, func() error { return r.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		check(t, <-running)
		check(t, r.Close())
	})
	t.Cleanup(stop)
	return r, stop
}

// Wanted observations.

func works(i int) func(observation) bool {
	return func(s observation) bool { return s.paths[i].Up && s.paths[i].Probed }
}

func fails(i int, reason string) func(observation) bool {
	return func(s observation) bool { return !s.paths[i].Up && s.paths[i].Reason == reason }
}

func hag(want paths.HAGState) func(observation) bool {
	return func(s observation) bool { return s.hag.State == want }
}

func both(a, b func(observation) bool) func(observation) bool {
	return func(s observation) bool { return a(s) && b(s) }
}

func TestMonitorNoticesFailureAndReturnOfAPath(t *testing.T) {
	lte := func(n *netlab.Network) netip.Prefix { return netip.PrefixFrom(n.Lines[1].CPE6, 64) }
	lte4 := func(n *netlab.Network) netip.Prefix { return netip.PrefixFrom(n.Lines[1].CPE4, 28) }
	for _, c := range []struct {
		name, reason  string
		lose, restore func(*netlab.Network) error
	}{
		{"no carrier", "no carrier",
			func(n *netlab.Network) error { return n.Lines[1].Carrier(false) },
			func(n *netlab.Network) error { return n.Lines[1].Carrier(true) }},
		{"silence", "silent",
			func(n *netlab.Network) error { return n.Lines[1].Down(true) },
			func(n *netlab.Network) error { return n.Lines[1].Down(false) }},
		{"no address", "no address",
			func(n *netlab.Network) error {
				return removeAddresses(n.CPE, "lte", lte(n), lte4(n))
			},
			func(n *netlab.Network) error { return n.CPE.AddAddress("lte", lte(n)) }},
		{"no route", "no route to the join address",
			func(n *netlab.Network) error { return flushRoutes(n.CPE, "lte") },
			func(n *netlab.Network) error {
				net := lte(n).Masked()
				return errors.Join(
					n.CPE.AddRoute(netlab.Route{To: net, Dev: "lte"}),
					n.CPE.AddRoute(netlab.Route{To: netip.PrefixFrom(n.Lines[1].HAG6, 128), Via: net.Addr().Next(), Dev: "lte"}))
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := build(t)
			a, _ := respond(t, n, "")
			o := observe(t, n, paths.ProbeConfig{Idle: 200 * time.Millisecond, Silence: patient, Hold: 100 * time.Millisecond})
			o.await(t, o.begun, "both lines are up", both(works(0), both(works(1), hag(paths.HAGUp))))
			eventually(t, "the HAG does not know both lines' addresses", func() bool { return len(addresses(a, false)) == 4 })
			then := time.Now()
			check(t, c.lose(n))
			o.await(t, then, "loss", fails(1, c.reason))
			lost := []netip.Addr{n.Lines[1].CPE4, n.Lines[1].CPE6}
			eventually(t, "the HAG is not told", func() bool { return slices.Equal(addresses(a, true), lost) })
			then = time.Now()
			check(t, c.restore(n))
			o.await(t, then, "return", works(1))
			if n := o.failures(0); n != 0 {
				t.Errorf("the other path failed %d times", n)
			}
			if s := o.HAG(); s.State != paths.HAGUp {
				t.Errorf("HAG: %+v", s)
			}
		})
	}
}

// addresses returns those that the HAG knows of CPEs: all, or those of paths that are down.
func addresses(a *Responder, down bool) (out []netip.Addr) {
	for _, p := range a.Peers() {
		for _, path := range p.Paths {
			if path.Down || !down {
				out = append(out, path.Addr)
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

func removeAddresses(h *netlab.Host, ifname string, all ...netip.Prefix) error {
	return h.Netlink(func(nl *netlink.Handle) error {
		dev, err := nl.LinkByName(ifname)
		if err != nil {
			return err
		}
		for _, a := range all {
			addr, err := netlink.ParseAddr(a.String())
			if err != nil {
				return err
			}
			if err := nl.AddrDel(dev, addr); err != nil {
				return err
			}
		}
		return nil
	})
}

// flushRoutes removes all routes by an interface but those to its own addresses.
func flushRoutes(h *netlab.Host, ifname string) error {
	return h.Netlink(func(nl *netlink.Handle) error {
		dev, err := nl.LinkByName(ifname)
		if err != nil {
			return err
		}
		routes, err := nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{LinkIndex: dev.Attrs().Index},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
		if err != nil {
			return err
		}
		for _, r := range routes {
			if r.Table == unix.RT_TABLE_LOCAL {
				continue
			}
			if err := nl.RouteDel(&r); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestMonitorNoticesRestartOfTheHAG(t *testing.T) {
	n := build(t)
	_, stop := respond(t, n, "")
	o := observe(t, n, paths.ProbeConfig{Idle: 200 * time.Millisecond, Silence: patient})
	o.await(t, o.begun, "the HAG", hag(paths.HAGUp))
	first := o.HAG().Instance
	then := time.Now()
	stop()
	o.await(t, then, "its end", hag(paths.HAGDown))
	if s := o.HAG(); s.Reason != refusedReason {
		t.Errorf("HAG: %+v", s)
	}
	for i := range n.Lines {
		if s := o.Statuses()[i]; !s.Up || s.Reason != refusedReason {
			t.Errorf("path %d: %+v", i, s)
		}
	}
	then = time.Now()
	respond(t, n, "")
	o.await(t, then, "its return", both(hag(paths.HAGUp), func(s observation) bool { return s.hag.Instance != first }))
	if o.failures(0)+o.failures(1) != 0 {
		t.Error("a path failed with the HAG")
	}
}

// TestHAGWithoutAJoinAddressOfAFamilyIsUp has the HAG take probes over one address family only,
// while the CPE has join addresses of both.
func TestHAGWithoutAJoinAddressOfAFamilyIsUp(t *testing.T) {
	n := build(t)
	var r *Responder
	check(t, n.HAG.Do(func() (err error) {
		var joins []netip.AddrPort
		for _, l := range n.Lines {
			joins = append(joins, at(l.HAG4, probePort))
		}
		r, err = NewResponder(joins, "", nil, slog.New(slog.DiscardHandler))
		return err
	}))
	ctx, cancel := context.WithCancel(context.Background())
	running := netlabtest.Inside(t, n.HAG, func() error { return r.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		check(t, <-running)
		check(t, r.Close())
	})
	o := observe(t, n, paths.ProbeConfig{Silence: patient})
	named := func(s observation) bool {
		return s.hag.State == paths.HAGUp && !slices.ContainsFunc(s.paths, func(p paths.Status) bool {
			return !p.Up || !p.Probed || p.Reason6 != "probes are refused" || p.Reason4 != "" || p.Refused6.IsZero() || !p.Refused4.IsZero()
		})
	}
	o.await(t, o.begun, "the family is named", named)
	time.Sleep(3 * time.Second)
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, s := range o.states {
		if s.hag.State == paths.HAGDown {
			t.Fatalf("observation %d: %+v", i, s)
		}
	}
}

func TestPathsFollowTheirLinksWhereTheHAGDeniesProbes(t *testing.T) {
	n := build(t)
	respond(t, n, "rosebud")
	o := observe(t, n, paths.ProbeConfig{Secret: "open sesame", Hold: time.Millisecond})
	o.await(t, o.begun, "the refusal", func(s observation) bool {
		return s.paths[0].Up && s.paths[1].Up && strings.Contains(s.paths[0].Reason, "secret") && strings.Contains(s.paths[1].Reason, "secret")
	})
	if s := o.HAG(); s.State != paths.HAGUp {
		t.Errorf("HAG: %+v", s)
	}
	then := time.Now()
	check(t, n.Lines[0].Carrier(false))
	o.await(t, then, "loss of carrier", fails(0, "no carrier"))
	check(t, n.Lines[0].Carrier(true))
	o.await(t, then, "its return", func(s observation) bool { return s.paths[0].Up })
}

func TestVersionOfAnotherHAGIsReported(t *testing.T) {
	n := build(t)
	var c *net.UDPConn
	check(t, n.HAG.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at(n.Lines[1].HAG6, probePort)))
		return err
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		var buf [messageSize]byte
		for {
			_, from, err := c.ReadFromUDPAddrPort(buf[:])
			if err != nil {
				return
			}
			buf[offVersion], buf[offType] = 9, byte(kindRefusal)
			c.WriteToUDPAddrPort(buf[:], from)
		}
	}()
	defer func() { check(t, c.Close()); <-done }()
	o := observe(t, n, paths.ProbeConfig{})
	o.await(t, o.begun, "the refusal", func(s observation) bool {
		return s.paths[1].Up && strings.Contains(s.paths[1].Reason, "version 9")
	})
}

func TestPathFailsAndReturnsWhenItsAddressIsReplaced(t *testing.T) {
	n := build(t)
	a, _ := respond(t, n, "")
	o := observe(t, n, paths.ProbeConfig{Silence: patient, Hold: 100 * time.Millisecond})
	o.await(t, o.begun, "both lines are up", both(works(0), works(1)))
	old := n.Lines[1].CPE6
	then := time.Now()
	// In this order: the monitor may look between the two.
	check(t, removeAddresses(n.CPE, "lte", netip.PrefixFrom(old, 64)))
	check(t, n.CPE.AddAddress("lte", netip.PrefixFrom(old.Next(), 64)))
	o.await(t, then, "the failure", func(s observation) bool { return !s.paths[1].Up })
	o.await(t, then, "the return", func(s observation) bool { return s.paths[1].Up && s.paths[1].Addr6 == old.Next() })
	eventually(t, "the HAG does not hear of the new address", func() bool { return slices.Contains(addresses(a, false), old.Next()) })
	if o.failures(0) != 0 {
		t.Error("the other path failed")
	}
}

func TestHAGThatNeverAnswersIsUnknown(t *testing.T) {
	n := build(t)
	check(t, n.Lines[0].Down(true))
	check(t, n.Lines[1].Down(true))
	o := observe(t, n, paths.ProbeConfig{Idle: 100 * time.Millisecond, Silence: 20 * time.Millisecond})
	o.await(t, o.begun, "links", func(s observation) bool { return s.paths[0].Up && s.paths[1].Up })
	eventually(t, "no probes are sent", func() bool { return o.Statuses()[1].Sent > 10 })
	if s := o.HAG(); s.State != paths.HAGUnknown {
		t.Errorf("HAG: %+v", s)
	}
	if o.failures(0)+o.failures(1) != 0 {
		t.Error("a path without any reply failed")
	}
}

func TestUnprobedPathsFollowTheirLinks(t *testing.T) {
	n := build(t)
	o := observe(t, n, paths.ProbeConfig{Off: true, Hold: time.Millisecond})
	o.await(t, o.begun, "links", func(s observation) bool { return s.paths[0].Up && s.paths[1].Up })
	then := time.Now()
	check(t, n.Lines[1].Carrier(false))
	o.await(t, then, "loss of carrier", fails(1, "no carrier"))
	if s := o.Statuses()[0]; s.Sent != 0 || s.Probed {
		t.Errorf("probed: %+v", s)
	}
}
