//go:build linux

package probe

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/synbond/synbond/internal/paths"
)

// A filter may take the probes, which are UDP, and leave TCP alone. So before a path counts
// as silent the monitor knocks at the join port by TCP. An answer proves that the path
// works; then the monitor goes on so, until the HAG answers probes again.

const (
	// knockEvery is the shortest time between two attempts by a prober.
	knockEvery = time.Second
	// knockPatience is the time in which an attempt must be answered: time for one repeat
	// of its SYN.
	knockPatience = 2500 * time.Millisecond
)

// knock tries TCP over the path's families whose probes are not answered in time. It returns
// the time of the next attempt, if that is before next.
func (m *Monitor) knock(ctx context.Context, g *errgroup.Group, now time.Time, p *path, next time.Time) time.Time {
	for _, at := range p.probers {
		if at == nil || at.unanswered == 0 || at.knocking {
			continue
		}
		due := at.waits.Add(p.health.Patience() + m.cfg.Every) // one probe may be lost by chance
		if m.cfg.ByTCP {
			due = at.waits
		}
		if again := at.knocked.Add(knockEvery); again.After(due) {
			due = again
		}
		if due.After(now) {
			if due.Before(next) {
				next = due
			}
			continue
		}
		at.knocking, at.knocked = true, now
		p.health.SentBeside()
		g.Go(func() error { at.knock(ctx, m.responses); return nil })
	}
	return next
}

// knock hands on whether TCP is answered.
func (p *prober) knock(ctx context.Context, responses chan<- response) {
	patience, cancel := context.WithTimeout(ctx, knockPatience)
	defer cancel()
	began := time.Now()
	opens := p.conn.Knock(patience)
	select {
	case responses <- response{to: p, at: time.Now(), knock: true, opens: opens, took: time.Since(began)}:
	case <-ctx.Done():
	}
}

// knocked takes the outcome of an attempt by TCP.
func knocked(r response, h *paths.Health, byTCP bool) {
	r.to.knocking, r.to.deaf = false, !r.opens
	if !r.opens {
		return
	}
	h.Received()
	if r.to.unanswered > 0 && r.to.waits.Before(r.to.knocked) { // otherwise the HAG has answered meanwhile
		r.to.unanswered = 0
		h.AnsweredByTCP(r.at)
	}
	if byTCP {
		h.MeasuredByTCP(r.took)
	}
}
