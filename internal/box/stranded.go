//go:build linux

package box

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/state"
)

// A look at a connection costs some 3 µs. All of a small box are looked at twice a second,
// and many ones less often, for about 1 % of a core.
const (
	lookEvery = 500 * time.Millisecond
	mostLooks = 2000 // at once
)

// ending is the error of a flow that the box ends, with the reason.
type ending state.Reason

func (e ending) Error() string { return state.Reason(e).Meaning() }

// reasonOf returns why both legs of a flow have gone: nil after a FIN in each direction.
func reasonOf(err error) state.Reason {
	var by ending
	switch {
	case err == nil:
		return state.FIN
	case errors.As(err, &by):
		return state.Reason(by)
	}
	return state.Reset
}

// watchStranded helps connections that do not go on, or ends them, until ctx ends.
func (b *Box) watchStranded(ctx context.Context) error {
	patience := paths.HAGPatience
	if b.steering != nil {
		patience = paths.CPEPatience
	}
	stranded := paths.NewStranded(patience)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var round []state.ID
	for {
		if !b.conns.some() {
			b.conns.rest.until(ctx, b.conns.some)
			if b.responder != nil {
				b.responder.Arrivals() // before the connections that there are now
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if b.responder != nil {
			b.pokeArrived(b.responder.Arrivals())
		}
		if len(round) == 0 {
			round = b.conns.live(round)
		}
		now := round[:min(len(round), mostLooks)]
		round = round[len(now):]
		b.helpStranded(stranded, now)
	}
}

// helpStranded helps those of some connections that do not go on, and ends those that have
// had no subflow for too long.
func (b *Box) helpStranded(stranded *paths.Stranded, ids []state.ID) {
	usable := b.usablePaths()
	for _, id := range ids {
		c, may, live := b.conns.carried(id)
		if !live {
			stranded.Forget(uint64(id))
			continue
		}
		p := c.Progress()
		at := paths.Standing{
			Alive: c.Alive(), Up: usable&may != 0,
			Unacknowledged: p.Left, Acknowledged: p.Acknowledged, Moved: p.Moved, HalfClosed: p.HalfClosed,
		}
		if token := b.conns.token(id); !at.Alive && token != 0 {
			b.subflows.Stranded(token)
		}
		switch stranded.Look(b.now(), uint64(id), at) {
		case paths.End:
			b.end(c, state.NoSubflow)
		case paths.Push:
			c.Push(false)
		case paths.Probe:
			c.Push(true)
		}
	}
}

// pokeTime is enough for keepalives to end a subflow that does not answer any (see
// [relay.Conn.Push]).
const pokeTime = 20 * time.Second

// poke has the subflows of a connection send keepalives now, and later as the path manager
// has set. A peer that knows nothing of them answers with resets.
func poke(c connection) {
	c.Push(true)
	time.AfterFunc(pokeTime, func() { c.Push(false) })
}

// pokeArrived pokes the connections with subflows to some addresses at which a run of a CPE
// has begun. If the CPE was without power, the HAG's halves would otherwise last for hours.
func (b *Box) pokeArrived(at map[netip.Addr]bool) {
	if len(at) == 0 {
		return
	}
	for _, id := range b.conns.live(nil) {
		c, _, live := b.conns.carried(id)
		if !live {
			continue
		}
		info, _ := c.Info()
		if slices.ContainsFunc(info.Subflows, func(s relay.Subflow) bool { return at[s.Remote.Addr()] }) {
			poke(c)
		}
	}
}

// usablePaths returns the paths over which subflows may come, a bit each. A HAG does not
// know: to it all may.
func (b *Box) usablePaths() (usable uint8) {
	if b.steering == nil {
		return ^uint8(0)
	}
	for i, want := range b.steering.view.Load().desired {
		if want != paths.Closed {
			usable |= 1 << i
		}
	}
	return usable
}

// end ends a connection whose multipath leg is dead.
func (b *Box) end(c connection, why state.Reason) {
	b.cfg.Log.Debug("ended", "local", c.Local(), "reason", why)
	b.relay.End(c, ending(why))
}

// endDeparted ends the flows of a run of the HAG that is over. The resets by which it
// ended them may have been lost.
func (b *Box) endDeparted(d paths.Departed) {
	its, late := b.conns.of(d)
	n := 0
	for token, c := range its {
		if b.subflows.AtHAG(token) {
			b.end(c, state.HAGRestarted)
			n++
		}
	}
	for _, c := range late {
		poke(c)
	}
	b.cfg.Log.Info("the HAG has restarted: its flows have ended", "flows", n)
}
