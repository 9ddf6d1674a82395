package box

import (
	"context"
	"time"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/state"
)

// expire ends what has waited too long or in vain, until ctx ends.
func (b *Box) expire(ctx context.Context) error {
	const every, most = 250 * time.Millisecond, 1000
	diag, err := paths.OpenDiag()
	if err != nil {
		return err
	}
	defer diag.Close()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := b.now(); ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := b.now()
		for _, f := range b.core.Table.Expire(now, most) {
			b.abandon(f)
			if f.State == state.TimedOut && f.Action == state.Relay { // its SYN is held
				b.release(f, Decision{Verdict: Drop, Reason: f.Reason, Key: f.Key})
			}
		}
		if err := b.endVain(diag, last, now); err != nil {
			b.cfg.Log.Warn("half-open connections", "err", err) // they end by their time, too
		}
		last = now
	}
}

// endVain ends the flows whose client has reset its handshake, as port scanners
// do to every SYN+ACK, so that the server need not wait for it. The kernel tells
// nobody that a half-open connection is gone.
func (b *Box) endVain(diag *paths.Diag, last, now time.Duration) error {
	for _, f := range b.core.Table.Waiting(state.Released, time.Second, last, now) {
		there, err := diag.Connected(f.Key.Server(), f.Key.Client())
		if err != nil {
			return err
		}
		if there {
			continue
		}
		if f, ok := b.core.Table.Move(now, f.Key, state.Abandoned, "reset"); ok {
			b.abandon(f)
		}
	}
	return nil
}
