package box

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/state"
)

// syns makes SYNs of many clients out of one, in place.
type syns []byte

// nth is the SYN of client number n. Its interface identifier is n and the
// complement of n: their one's complement sum is the same for all n, and so the
// checksum stays right.
func (s syns) nth(n uint32) []byte {
	const identifier = 8 + 8 // of the source address
	binary.BigEndian.PutUint32(s[identifier:], n)
	binary.BigEndian.PutUint32(s[identifier+4:], ^n)
	return s
}

// newSYNs returns SYNs of hosts.
func newSYNs(b *testing.B) syns {
	from := netip.AddrPortFrom(netip.MustParseAddr("2001:db8:1::ffff:ffff"), client6.Port())
	return syns(segment(b, from, server6, func(h *layers.TCP) { h.SYN = true }, mss))
}

// relaying returns a core that relays the flows of clients 0 to n-1.
func relaying(n uint32, syn syns) *Core {
	core := NewCore(state.Config{MaxFlows: int(2 * n)}, state.LearntConfig{}, &Policy{})
	for i := range n {
		d := core.Packet(0, state.Plain, i, syn.nth(i))
		core.Connected(0, d.Key, nil)
		core.Table.Move(0, d.Key, state.Relaying, "")
	}
	runtime.GC()
	return core
}

// BenchmarkCorePacket is what the deciding core does about a SYN: parse it, ask
// policy, and look it up among so many relayed flows. A new flow ends at once.
func BenchmarkCorePacket(b *testing.B) {
	for _, n := range []uint32{1000, 1_000_000} {
		syn := newSYNs(b)
		core := relaying(n, syn)
		b.Run(fmt.Sprintf("new/flows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := n; b.Loop(); i++ {
				d := core.Packet(0, state.Plain, i, syn.nth(i))
				if d.Verdict != Hold {
					b.Fatalf("decision %+v", d)
				}
				core.Table.Move(0, d.Key, state.Closed, "fin")
			}
		})
		b.Run(fmt.Sprintf("repeat/flows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			random := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				if d := core.Packet(0, state.Plain, 0, syn.nth(random.Uint32N(n))); d.Verdict != Deliver {
					b.Fatalf("decision %+v", d)
				}
			}
		})
	}
}

// BenchmarkCorePacketBeside is how late the decisions about SYNs are in a box with
// a million flows that does something else, too, over and over without a rest: far
// more than a box does. A SYN comes every half a millisecond; that it waits for the
// processor counts as well.
func BenchmarkCorePacketBeside(b *testing.B) {
	const flows, most = 1_000_000, 1000
	syn := newSYNs(b)
	core := relaying(flows, syn)
	box := &Box{start: time.Now(), core: core, queue: new(nfq.Queue), recorder: idle{}}
	for _, c := range []struct {
		name string
		work func(n uint32)
	}{
		{"nothing", func(uint32) { time.Sleep(time.Millisecond) }},
		{"dump", func(uint32) { _ = box.writeDump(io.Discard, true) }},
		{"expiry", func(n uint32) {
			for i := range uint32(most) {
				k := state.KeyOf(server6, netip.AddrPortFrom(client6.Addr(), uint16(n*most+i)))
				core.Table.Begin(0, state.Flow{Key: k, State: state.Dialing})
			}
			core.Table.Expire(time.Hour, most)
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
			for due := time.Now(); b.Loop(); due = due.Add(500 * time.Microsecond) {
				time.Sleep(time.Until(due))
				core.Packet(0, state.Plain, 0, syn.nth(random.Uint32N(flows)))
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
