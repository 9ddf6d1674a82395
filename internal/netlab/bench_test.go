//go:build linux

package netlab_test

import (
	"io"
	"net"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// BenchmarkLineDelay measures the excess of a round trip over twice the delay, and
// this process's processor time for it.
func BenchmarkLineDelay(b *testing.B) {
	const oneWay = 10 * time.Millisecond
	n, err := netlab.Build(netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Delay: oneWay}}})
	if err != nil {
		b.Skip(err)
	}
	defer n.Close()
	l, err := n.Server.Listen("tcp", net.JoinHostPort(netlab.Server6.String(), "0"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			io.Copy(c, c)
		}
	}()
	c, err := n.Client.Dial(b.Context(), "tcp", "", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	var excess []time.Duration
	buf := make([]byte, 1)
	before := processorTime(b)
	for b.Loop() {
		start := time.Now()
		c.Write(buf)
		if _, err := io.ReadFull(c, buf); err != nil {
			b.Fatal(err)
		}
		excess = append(excess, time.Since(start)-2*oneWay)
	}
	used := processorTime(b) - before
	slices.Sort(excess)
	b.ReportMetric(float64(excess[len(excess)/2].Microseconds()), "µs-late/p50")
	b.ReportMetric(float64(excess[len(excess)*9/10].Microseconds()), "µs-late/p90")
	b.ReportMetric(float64(excess[0].Microseconds()), "µs-late/min")
	b.ReportMetric(float64(used.Microseconds())/float64(len(excess)), "µs-cpu/op")
}

func processorTime(b *testing.B) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
