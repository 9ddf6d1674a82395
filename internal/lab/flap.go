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

// flapHalf is how long a flapping line is down, and then up.
const flapHalf = 300 * time.Millisecond

// flap has a line go down and up again so many times.
func flap(line string, times int) step {
	return func(ctx context.Context, s *scene) error {
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

// everywhere tells whether so many connections have a subflow on every path.
func everywhere(conns int) func(*pathsView) bool {
	return func(v *pathsView) bool {
		return !slices.ContainsFunc(v.Paths, func(p api.Path) bool { return p.State != "up" || p.Subflows < conns })
	}
}

// countJoins watches what subflows the CPE opens while steps are taken, and
// checks that they are not more than that.
func countJoins(most int, steps ...step) step {
	return func(ctx context.Context, s *scene) error {
		links, err := s.n.watch()
		defer closeTaps(links)
		if err != nil {
			return err
		}
		for _, step := range steps {
			if err := step(ctx, s); err != nil {
				return err
			}
		}
		joins := joinsOf(links)
		s.note("%d subflows were opened or tried meanwhile", joins)
		s.r.figure(s.shown.Title+" joins", float64(joins))
		s.check("there is no storm of subflows", joins <= most, "%d were opened or tried, %d allowed", joins, most)
		return nil
	}
}

// joinsOf counts the MP_JOIN handshakes that were begun, and begun again.
func joinsOf(links []watched) int {
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

// atOnce is how many of many connections are made, or used, at a time.
const atOnce = 20

// hold makes so many connections that nothing is sent over, for use to use.
func hold(n int) step {
	return func(ctx context.Context, s *scene) error {
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
				s.held = append(s.held, c)
				return nil
			})
		}
		return g.Wait()
	}
}

// idleBytes is what each connection that was idle then fetches.
const idleBytes = 16 << 10

// use makes a transfer over each connection that is held, and closes it.
func use(ctx context.Context, s *scene) error {
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	g, limited := errgroup.WithContext(limited)
	g.SetLimit(atOnce)
	for _, c := range s.held {
		g.Go(func() error {
			_, err := netlab.Transfer(limited, func(context.Context) (net.Conn, error) { return c, nil }, netlab.Down, idleBytes)
			return err
		})
	}
	err := g.Wait()
	s.check("every idle connection still works", err == nil, "%v", err)
	return nil
}
