package core

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"

	"github.com/google/gopacket/layers"

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
func relaying(b *testing.B, n uint32, syn syns) *driver {
	core := newDriver(b, Config{Table: state.Config{MaxFlows: int(2 * n)}, Policy: new(Policy)})
	for i := range n {
		core.pair(0, core.decide(0, state.Plain, i, syn.nth(i)).Key)
	}
	runtime.GC()
	return core
}

// BenchmarkCorePacket is what the deciding core does about a SYN: parse it, ask
// policy, and look it up among so many relayed flows. A new flow ends at once.
func BenchmarkCorePacket(b *testing.B) {
	for _, n := range []uint32{1000, 1_000_000} {
		syn := newSYNs(b)
		core := relaying(b, n, syn)
		b.Run(fmt.Sprintf("new/flows=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := n; b.Loop(); i++ {
				d := core.decide(0, state.Plain, i, syn.nth(i))
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
				if d := core.decide(0, state.Plain, 0, syn.nth(random.Uint32N(n))); d.Verdict != Deliver {
					b.Fatalf("decision %+v", d)
				}
			}
		})
	}
}
