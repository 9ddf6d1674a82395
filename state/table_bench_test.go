package state

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// sizes of the tables that benchmarks compare.
var sizes = []int{1000, 1_000_000}

// filled is a table with flows 0 to n-1 relaying.
func filled(tb testing.TB, n int) *Table {
	table := NewTable(Config{MaxFlows: 2 * n})
	for i := range n {
		bring(tb, table, nth(i), Relaying)
	}
	return table
}

// benchmarkTable runs run with filled tables. It gives numbers of flows that are
// live, in random order.
func benchmarkTable(b *testing.B, run func(b *testing.B, table *Table, n int, live func() int)) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			table := filled(b, n)
			random := rand.New(rand.NewPCG(1, 2))
			runtime.GC()
			b.ReportAllocs()
			run(b, table, n, func() int { return random.IntN(n) })
		})
	}
}

// BenchmarkTableLookup finds live flows.
func BenchmarkTableLookup(b *testing.B) {
	benchmarkTable(b, func(b *testing.B, table *Table, n int, live func() int) {
		for b.Loop() {
			if _, ok := table.Lookup(nth(live())); !ok {
				b.Fatal("a live flow is not found")
			}
		}
	})
}

// BenchmarkTableRepeat is the SYN of a live flow, once more.
func BenchmarkTableRepeat(b *testing.B) {
	benchmarkTable(b, func(b *testing.B, table *Table, n int, live func() int) {
		for b.Loop() {
			if !table.Begin(0, Flow{Key: nth(live()), Held: 1}).Repeat {
				b.Fatal("a live flow begins")
			}
		}
	})
}

// BenchmarkTableFlow is the whole life of a flow, while others stay.
func BenchmarkTableFlow(b *testing.B) {
	benchmarkTable(b, func(b *testing.B, table *Table, n int, _ func() int) {
		for i := n; b.Loop(); i++ {
			k := nth(i)
			table.Begin(0, Flow{Key: k, State: Dialing})
			move(table, 0, k, Released, None)
			move(table, 0, k, Relaying, None)
			move(table, 0, k, Closed, FIN)
		}
	})
}

// BenchmarkTableChurn is a flow that begins, and the end of one that has lived for
// some time.
func BenchmarkTableChurn(b *testing.B) {
	benchmarkTable(b, func(b *testing.B, table *Table, n int, live func() int) {
		flows := make([]int32, n)
		for i := range flows {
			flows[i] = int32(i)
		}
		for i := int32(n); b.Loop(); i++ {
			k := nth(int(i))
			table.Begin(0, Flow{Key: k, State: Dialing})
			move(table, 0, k, Released, None)
			move(table, 0, k, Relaying, None)
			ends := &flows[live()]
			move(table, 0, nth(int(*ends)), Closed, FIN)
			*ends = i
		}
	})
}

// BenchmarkTableAll copies all flows, as a dump does.
func BenchmarkTableAll(b *testing.B) {
	benchmarkTable(b, func(b *testing.B, table *Table, n int, _ func() int) {
		for b.Loop() {
			for range table.All() {
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/flow")
	})
}

// BenchmarkTableExpire is a dial that is not answered, in a table with others.
func BenchmarkTableExpire(b *testing.B) {
	benchmarkTable(b, func(b *testing.B, table *Table, n int, _ func() int) {
		timeout := table.cfg.Dial
		var now time.Duration
		for i := n; b.Loop(); i++ {
			table.Begin(now, Flow{Key: nth(i), State: Dialing})
			now += timeout
			if len(table.Expire(now, 10)) != 1 {
				b.Fatal("it does not expire")
			}
		}
	})
}

// BenchmarkTableFill measures what the entries of a table take: memory, and the
// time to mark it.
func BenchmarkTableFill(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				table := filled(b, n)
				runtime.GC()
				runtime.ReadMemStats(&after)
				runtime.KeepAlive(table)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/flow")
		})
	}
}
