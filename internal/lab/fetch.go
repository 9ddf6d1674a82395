//go:build linux

package lab

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// A fetcher works like a browser: it makes a new connection to the server's IPv6
// address every fetchEvery, and fetches fetchBytes over each.
const (
	fetchEvery = 100 * time.Millisecond
	fetchBytes = 128 << 10
)

// fetch is one connection of a fetcher.
type fetch struct {
	began time.Duration // since the recording's start
	err   error
}

// fetcher makes fetches until it is stopped.
type fetcher struct {
	stop context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex // guards all
	all  []fetch
}

// startFetching starts the session's fetcher.
func startFetching(ctx context.Context, s *session) error {
	f := &s.fetcher
	begin, stop := context.WithCancel(ctx)
	f.stop = stop
	f.done.Go(func() {
		for begin.Err() == nil {
			f.done.Go(func() { f.fetch(ctx, s) })
			_ = sleep(begin, fetchEvery) // its error is the condition above
		}
	})
	return nil
}

func (f *fetcher) fetch(ctx context.Context, s *session) {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	began := s.recording.now()
	_, err := netlab.Transfer(ctx, s.dialer(trafficPort), netlab.Down, fetchBytes)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all = append(f.all, fetch{began, err})
}

// checkFetches stops the fetcher and checks that no fetch failed which began between
// two moments.
func checkFetches(from, until moment) step {
	return func(_ context.Context, s *session) error {
		f := &s.fetcher
		f.stop()
		f.done.Wait()
		began, failed, failure := 0, 0, error(nil)
		for _, one := range f.all {
			if one.began < from.since(s) || one.began >= until.since(s) {
				continue
			}
			if began++; one.err != nil {
				failed++
				failure = one.err
			}
		}
		s.check("no connection that begins meanwhile fails", began > 0 && failed == 0, "%d of %d failed: %v", failed, began, failure)
		return nil
	}
}

// flowOutcome is the expected outcome of a new connection.
type flowOutcome struct {
	from           string // the line with the CPE's address that the server sees; "" for the client's own
	action, reason string // in the CPE's flows; "" stands for any reason
}

// checkNewConnections makes a connection with IPv6 and one with IPv4, and checks
// their outcome.
func checkNewConnections(when string, want flowOutcome) step {
	return func(ctx context.Context, s *session) error {
		for i, f := range families {
			seen := f.client
			if l := s.n.Line(want.from); l != nil {
				seen = [...]netip.Addr{l.CPE6, l.CPE4}[i]
			}
			if err := s.checkNewConnection(ctx, when+", "+f.name, netip.AddrPortFrom(f.server, trafficPort), seen, want); err != nil {
				return err
			}
		}
		return nil
	}
}

// checkNewConnection checks a new connection: the address that the server sees, and
// the CPE's action and reason.
func (s *session) checkNewConnection(ctx context.Context, when string, to netip.AddrPort, want netip.Addr, g flowOutcome) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	c, err := s.n.dialer(to)(ctx)
	if err != nil {
		s.check(when+": a new connection works", false, "%v", err)
		return nil
	}
	defer c.Close()
	flows, err := s.cpe.Flows(ctx) // before it ends: an ended flow has fewer fields
	if err != nil {
		return err
	}
	seen, err := netlab.PeerSeen(ctx, func(context.Context) (net.Conn, error) { return c, nil })
	s.check(when+": a new connection works, the server sees "+want.String(), err == nil && seen.Addr() == want, "it saw %s, error %v", seen, err)
	flow := flowOf(flows, c.LocalAddr().(*net.TCPAddr).AddrPort())
	ok := flow.Action == g.action && (flow.Reason == g.reason || g.reason == "") && dialedFrom(flow) == want
	s.check(when+": its flow says "+g.String(), ok, "%s, %s, reason %q, dialed from %s", flow.Action, flow.State, flow.Reason, dialedFrom(flow))
	return nil
}

// String returns the action and, if there is one, the reason.
func (g flowOutcome) String() string {
	if g.reason == "" {
		return g.action
	}
	return g.action + ", " + g.reason
}
