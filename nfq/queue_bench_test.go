//go:build linux

package nfq_test

import (
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/nfq"
)

// BenchmarkQueue measures the queue loop: the kernel queues a UDP packet that a host
// sends to itself, and the handler accepts it.
func BenchmarkQueue(b *testing.B) {
	netlabtest.Require(b)
	h, err := netlab.NewHost("bench")
	if err != nil {
		b.Fatal(err)
	}
	defer h.Close()
	const window = 256 // packets without a verdict, at most
	var q *nfq.Queue
	var fd int
	done := make(chan struct{})
	verdicts := make(chan struct{}, window)
	if err := h.Do(func() (err error) {
		if err := queueOutput(); err != nil {
			return err
		}
		if q, err = nfq.Open(nfq.QueueConfig{MaxLength: 2 * window}); err != nil {
			return err
		}
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	defer q.Close()
	var seen atomic.Int64
	if err := q.Start(b.Context(), func(p nfq.Packet) {
		if err := q.Accept(p.ID); err != nil {
			b.Error(err)
		}
		<-verdicts
		if seen.Add(1) == int64(b.N) {
			close(done)
		}
	}); err != nil {
		b.Fatal(err)
	}
	to := &unix.SockaddrInet6{Addr: netip.IPv6Loopback().As16(), Port: 9}
	payload := make([]byte, 40)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		verdicts <- struct{}{}
		// No socket listens: every other error is the ICMP answer to an earlier packet.
		_ = unix.Sendto(fd, payload, 0, to)
	}
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "packets/s")
}

// queueOutput queues the UDP packets that this network namespace sends.
func queueOutput() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Name: "bench", Family: nftables.TableFamilyINet})
	chain := c.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter,
	})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
		nfq.QueueExpr(0, false, true),
	}})
	return c.Flush()
}
