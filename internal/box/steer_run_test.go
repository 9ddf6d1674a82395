//go:build linux

package box

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/nfq/nfqtest"
	"github.com/synbond/synbond/state"
)

// fakePaths are two paths of a test, in the place of a monitor and of the kernel.
type fakePaths struct {
	mu       sync.Mutex
	hag      paths.HAGState
	statuses []paths.Status
	desired  [][]paths.DesiredState // as they were set, without repeats
	ended    []int                  // paths whose subflows were ended
	shaped   map[int]int            // index of the interface, by path
	instance uint64                 // of the HAG
	departed []paths.Departed
	renewed  int // times that refusals were forgotten
	refusals []paths.Refusal
	clamps   []nfq.Clamp // as set last
}

// HAG implements pathMonitor.
func (f *fakePaths) HAG() paths.HAGStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return paths.HAGStatus{State: f.hag, Instance: f.instance}
}

// Statuses implements pathMonitor.
func (f *fakePaths) Statuses() []paths.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.statuses)
}

// Clamp implements pathControl.
func (f *fakePaths) Clamp(all []nfq.Clamp) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clamps = all
	return nil
}

// SetTranslated implements pathControl.
func (f *fakePaths) SetTranslated([]paths.Translation) {}

// Departed implements pathMonitor.
func (f *fakePaths) Departed() []paths.Departed {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := f.departed
	f.departed = nil
	return out
}

// Want implements pathMonitor.
func (f *fakePaths) Want(uint8) {}

// Encapsulations implements pathControl.
func (f *fakePaths) Encapsulations() []paths.EncapsulationStatus {
	return make([]paths.EncapsulationStatus, len(f.statuses))
}

// SetEncapsulation implements pathControl.
func (f *fakePaths) SetEncapsulation(int, paths.Encapsulation) {}

// Renew implements pathControl.
func (f *fakePaths) Renew() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.renewed++
}

// Refusals implements pathControl.
func (f *fakePaths) Refusals() []paths.Refusal {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append(slices.Clone(f.refusals), make([]paths.Refusal, len(f.statuses)-len(f.refusals))...)
}

// SetDesired implements pathControl.
func (f *fakePaths) SetDesired(all []paths.DesiredState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.desired); n == 0 || !slices.Equal(f.desired[n-1], all) {
		f.desired = append(f.desired, slices.Clone(all))
	}
}

// EndPath implements pathControl. It fails, which must not keep the box from the rest.
func (f *fakePaths) EndPath(path int) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = append(f.ended, path)
	return 0, errors.New("not today")
}

// Shape implements pathControl.
func (f *fakePaths) Shape(path, index int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.shaped[path] = index
}

// steered starts the steering of a CPE with two paths that are up.
func steered(t *testing.T, mode core.Mode) (*bench, *fakePaths) {
	join := []netip.AddrPort{netip.MustParseAddrPort("[2001:db8:f::1]:9000"), netip.MustParseAddrPort("203.0.113.1:9000")}
	all := []paths.Path{{Name: "dsl", Interface: "dsl", Mode: paths.Always}, {Name: "lte", Interface: "lte", Mode: paths.Always, Join: join}}
	x := newBench(t, Config{Role: CPE, Paths: all, FirstPathDown: mode})
	up := func(index int, addr string) paths.Status {
		return paths.Status{Up: true, Interface: index, Addr6: netip.MustParseAddr(addr)}
	}
	f := &fakePaths{
		hag: paths.HAGUp, shaped: make(map[int]int),
		statuses: []paths.Status{up(2, "2001:db8:6::2"), up(3, "2001:db8:7::2")},
	}
	usage := paths.OpenUsage(filepath.Join(t.TempDir(), "quota.json"), time.Time{}, slog.New(slog.DiscardHandler))
	s := &steering{changed: make(chan struct{}, 1), usage: usage, policy: paths.NewSteering(all, usage), monitor: f, paths: f}
	x.steering, x.set = s, paths.NewSet(nil, all)
	s.look(len(all))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { _ = x.steer(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	s.news()
	synctest.Wait()
	return x, f
}

// change changes the paths and lets the box learn of it.
func (x *bench) change(f *fakePaths, how func()) {
	f.mu.Lock()
	how()
	f.mu.Unlock()
	x.steering.news()
	synctest.Wait()
}

func TestPathThatFallsIsLeftAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, f := steered(t, core.OwnSource)
		packet := x.queue.Put(lan, synOf(t, 1))
		first := x.last()
		x.change(f, func() { f.statuses[0].Up = false })
		if !slices.Equal(f.ended, []int{0}) {
			t.Errorf("the subflows of paths %v are ended, want those of the first", f.ended)
		}
		second := x.last()
		if !first.Aborted() || second == first || second.Interface != "lte" {
			t.Errorf("the dial goes on from %q, the first one aborted: %v", second.Interface, first.Aborted())
		}
		x.dialEnded(id(second), second, nil)
		x.want(packet, nfqtest.Verdict{Mark: nfq.ToPlain})
		want := [][]paths.DesiredState{{paths.Normal, paths.Normal}, {paths.Closed, paths.Normal}}
		if !slices.EqualFunc(f.desired, want, slices.Equal) {
			t.Errorf("desired %v, want %v", f.desired, want)
		}
		x.change(f, func() { f.statuses[0].Up = true })
		if !slices.Equal(f.ended, []int{0}) {
			t.Errorf("a path that comes back is ended: %v", f.ended)
		}
	})
}

func TestPathThatLosesLargePacketsGetsSubflowsWithALowerMSS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, f := steered(t, core.NoBox)
		for _, step := range []struct {
			limit6, limit4 int
			clamps, ended  int
		}{{1400, 0, 1, 1}, {1400, 1280, 2, 2}, {1280, 1280, 2, 3}, {1400, 1280, 2, 3}, {0, 0, 0, 3}} {
			x.change(f, func() { f.statuses[1].Limit6, f.statuses[1].Limit4 = step.limit6, step.limit4 })
			if len(f.clamps) != step.clamps || len(f.ended) != step.ended || len(x.findings.All()) != step.clamps {
				t.Errorf("packets of %d and %d bytes: clamps %v, paths %v ended, findings %+v", step.limit6, step.limit4, f.clamps, f.ended, x.findings.All())
			}
		}
	})
}

func TestUnansweredProbesAreReportedWithProtocolAndPort(t *testing.T) {
	const port = "UDP port 9000 of 2001:db8:f::1 and 203.0.113.1"
	synctest.Test(t, func(t *testing.T) {
		x, f := steered(t, core.NoBox)
		x.change(f, func() { f.statuses[0].Waiting, f.statuses[1].Waiting = time.Now(), time.Now() })
		time.Sleep(unansweredAfter - steerEvery)
		if all := x.findings.All(); len(all) > 0 {
			t.Errorf("before the time: %+v", all)
		}
		x.change(f, func() { f.statuses[1].Up = false })
		time.Sleep(2 * steerEvery)
		all := x.findings.All()
		if len(all) != 2 || !strings.Contains(all[0].Obstacle, port) || all[0].Consequence == all[1].Consequence || all[1].Path != "lte" {
			t.Errorf("findings %+v", all)
		}
		x.change(f, func() { f.statuses[0].Waiting, f.statuses[1].Waiting = time.Time{}, time.Time{} })
		if all := x.findings.All(); len(all) > 0 {
			t.Errorf("after an answer: %+v", all)
		}
	})
}

func TestHAGThatIsDownIsPassedBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, f := steered(t, core.NoBox)
		x.change(f, func() { f.hag = paths.HAGDown })
		x.want(x.queue.Put(lan, synOf(t, 1)), nfqtest.Verdict{})
		if flow, _ := x.core.Flow(key6); flow.Reason != state.HAGDown {
			t.Errorf("the flow passes because of %q", flow.Reason)
		}
		x.change(f, func() { f.hag = paths.HAGUp })
		packet := x.queue.Put(lan, synOf(t, 2))
		conn := x.last()
		x.dialEnded(id(conn), conn, nil)
		x.want(packet, nfqtest.Verdict{Mark: nfq.ToPlain})
	})
}

func TestInterfaceThatIsMadeAgainIsShapedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, f := steered(t, core.NoBox)
		f.mu.Lock()
		f.statuses[1].Interface = 9
		f.mu.Unlock()
		time.Sleep(2 * steerEvery) // without news of the monitor
		synctest.Wait()
		if f.shaped[0] != 2 || f.shaped[1] != 9 {
			t.Errorf("shaped interfaces %v", f.shaped)
		}
	})
}
