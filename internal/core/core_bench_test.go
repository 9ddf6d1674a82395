package core

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/synbond/synbond/internal/packettest"
	"github.com/synbond/synbond/state"
)

// relaying returns a core that relays the flows of clients 0 to n-1.
func relaying(b *testing.B, n uint32, syn packettest.SYNs) *driver {
	core := newDriver(b, Config{Table: state.Config{MaxFlows: int(2 * n)}, Policy: new(Policy)})
	for i := range n {
		core.pair(0, core.decide(0, state.Plain, i, syn.Nth(i)).Key)
	}
	runtime.GC()
	return core
}

// BenchmarkCorePacket measures a decision about a SYN: parse it, ask
// policy, and look it up among so many relayed flows. A new flow ends at once.
func BenchmarkCorePacket(b *testing.B) {
	for _, n := range []uint32{1000, 1_000_000} {
		syn := packettest.NewSYNs(b)
		core := relaying(b, n, syn)
		b.Run(fmt.Sprintf("new/flows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := n; b.Loop(); i++ {
				d := core.decide(0, state.Plain, i, syn.Nth(i))
				if d.Verdict != Hold {
					b.Fatalf("decision %+v", d)
				}
				core.close(0, d.Key)
			}
		})
		b.Run(fmt.Sprintf("repeat/flows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			random := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				if d := core.decide(0, state.Plain, 0, syn.Nth(random.Uint32N(n))); d.Verdict != Deliver {
					b.Fatalf("decision %+v", d)
				}
			}
		})
	}
}
