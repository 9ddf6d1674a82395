//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"golang.org/x/sync/errgroup"
)

// Ports of the lab's server. It sends at pacedRate on pacedPort, and does not listen
// on refusedPort.
const (
	trafficPort = 5001
	refusedPort = 5002
	pacedPort   = 5003
)

// Addresses in the server's network that no host has.
var (
	absent6 = netip.MustParseAddr("2001:db8:2::d")
	absent4 = netip.MustParseAddr("203.0.113.13")
)

// Measurement has a client's measurements of a network. Arrays are for IPv6 and IPv4.
type Measurement struct {
	Connect  [2]time.Duration // median
	PeerSeen [2]netip.Addr    // the client's address as the server saw it
	Refused  [2]attempt
	Absent   [2]attempt
	Down, Up netlab.Result
	Share    map[netlab.Direction][]float64 // of each line, of the bytes that went that way
}

// attempt is a connect that is expected to fail.
type attempt struct {
	Errno syscall.Errno // 0 if it succeeded
	Took  time.Duration
}

func (a attempt) String() string {
	if a.Errno == 0 {
		return "connected"
	}
	return fmt.Sprintf("%s in %s", a.Errno, a.Took.Round(time.Millisecond))
}

// families has the addresses by IP version, in the order of the arrays in [Measurement].
var families = [2]struct {
	name           string
	client, server netip.Addr
	absent         netip.Addr
}{
	{"IPv6", netlab.Client6, netlab.Server6, absent6},
	{"IPv4", netlab.Client4, netlab.Server4, absent4},
}

// network adds the scenarios' measurements to a network.
type network struct{ *netlab.Network }

// dialer returns a dialer from the client to an address, with plain TCP.
func (n network) dialer(to netip.AddrPort) netlab.Dialer {
	return func(ctx context.Context) (net.Conn, error) { return n.Client.Dial(ctx, "tcp", "", to.String()) }
}

// connects is the number of connections for a median connect time.
const connects = 15

// measure makes all measurements of a comparison. It calls say before each step.
func (n network) measure(ctx context.Context, transfer time.Duration, say func(string)) (Measurement, error) {
	m := Measurement{Share: make(map[netlab.Direction][]float64)}
	say("connecting")
	for i, f := range families {
		times, err := netlab.ConnectTimes(ctx, n.dialer(netip.AddrPortFrom(f.server, trafficPort)), connects)
		if err != nil {
			return m, err
		}
		m.Connect[i] = median(times)
	}
	if err := n.measureFailures(ctx, &m); err != nil {
		return m, err
	}
	to := n.dialer(netip.AddrPortFrom(netlab.Server6, trafficPort))
	for _, t := range []struct {
		direction netlab.Direction
		result    *netlab.Result
	}{{netlab.Down, &m.Down}, {netlab.Up, &m.Up}} {
		say("moving bytes " + t.direction.String())
		before := n.carried(t.direction)
		var err error
		*t.result, err = netlab.Request{Direction: t.direction, Duration: transfer, Warmup: transfer / 3}.Run(ctx, to)
		if err != nil {
			return m, err
		}
		m.Share[t.direction] = shares(before, n.carried(t.direction))
	}
	say("asking the server whom it saw")
	for i, f := range families {
		seen, err := netlab.PeerSeen(ctx, n.dialer(netip.AddrPortFrom(f.server, trafficPort)))
		if err != nil {
			return m, err
		}
		m.PeerSeen[i] = seen.Addr().Unmap()
	}
	return m, nil
}

// median returns the upper median of times.
func median(times []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(times))[len(times)/2]
}

// measureFailures connects to refused ports and absent hosts, all at once.
func (n network) measureFailures(ctx context.Context, m *Measurement) error {
	g, ctx := errgroup.WithContext(ctx)
	try := func(into *attempt, to netip.AddrPort) {
		g.Go(func() (err error) {
			*into, err = n.attempt(ctx, to)
			return err
		})
	}
	for i, f := range families {
		try(&m.Refused[i], netip.AddrPortFrom(f.server, refusedPort))
		try(&m.Absent[i], netip.AddrPortFrom(f.absent, trafficPort))
	}
	return g.Wait()
}

// attempt connects to an address. A refusal by the network is part of the result and
// no error.
func (n network) attempt(ctx context.Context, to netip.AddrPort) (attempt, error) {
	start := time.Now()
	c, err := n.dialer(to)(ctx)
	a := attempt{Took: time.Since(start)}
	if err == nil {
		return a, c.Close()
	}
	if !errors.As(err, &a.Errno) {
		return a, err
	}
	return a, nil
}

// carried returns the number of bytes that each line has delivered in a direction.
func (n network) carried(d netlab.Direction) []uint64 {
	out := make([]uint64, len(n.Lines))
	for i, l := range n.Lines {
		up, down := l.Bytes()
		out[i] = down
		if d == netlab.Up {
			out[i] = up
		}
	}
	return out
}

func shares(before, after []uint64) []float64 {
	out := make([]float64, len(after))
	var sum float64
	for i := range after {
		out[i] = float64(after[i] - before[i])
		sum += out[i]
	}
	for i := range out {
		out[i] /= max(sum, 1)
	}
	return out
}
