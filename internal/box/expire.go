//go:build linux

package box

import (
	"context"
	"time"

	"github.com/synbond/synbond/internal/core"
)

// expire tells the core again and again that time has passed, while something waits for
// that, until ctx ends.
func (b *Box) expire(ctx context.Context) error {
	tick := time.NewTicker(core.ExpireEvery)
	defer tick.Stop()
	for {
		b.expiring.until(ctx, b.core.Waits)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			b.tick()
		}
	}
}
