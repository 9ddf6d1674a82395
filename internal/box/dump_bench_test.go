//go:build linux

package box

import (
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/packettest"
	"github.com/synbond/synbond/state"
)

// BenchmarkSYNBeside measures how late decisions about SYNs are in a box with a
// million flows that does something else, too, over and over without a rest: far more
// than a box does. A SYN comes every half a millisecond; the time that the decision
// waits for the processor counts as well.
func BenchmarkSYNBeside(b *testing.B) {
	const flows, most = 1_000_000, 1000
	x := newBox(Config{Policy: new(core.Policy), Table: state.Config{MaxFlows: 2 * flows, MaxHalfOpen: 2 * most}.WithDefaults()})
	x.queue = idleQueue{}
	syn, others := packettest.NewSYNs(b), packettest.NewSYNs(b)
	for n := range uint32(flows) {
		acts := x.core.Packet(nil, 0, core.Packet{Data: syn.Nth(n)})
		id := acts[1].Flow
		x.core.DialEnded(nil, 0, id, core.Dialed{})
		x.core.Paired(nil, 0, id)
	}
	for _, c := range []struct {
		name string
		work func(n uint32)
	}{
		{"nothing", func(uint32) { time.Sleep(time.Millisecond) }},
		{"dump", func(uint32) { _ = x.writeDump(io.Discard, flowFilter{api.FlowFilter{All: true}}) }},
		{"filtered-dump", func(uint32) { _ = x.writeDump(io.Discard, flowFilter{api.FlowFilter{Port: 1}}) }},
		{"expiry", func(n uint32) {
			for i := range uint32(most) {
				x.core.Packet(nil, 0, core.Packet{Data: others.Nth(flows + i)})
			}
			x.core.Tick(nil, time.Duration(n+1)*time.Hour)
		}},
		{"garbage-collection", func(uint32) { runtime.GC() }},
	} {
		b.Run(c.name, func(b *testing.B) {
			var done atomic.Bool
			var beside sync.WaitGroup
			beside.Go(func() {
				for n := uint32(0); !done.Load(); n++ {
					c.work(n)
				}
			})
			random := rand.New(rand.NewPCG(1, 2))
			var late []time.Duration
			var acts []core.Action
			for due := time.Now(); b.Loop(); due = due.Add(500 * time.Microsecond) {
				time.Sleep(time.Until(due))
				acts = x.core.Packet(acts[:0], 0, core.Packet{Data: syn.Nth(random.Uint32N(flows))})
				late = append(late, time.Since(due))
			}
			done.Store(true)
			beside.Wait()
			slices.Sort(late)
			for name, part := range map[string]float64{"µs/p50": 0.5, "µs/p99": 0.99, "µs/max": 1} {
				b.ReportMetric(float64(late[int(part*float64(len(late)-1))].Microseconds()), name)
			}
		})
	}
}

// idleQueue is a queue without packets.
type idleQueue struct{ queue }

func (idleQueue) Errors() uint64 { return 0 }
