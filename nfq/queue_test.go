//go:build linux

package nfq_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/rewrite"
)

var queueConfig = nfq.QueueConfig{MaxLength: 1024}

func TestAcceptForwardsAHeldSYN(t *testing.T) {
	b := newBench(t, queueConfig)
	outcome := b.connect()
	p := b.held()
	var seg rewrite.Segment
	if err := seg.Parse(p.Payload); err != nil || !seg.IsSYN() || !seg.ChecksumOK() {
		t.Errorf("the queue holds %+v (%v), want a SYN", seg, err)
	}
	if seg.Traits().HopLimit != 63 {
		t.Errorf("the hop limit is %d, want that with which the SYN goes on", seg.Traits().HopLimit)
	}
	if seg.Src.Addr() != netlab.Client6 || seg.Dst.String() != b.addr {
		t.Errorf("the queue holds a SYN from %v to %v", seg.Src, seg.Dst)
	}
	check(t, b.CPE.Do(func() error {
		dev, err := net.InterfaceByName(netlab.CPELanInterface)
		if err == nil && p.IIF != uint32(dev.Index) {
			t.Errorf("the packet arrived at interface %d, want %d", p.IIF, dev.Index)
		}
		if out, err := net.InterfaceByName("dsl"); err != nil || p.OIF != uint32(out.Index) {
			t.Errorf("the packet leaves by interface %d, want dsl (%v)", p.OIF, err)
		}
		return err
	}))
	select {
	case err := <-outcome:
		t.Fatalf("connected while the SYN is held: %v", err)
	default:
	}
	check(t, b.queue.Accept(p.ID))
	expect(t, outcome, nil)
	if n := b.queue.Errors(); n != 0 {
		t.Errorf("%d errors", n)
	}
}

// TestNewRulesKeepHeldSYNs replaces the rules while a SYN is held. A chain that leaves its hook
// takes every held packet with it.
func TestNewRulesKeepHeldSYNs(t *testing.T) {
	b := newBench(t, queueConfig)
	outcome := b.connect()
	p := b.held()
	others := rules
	others.Joins = nil
	check(t, b.CPE.Do(others.Install))
	check(t, b.queue.Accept(p.ID))
	expect(t, outcome, nil)
	if n := b.queue.Errors(); n != 0 {
		t.Errorf("%d errors: the kernel no longer holds the SYN", n)
	}
}

func TestClientRetransmitsADroppedSYN(t *testing.T) {
	b := newBench(t, queueConfig)
	outcome := b.connect()
	first := b.held()
	check(t, b.queue.Drop(first.ID))
	again := b.held()
	if again.ID <= first.ID {
		t.Errorf("packet %d arrives after packet %d", again.ID, first.ID)
	}
	check(t, b.queue.Accept(again.ID))
	expect(t, outcome, nil)
}

func TestMarkOfAReleasedSYNDecidesTheClientsError(t *testing.T) {
	for mark, want := range map[nfq.Mark]error{
		nfq.Pass:            nil,
		nfq.Refused:         unix.ECONNREFUSED,
		nfq.NoRoute:         unix.ENETUNREACH,
		nfq.HostUnreachable: unix.EHOSTUNREACH,
		nfq.Prohibited:      unix.EACCES,
	} {
		b := newBench(t, queueConfig)
		outcome := b.connect()
		check(t, b.queue.Release(b.held().ID, mark))
		expect(t, outcome, want)
	}
}

func TestReleasedSYNReachesTheListener(t *testing.T) {
	for name, b := range map[string]*bench{"looped by the kernel": newBench(t, queueConfig), "looped by the box": withoutDup(t)} {
		t.Run(name, func(t *testing.T) {
			fd := b.transparentListener(rules.Listeners.Plain[0])
			defer unix.Close(fd)
			check(t, b.CPE.Do(routes(unix.AF_INET6).Install))
			outcome := b.connect()
			check(t, b.queue.Release(b.held().ID, nfq.ToPlain))
			expect(t, outcome, nil)
			var conn int
			eventually(t, "the listener accepts no connection", func() bool {
				var err error
				conn, _, err = unix.Accept4(fd, unix.SOCK_CLOEXEC)
				return err == nil
			})
			defer unix.Close(conn)
			sa, err := unix.Getsockname(conn)
			check(t, err)
			local := sa.(*unix.SockaddrInet6)
			if got := netip.AddrPortFrom(netip.AddrFrom16(local.Addr), uint16(local.Port)); got.String() != b.addr {
				t.Errorf("the accepted socket is at %v, want the server's %v", got, b.addr)
			}
		})
	}
}

// withoutDup makes a bench whose rules do without `dup`, as on a kernel that lacks it.
func withoutDup(t *testing.T) *bench {
	t.Helper()
	cfg := queueConfig
	cfg.Reinject = true
	b := newBench(t, cfg)
	r := rules
	r.Reinjects = true
	check(t, b.CPE.Do(r.Install))
	return b
}

func (b *bench) transparentListener(at netip.AddrPort) (fd int) {
	b.t.Helper()
	check(b.t, b.CPE.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1),
			unix.Bind(fd, &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}),
			unix.Listen(fd, 1))
	}))
	return fd
}

func TestReplaceForwardsTheNewPacket(t *testing.T) {
	b := newBench(t, queueConfig)
	outcome := b.connect()
	p := b.held()
	changed := slices.Clone(p.Payload)
	const trafficClass = 0x0f // the low half: no checksum covers it
	changed[1] |= trafficClass << 4
	check(t, b.queue.Replace(p.ID, changed))
	expect(t, outcome, nil)

	// A packet with a wrong TCP checksum is lost: the kernel does not correct it.
	outcome = b.connect()
	p = b.held()
	changed = slices.Clone(p.Payload)
	changed[len(changed)-1] ^= 0xff
	check(t, b.queue.Replace(p.ID, changed))
	check(t, b.queue.Accept(b.held().ID))
	expect(t, outcome, nil)
}

func TestAcceptUpToReleasesEarlierPackets(t *testing.T) {
	const n, accepted = 8, 5
	b := newBench(t, queueConfig)
	outcomes := make(chan error, n)
	ids := make([]uint32, 0, n)
	for range n {
		outcome := b.connect()
		go func() { outcomes <- <-outcome }()
		ids = append(ids, b.held().ID)
	}
	if !slices.IsSorted(ids) {
		t.Errorf("IDs %v are not in order of arrival", ids)
	}
	check(t, b.queue.AcceptUpTo(ids[accepted-1]))
	for range accepted {
		expect(t, outcomes, nil)
	}
	select {
	case err := <-outcomes:
		t.Errorf("a SYN behind the batch was released: %v", err)
	default:
	}
	check(t, b.queue.AcceptUpTo(ids[n-1]))
	for range n - accepted {
		expect(t, outcomes, nil)
	}
}

func TestMetaOnlyQueueLeavesThePayloadInTheKernel(t *testing.T) {
	b := newBench(t, nfq.QueueConfig{MaxLength: 16, MetaOnly: true})
	outcome := b.connect()
	p := b.held()
	if len(p.Payload) != 0 || p.IIF == 0 {
		t.Errorf("packet %+v, want an interface and no payload", p)
	}
	check(t, b.queue.Accept(p.ID))
	expect(t, outcome, nil)
}

func TestErrorsCountsALateVerdict(t *testing.T) {
	b := newBench(t, queueConfig)
	outcome := b.connect()
	p := b.held()
	check(t, b.queue.Accept(p.ID))
	check(t, b.queue.Accept(p.ID))
	expect(t, outcome, nil)
	eventually(t, "the late verdict is not counted", func() bool { return b.queue.Errors() == 1 })
	// The queue still works.
	outcome = b.connect()
	check(t, b.queue.Accept(b.held().ID))
	expect(t, outcome, nil)
}

func TestFullQueueLetsPacketsPass(t *testing.T) {
	b := newBench(t, nfq.QueueConfig{MaxLength: 2})
	held := []<-chan error{b.connect(), b.connect()}
	ids := []uint32{b.held().ID, b.held().ID}
	expect(t, b.connect(), nil)
	check(t, b.queue.AcceptUpTo(slices.Max(ids)))
	for _, outcome := range held {
		expect(t, outcome, nil)
	}
}

func TestSYNsPassWithoutAProcessOnTheQueue(t *testing.T) {
	b := quiet(t)
	expect(t, b.connect(), nil)
	// They also pass before Start and after Close.
	q := b.open(queueConfig)
	expect(t, b.connect(), nil)
	check(t, q.Start(t.Context(), b.keep))
	outcome := b.connect()
	check(t, q.Accept(b.held().ID))
	expect(t, outcome, nil)
	check(t, q.Close())
	expect(t, b.connect(), nil)
}

func TestStartReportsATakenQueue(t *testing.T) {
	b := newBench(t, queueConfig)
	second := b.open(queueConfig)
	if err := second.Start(t.Context(), func(nfq.Packet) { t.Error("the second queue receives a packet") }); !errors.Is(err, nfq.ErrQueueTaken) {
		t.Errorf("Start gives %v, want %v", err, nfq.ErrQueueTaken)
	}
	check(t, second.Close())
	outcome := b.connect()
	check(t, b.queue.Accept(b.held().ID))
	expect(t, outcome, nil)
}

func TestQueueEndsWithPacketsHeld(t *testing.T) {
	end := map[string]func(q *nfq.Queue, cancel func()) error{
		"closed":                   func(q *nfq.Queue, _ func()) error { return q.Close() },
		"cancelled":                func(q *nfq.Queue, cancel func()) error { cancel(); return q.Close() },
		"cancelled, closed before": func(q *nfq.Queue, cancel func()) error { defer cancel(); return q.Close() },
	}
	for name, end := range end {
		t.Run(name, func(t *testing.T) {
			b := quiet(t)
			q := b.open(queueConfig)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			check(t, q.Start(ctx, b.keep))
			var outcomes []<-chan error
			for range 20 {
				outcomes = append(outcomes, b.connect())
				b.held()
			}
			check(t, end(q, cancel))
			// The kernel has dropped the held SYNs; the clients' retransmissions pass.
			for _, outcome := range outcomes {
				expect(t, outcome, nil)
			}
			if err := q.Accept(1); err == nil {
				t.Error("a closed queue accepts verdicts")
			}
		})
	}
}

func TestSYNsPassOnceTheContextHasEnded(t *testing.T) {
	b := quiet(t)
	q := b.open(queueConfig)
	ctx, cancel := context.WithCancel(t.Context())
	check(t, q.Start(ctx, b.keep))
	held := b.connect()
	b.held()
	cancel()
	expect(t, held, nil) // dropped, and retransmitted
	expect(t, b.connect(), nil)
	check(t, q.Close())
}

func TestSYNsOfOneSideAndThoseForTheBoxAreNotDiverted(t *testing.T) {
	b := newBench(t, queueConfig)
	l, err := b.CPE.Listen("tcp", ":0")
	check(t, err)
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	check(t, err)
	for _, host := range []string{netlab.CPELan6.String(), netlab.CPELan4.String()} {
		c, err := b.Client.Dial(t.Context(), "tcp", "", net.JoinHostPort(host, port))
		check(t, err)
		c.Close()
	}
	if len(b.got) != 0 {
		t.Errorf("%d SYNs were diverted", len(b.got))
	}
}

func TestSYNsFromTheMultipathSideAreDivertedToo(t *testing.T) {
	b := newBench(t, queueConfig)
	l, err := b.Client.Listen("tcp", net.JoinHostPort(netlab.Client4.String(), "0"))
	check(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := b.Server.Dial(t.Context(), "tcp", "", l.Addr().String())
		if err == nil {
			c.Close()
		}
		done <- err
	}()
	check(t, b.queue.Accept(b.held().ID))
	check(t, <-done)
}

func TestCloseWithoutStart(t *testing.T) {
	h := newHost(t)
	check(t, h.Do(func() error {
		q, err := nfq.Open(nfq.QueueConfig{Number: 9})
		if err != nil {
			return err
		}
		return q.Close()
	}))
}
