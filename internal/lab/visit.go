package lab

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// Visits are what a browser does: a new connection to the server's IPv6 address
// every visitEvery, each of which fetches visitBytes.
const (
	visitEvery = 100 * time.Millisecond
	visitBytes = 128 << 10
)

// visit is one of them.
type visit struct {
	began time.Duration // since the start of the film
	err   error
}

// visitors make visits until they are stopped.
type visitors struct {
	stop context.CancelFunc
	done sync.WaitGroup
	mu   sync.Mutex // guards all
	all  []visit
}

// visits starts to make visits.
func visits(ctx context.Context, s *scene) error {
	v := &s.visitors
	begin, stop := context.WithCancel(ctx)
	v.stop = stop
	v.done.Go(func() {
		for begin.Err() == nil {
			v.done.Go(func() { v.visit(ctx, s) })
			_ = sleep(begin, visitEvery) // its error is the condition above
		}
	})
	return nil
}

func (v *visitors) visit(ctx context.Context, s *scene) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := s.film.now()
	_, err := netlab.Transfer(ctx, s.dialer(trafficPort), netlab.Down, visitBytes)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.all = append(v.all, visit{began, err})
}

// visitsSucceed ends the visits and checks that none has failed of those that
// began between two moments.
func visitsSucceed(from, until moment) step {
	return func(_ context.Context, s *scene) error {
		v := &s.visitors
		v.stop()
		v.done.Wait()
		began, failed, failure := 0, 0, error(nil)
		for _, one := range v.all {
			if one.began < from.in(s) || one.began >= until.in(s) {
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

// greeting is what is to become of a new connection.
type greeting struct {
	from           string // the line whose CPE's address the server sees; "" for the client's own
	action, reason string // in the CPE's flows; any reason if there is none
}

// greet makes a connection by each family and checks what becomes of it.
func greet(when string, want greeting) step {
	return func(ctx context.Context, s *scene) error {
		for i, f := range families {
			seen := f.client
			if l := s.n.Line(want.from); l != nil {
				seen = [...]netip.Addr{l.CPE6, l.CPE4}[i]
			}
			if err := s.greet(ctx, when+", "+f.name, netip.AddrPortFrom(f.server, trafficPort), seen, want); err != nil {
				return err
			}
		}
		return nil
	}
}

// greet asks a server by which address it sees a new connection, and the CPE what
// it does with it.
func (s *scene) greet(ctx context.Context, when string, to netip.AddrPort, want netip.Addr, g greeting) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := s.n.dialer(to)(ctx)
	if err != nil {
		s.check(when+": a new connection works", false, "%v", err)
		return nil
	}
	defer c.Close()
	flows, err := s.cpe.Flows(ctx) // now: an ended flow has less
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

// String is how a reader would say it.
func (g greeting) String() string {
	if g.reason == "" {
		return g.action
	}
	return g.action + ", " + g.reason
}
