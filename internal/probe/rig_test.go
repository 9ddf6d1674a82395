//go:build linux

package probe

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/synbond/synbond/internal/paths"
)

// endCalls is an [EndSubflows] that remembers the addresses that match.
type endCalls struct {
	mu    sync.Mutex
	calls [][]netip.Addr
}

func (e *endCalls) end(match paths.SubflowMatch) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var matched []netip.Addr
	for _, a := range []netip.Addr{dslA, lteA} {
		s := paths.Subflow{Joined: true, Remote: netip.AddrPortFrom(a, 9)}
		if match(&s, []paths.Subflow{s}) {
			matched = append(matched, a)
		}
	}
	e.calls = append(e.calls, matched)
	return len(matched), nil
}

func TestSilentBusyPathFailsQuicklyAndReturnsAfterTheHoldTime(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		var ended endCalls
		responder, stop := x.respond("", ended.end)
		defer stop()
		x.await("both paths", x.bothProbed)
		time.Sleep(10 * time.Second)

		x.setSilent("lte", true)
		took := x.await("the failure", func() bool { return !x.Statuses()[1].Up })
		x.within("the failure", took, 150*time.Millisecond, 300*time.Millisecond)
		if s := x.Statuses()[1]; s.Reason != "silent" {
			t.Errorf("reason %q", s.Reason)
		}
		time.Sleep(100 * time.Millisecond) // for the report to the HAG
		synctest.Wait()
		peers := responder.Peers()
		if len(peers) != 1 || len(peers[0].Paths) != 2 || peers[0].Paths[0].Down || !peers[0].Paths[1].Down {
			t.Errorf("the HAG knows %+v", peers)
		}
		time.Sleep(2 * time.Second)
		ended.mu.Lock()
		if len(ended.calls) != searches || !slices.Equal(ended.calls[0], []netip.Addr{lteA}) {
			t.Errorf("the HAG ends subflows %v", ended.calls)
		}
		ended.mu.Unlock()

		x.setSilent("lte", false)
		took = x.await("the return", func() bool { return x.Statuses()[1].Up })
		x.within("the return", took, time.Second, 2500*time.Millisecond)
		if s := x.Statuses()[0]; !s.Up || x.HAG().State != paths.HAGUp {
			t.Errorf("the other path is %+v, the HAG %+v", s, x.HAG())
		}
	})
}

func TestLargestPacketOfAPathIsFound(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		set := func(largest int) {
			x.network.mu.Lock()
			defer x.network.mu.Unlock()
			x.network.largest["lte"] = largest
		}
		limit := func(want int) func() bool {
			return func() bool { s := x.Statuses(); return s[1].Limit6 == want && s[0].Limit6 == 0 }
		}
		set(1400)
		_, stop := x.respond("", nil)
		defer stop()
		x.within("the first check", x.await("a limit at the start", limit(1400)), 0, 3*time.Second)
		if !x.bothProbed() {
			t.Errorf("the paths are %+v", x.Statuses())
		}
		set(0)
		x.await("no limit any more", limit(0))
		time.Sleep(10 * time.Second)
		set(1300)
		x.within("a later check", x.await("a limit on a busy path", limit(1280)), time.Second, 6*time.Second)
	})
}

func TestHAGThatKnowsNoItemsIsNotSentAny(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		x.network.mu.Lock()
		x.network.noItems = true
		x.network.mu.Unlock()
		_, stop := x.respond("", nil)
		defer stop()
		x.await("both paths", x.bothProbed)
		time.Sleep(time.Minute)
		if s := x.Statuses()[1]; s.Seen6.IsValid() || s.Limit6 != 0 || s.Missed > 0 {
			t.Errorf("the path is %+v", s)
		}
	})
}

func TestAddressThatTheHAGSeesIsKnown(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		_, stop := x.respond("", nil)
		defer stop()
		x.await("the address", func() bool { return x.Statuses()[1].Seen6 == lteA })
		if x.Statuses()[1].Translation() != (paths.Translation{}) {
			t.Errorf("the path is %+v", x.Statuses()[1])
		}
	})
}

func TestIdlePathIsProbedSeldomAndFailsLater(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		x.machine.mu.Lock()
		x.machine.busy = false
		x.machine.mu.Unlock()
		_, stop := x.respond("", nil)
		defer stop()
		x.await("both paths", x.bothProbed)
		time.Sleep(10 * time.Second)
		before := x.Statuses()[1].Sent
		time.Sleep(time.Minute)
		if n := x.Statuses()[1].Sent - before; n < 10 || n > 20 {
			t.Errorf("%d probes in a minute", n)
		}
		x.setSilent("lte", true)
		took := x.await("the failure", func() bool { return !x.Statuses()[1].Up })
		x.within("the failure", took, 200*time.Millisecond, 6*time.Second)
	})
}

func TestPathFollowsItsLink(t *testing.T) {
	inRig(t, paths.ProbeConfig{Hold: 100 * time.Millisecond}, func(x *rig) {
		_, stop := x.respond("", func(paths.SubflowMatch) (int, error) { return 0, nil })
		defer stop()
		x.await("both paths", x.bothProbed)
		for _, c := range []struct {
			reason        string
			fail, restore func(*paths.Link)
		}{
			{"no carrier", func(l *paths.Link) { l.Carrier = false }, func(l *paths.Link) { l.Carrier = true }},
			{"interface is down", func(l *paths.Link) { l.Enabled = false }, func(l *paths.Link) { l.Enabled = true }},
			{"no address", func(l *paths.Link) { l.Usable, l.Addrs = nil, nil }, func(l *paths.Link) { l.Usable, l.Addrs = []netip.Addr{lteA}, []netip.Addr{lteA} }},
		} {
			time.Sleep(time.Second)
			x.machine.change("lte", c.fail)
			took := x.await(c.reason, func() bool { s := x.Statuses()[1]; return !s.Up && s.Reason == c.reason })
			x.within(c.reason, took, 0, relinkPause)
			x.machine.change("lte", c.restore)
			x.await("the return", x.bothProbed)
		}
	})
}

func TestPathWhoseProbesWereNeverAnsweredNamesTheObstacle(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		_, stop := x.respond("", nil)
		defer stop()
		x.setSilent("lte", true)
		x.await("the reason", func() bool { s := x.Statuses()[1]; return s.Up && s.Reason6 == "no answer to probes" })
		x.machine.mu.Lock()
		x.machine.sources = map[string]paths.Source{"lte": {Addr: lteA, Filter: "a strict filter", FilterRemedy: "a loose one", MarkMatters: true}}
		x.machine.mu.Unlock()
		x.machine.change("lte", func(*paths.Link) {})
		x.await("the filter", func() bool { return strings.HasPrefix(x.Statuses()[1].Reason6, "a strict filter") })
		x.setSilent("lte", false)
		x.await("the replies", func() bool { s := x.Statuses()[1]; return s.Probed && s.Reason6 == "" })
		if s := x.Statuses()[0]; s.Reason6 != "" || s.Reason4 != "" {
			t.Errorf("the other path: %+v", s)
		}
	})
}

func TestReplacedAddressFailsThePathForAMoment(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		_, stop := x.respond("", func(paths.SubflowMatch) (int, error) { return 0, nil })
		defer stop()
		x.await("both paths", x.bothProbed)
		x.machine.change("lte", func(l *paths.Link) { l.Usable, l.Addrs = []netip.Addr{dslB}, []netip.Addr{dslB} })
		x.await("the failure", func() bool { return !x.Statuses()[1].Up })
		x.await("the return", func() bool { s := x.Statuses()[1]; return s.Up && s.Addr6 == dslB })
	})
}

func TestRestartOfTheHAGIsNoticed(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		_, stop := x.respond("", nil)
		x.await("the HAG", func() bool { return x.HAG().State == paths.HAGUp && x.bothProbed() })
		first := x.HAG().Instance
		stop()
		x.await("its end", func() bool { return x.HAG().State == paths.HAGDown })
		for i, s := range x.Statuses() {
			if !s.Up || s.Reason != refusedReason {
				t.Errorf("path %d: %+v", i, s)
			}
		}
		_, stop = x.respond("", nil)
		defer stop()
		took := x.await("its return", func() bool { return x.HAG().State == paths.HAGUp && x.HAG().Instance != first })
		x.within("its return", took, 0, 1200*time.Millisecond)
	})
}

func TestOtherSecretLeavesTheLinksToDecide(t *testing.T) {
	inRig(t, paths.ProbeConfig{Secret: "open sesame"}, func(x *rig) {
		responder, stop := x.respond("rosebud", nil)
		defer stop()
		x.await("the refusal", func() bool {
			s := x.Statuses()
			return s[0].Up && s[1].Up && strings.Contains(s[0].Reason, "secret") && strings.Contains(s[1].Reason, "secret")
		})
		if len(responder.Peers()) > 0 {
			t.Error("the HAG remembers a CPE with another secret")
		}
	})
}

func TestPathsWithoutAnyReplyFollowTheirLinks(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		x.setSilent("dsl", true)
		x.setSilent("lte", true)
		x.await("both paths", func() bool { s := x.Statuses(); return s[0].Up && s[1].Up })
		time.Sleep(time.Minute)
		if s := x.Statuses(); !s[0].Up || !s[1].Up || s[0].Probed || x.HAG().State != paths.HAGUnknown {
			t.Errorf("statuses %+v, HAG %+v", s, x.HAG())
		}
	})
}

// setFiltered makes a path lose UDP, or not.
func (x *rig) setFiltered(ifname string, filtered bool) {
	x.network.mu.Lock()
	defer x.network.mu.Unlock()
	x.machine.mu.Lock()
	defer x.machine.mu.Unlock()
	x.network.filtered[ifname] = filtered
}

// setBusy has the paths carry bytes, or none.
func (x *rig) setBusy(busy bool) {
	x.machine.mu.Lock()
	defer x.machine.mu.Unlock()
	x.machine.busy = busy
}

func TestPathWhoseProbesAreFilteredIsWatchedByTCP(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		var ended endCalls
		_, stop := x.respond("", ended.end)
		defer stop()
		x.await("both paths", x.bothProbed)
		time.Sleep(10 * time.Second)
		for _, name := range []string{"dsl", "lte"} {
			x.setFiltered(name, true)
		}
		x.await("TCP", func() bool { s := x.Statuses(); return s[0].ByTCP && s[1].ByTCP })
		for i := range 200 {
			x.setBusy(i < 100)
			time.Sleep(600 * time.Millisecond)
			if s := x.Statuses(); !s[0].Up || !s[1].Up || s[1].Waiting.IsZero() || x.HAG().State != paths.HAGUnknown {
				t.Fatalf("statuses %+v, HAG %+v", s, x.HAG())
			}
		}
		x.setBusy(true)
		x.setSilent("lte", true)
		x.within("the failure", x.await("the failure", func() bool { return !x.Statuses()[1].Up }), 0, 8*time.Second)
		if !x.Statuses()[0].Up {
			t.Error("the other path is down, too")
		}
		x.setSilent("lte", false)
		x.within("the return", x.await("the return", func() bool { return x.Statuses()[1].Up }), 0, 8*time.Second)
		x.setFiltered("lte", false)
		x.await("probes", func() bool {
			s := x.Statuses()[1]
			return !s.ByTCP && s.Waiting.IsZero() && x.HAG().State == paths.HAGUp
		})
	})
}

func TestPathWhoseProbesWereFilteredFromTheBeginningIsWatchedByTCP(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		var ended endCalls
		_, stop := x.respond("", ended.end)
		defer stop()
		x.setFiltered("dsl", true)
		x.setFiltered("lte", true)
		x.await("TCP", func() bool { s := x.Statuses(); return s[0].Up && s[0].ByTCP && !s[0].Probed && s[1].ByTCP })
		x.setSilent("lte", true)
		x.await("the failure", func() bool { return !x.Statuses()[1].Up })
		if !x.Statuses()[0].Up || x.HAG().State != paths.HAGUnknown {
			t.Errorf("statuses %+v, HAG %+v", x.Statuses(), x.HAG())
		}
	})
}

// A HAG's machine that refuses probes has no box, whatever its TCP says.
func TestTCPOfAMachineWithoutABoxProvesNoBox(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		var ended endCalls
		_, stop := x.respond("", ended.end)
		x.await("both paths", x.bothProbed)
		stop()
		x.await("the end of the box", func() bool { return x.HAG().State == paths.HAGDown })
		for range 50 {
			time.Sleep(700 * time.Millisecond)
			if s := x.HAG(); s.State != paths.HAGDown {
				t.Fatalf("HAG %+v", s)
			}
		}
	})
}

func TestPathThatIsAnsweredLateAtTheStartHasNoObstacle(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		x.setSilent("lte", true)
		_, stop := x.respond("", nil)
		defer stop()
		for i := range 100 {
			time.Sleep(10 * time.Millisecond)
			if i == 80 {
				x.setSilent("lte", false)
			}
			if s := x.Statuses()[1]; s.Reason6 != "" {
				t.Fatalf("after %d ms: %q", 10*i, s.Reason6)
			}
		}
		x.await("both paths", x.bothProbed)
	})
}
