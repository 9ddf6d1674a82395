//go:build linux

package box

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/synbond/synbond/internal/paths"
)

func TestRestEndsWhenWorkComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, work, ended := newRest(), false, false
		go func() { r.until(t.Context(), func() bool { return work }); ended = true }()
		r.end() // there is no work yet
		synctest.Wait()
		if ended {
			t.Error("the rest has ended without work")
		}
		work = true
		r.end()
		synctest.Wait()
		if !ended {
			t.Error("the rest goes on although there is work")
		}
	})
}

func TestRestEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(*testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		newRest().until(ctx, func() bool { return false })
	})
}

// TestBoxWithoutFlowsLooksAtNone has the boxes' looks at flows stop between flows, and not before.
func TestBoxWithoutFlowsLooksAtNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, Config{Role: HAG})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 2)
		go func() { done <- x.watchStranded(ctx) }()
		go func() { done <- x.expire(ctx) }()
		resting := func() (expiring, watching bool) {
			synctest.Wait()
			return x.expiring.waits.Load(), x.conns.rest.waits.Load()
		}
		if expiring, watching := resting(); !expiring || !watching {
			t.Errorf("before the first flow: expiring rests %v, watching %v", expiring, watching)
		}
		c := x.relayed(1000, 1)
		time.Sleep(2 * paths.HAGPatience)
		if expiring, watching := resting(); !expiring || watching {
			t.Errorf("with a relayed flow: expiring rests %v, watching %v", expiring, watching)
		}
		x.closed(id(c), nil)
		time.Sleep(time.Second)
		if expiring, watching := resting(); expiring || !watching {
			t.Errorf("with a flow that is remembered: expiring rests %v, watching %v", expiring, watching)
		}
		time.Sleep(2 * x.cfg.Table.Memory)
		if expiring, watching := resting(); !expiring || !watching {
			t.Errorf("after all flows: expiring rests %v, watching %v", expiring, watching)
		}
		cancel()
		<-done
		<-done
	})
}
