//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/netlab"
)

// flapHalf is the time that a flapping line is down, and the time that it is up.
const flapHalf = 300 * time.Millisecond

// flap takes a line down and up again, several times.
func flap(line string, times int) step {
	return func(ctx context.Context, s *session) error {
		s.mark(fmt.Sprintf("%s goes down and up %d times", line, times))
		for range times {
			for _, on := range []bool{false, true} {
				if err := errors.Join(s.n.Line(line).Carrier(on), sleep(ctx, flapHalf)); err != nil {
					return err
				}
			}
		}
		s.mark(line + " stays up")
		return nil
	}
}

// subflowsEverywhere reports whether every path is up and has at least conns subflows.
func subflowsEverywhere(conns int) func(*pathsView) bool {
	return func(v *pathsView) bool {
		return !slices.ContainsFunc(v.Paths, func(p api.Path) bool { return p.State != "up" || p.Subflows < conns })
	}
}

// countJoins counts the subflows that the CPE opens while steps are taken, and
// checks that there are most at the most.
func countJoins(most int, steps ...step) step {
	return func(ctx context.Context, s *session) error {
		links, err := s.n.openTaps()
		defer closeTaps(links)
		if err != nil {
			return err
		}
		for _, step := range steps {
			if err := step(ctx, s); err != nil {
				return err
			}
		}
		joins := countJoinSYNs(links)
		s.note("%d subflows were opened or tried meanwhile", joins)
		s.r.figure(s.report.Title+" joins", float64(joins))
		s.check("there is no storm of subflows", joins <= most, "%d were opened or tried, %d allowed", joins, most)
		return nil
	}
}

// countJoinSYNs counts the SYNs with MP_JOIN, repeated ones included.
func countJoinSYNs(links []tappedLink) int {
	n := 0
	for _, l := range links {
		for _, h := range l.tap.Handshakes() {
			if h.Outgoing && !h.ACK && h.Option == netlab.MPJoin {
				n++
			}
		}
	}
	return n
}

// atOnce limits the number of connections that are opened, or used, at the same time.
const atOnce = 20

// openIdle opens n connections and leaves them idle, for useIdle.
func openIdle(n int) step {
	return func(ctx context.Context, s *session) error {
		var mu sync.Mutex // guards the connections
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(atOnce)
		for range n {
			g.Go(func() error {
				c, err := s.dialer(trafficPort)(ctx)
				if err != nil {
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				s.idle = append(s.idle, c)
				return nil
			})
		}
		return g.Wait()
	}
}

// idleBytes is the size of the transfer over each idle connection.
const idleBytes = 16 << 10

// useIdle makes a transfer over each idle connection, and closes it.
func useIdle(ctx context.Context, s *session) error {
	limited, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	g, limited := errgroup.WithContext(limited)
	g.SetLimit(atOnce)
	for _, c := range s.idle {
		g.Go(func() error {
			_, err := netlab.Transfer(limited, func(context.Context) (net.Conn, error) { return c, nil }, netlab.Down, idleBytes)
			return err
		})
	}
	err := g.Wait()
	s.check("every idle connection still works", err == nil, "%v", err)
	return nil
}
