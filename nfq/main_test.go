//go:build linux

package nfq_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/nfq"
)

// Helpers under short names.
var (
	check      = netlabtest.Check
	eventually = netlabtest.Eventually
	leftOver   = netlabtest.LeavesNothing
)

func TestMain(m *testing.M) { netlabtest.Main(m) }

// rules are those of a CPE in a lab with one line.
var rules = nfq.Rules{
	Role: "test", Plain: []string{netlab.CPELanInterface}, Paths: []string{"dsl"}, Queue: 3,
	Joins: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8:f::1]:9000"), netip.MustParseAddrPort("203.0.113.1:9001")},
	Listeners: nfq.Listeners{
		Plain: []netip.AddrPort{netip.MustParseAddrPort("[::1]:7000"), netip.MustParseAddrPort("127.0.0.1:7001")},
		Paths: []netip.AddrPort{netip.MustParseAddrPort("[::1]:7002"), netip.MustParseAddrPort("127.0.0.1:7003")},
	},
	Clamps: []nfq.Clamp{
		{Interface: "dsl", Family: netip.IPv6Unspecified(), Packet: 1400},
		{Interface: "dsl", Family: netip.IPv4Unspecified(), Packet: 1400},
	},
}

// routes are the policy routing of the rules.
func routes(family int) nfq.Routes {
	return nfq.Routes{Family: family, Interfaces: slices.Concat(rules.Plain, rules.Paths)}
}

func newHost(t *testing.T) *netlab.Host {
	t.Helper()
	netlabtest.Require(t)
	leftOver(t)
	h, err := netlab.NewHost("box")
	check(t, err)
	t.Cleanup(func() { check(t, h.Close()) })
	return h
}

// bench is a network whose CPE diverts SYNs to a queue:
//
//	client ── lan [queue] dsl ── line ── HAG (a router) ── server
type bench struct {
	*netlab.Network
	t     *testing.T
	queue *nfq.Queue
	got   chan nfq.Packet // held
	addr  string          // of a server that accepts
}

func newBench(t *testing.T, cfg nfq.QueueConfig) *bench {
	t.Helper()
	b := quiet(t)
	b.queue = b.open(cfg)
	check(t, b.queue.Start(t.Context(), b.keep))
	return b
}

// quiet makes the network with rules and without a process on the queue.
func quiet(t *testing.T) *bench {
	t.Helper()
	netlabtest.Require(t)
	leftOver(t)
	n, err := netlab.Build(netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}}})
	check(t, err)
	t.Cleanup(func() { check(t, n.Close()) })
	check(t, n.CPE.Do(rules.Install))
	l, err := n.Server.Listen("tcp", net.JoinHostPort(netlab.Server6.String(), "0"))
	check(t, err)
	t.Cleanup(func() { l.Close() })
	return &bench{Network: n, t: t, got: make(chan nfq.Packet, 1024), addr: l.Addr().String()}
}

func (b *bench) open(cfg nfq.QueueConfig) *nfq.Queue {
	b.t.Helper()
	cfg.Number = rules.Queue
	var q *nfq.Queue
	check(b.t, b.CPE.Do(func() (err error) {
		q, err = nfq.Open(cfg)
		return err
	}))
	b.t.Cleanup(func() { q.Close() })
	return q
}

// keep is a packet handler that gives no verdict.
func (b *bench) keep(p nfq.Packet) {
	p.Payload = slices.Clone(p.Payload)
	b.got <- p
}

// connect starts a connection from the client; the channel delivers its outcome.
func (b *bench) connect() <-chan error {
	out := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(b.t.Context(), 20*time.Second)
		defer cancel()
		c, err := b.Client.Dial(ctx, "tcp", "", b.addr)
		if err == nil {
			c.Close()
		}
		out <- err
	}()
	return out
}

// held waits for the next packet on the queue.
func (b *bench) held() nfq.Packet {
	b.t.Helper()
	select {
	case p := <-b.got:
		return p
	case <-time.After(20 * time.Second):
		b.t.Fatal("no packet arrives")
		panic("unreachable")
	}
}

// expect waits for the outcome of a connection.
func expect(t *testing.T, outcome <-chan error, want error) {
	t.Helper()
	if err := <-outcome; !errors.Is(err, want) {
		t.Errorf("connect gives %v, want %v", err, want)
	}
}
