//go:build linux

package box

import (
	"context"
	"sync/atomic"
)

// rest lets a task that has nothing to do wait for work, instead of looking for it again and
// again. It is for one task and any number of goroutines that bring work.
type rest struct {
	waits atomic.Bool
	work  chan struct{} // has room for one
}

func newRest() *rest { return &rest{work: make(chan struct{}, 1)} }

// until waits until there is work or ctx ends. Whoever brings work calls end after that.
func (r *rest) until(ctx context.Context, work func() bool) {
	for ctx.Err() == nil {
		r.waits.Store(true)
		if work() { // it may have come before that
			break
		}
		select {
		case <-ctx.Done():
		case <-r.work:
		}
	}
	r.waits.Store(false)
}

// end ends the rest of the task, if it rests.
func (r *rest) end() {
	if !r.waits.Load() || !r.waits.CompareAndSwap(true, false) {
		return
	}
	select {
	case r.work <- struct{}{}:
	default:
	}
}
