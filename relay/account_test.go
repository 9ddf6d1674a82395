//go:build linux

package relay

import (
	"testing"
	"testing/synctest"
	"time"
)

// taker moves bytes as a stream does: some in its turn, then it waits for the next one.
type taker struct {
	metered
	moved int
}

func (k *taker) run(m *Meter, until time.Time, size int) {
	k.join(m)
	for {
		time.Sleep(k.wait())
		if !time.Now().Before(until) {
			return
		}
		n := min(size, m.turn())
		k.charge(n)
		k.moved += n
	}
}

// take has some streams move bytes for a time.
func take(m *Meter, span time.Duration, sizes ...int) []*taker {
	all := make([]*taker, len(sizes))
	until := time.Now().Add(span)
	for i, size := range sizes {
		all[i] = new(taker)
		go all[i].run(m, until, size)
	}
	synctest.Wait()
	time.Sleep(span + time.Minute)
	synctest.Wait()
	return all
}

func TestMeterSharesARateBetweenStreams(t *testing.T) {
	const span = 10 * time.Second
	for _, rate := range []uint64{10_000, 125_000, 2_500_000, 12_500_000, 1_250_000_000} {
		synctest.Test(t, func(t *testing.T) {
			m := new(Meter)
			m.SetRate(rate)
			all := take(m, span, chunk, chunk, chunk, chunk)
			want, slack := float64(rate)*span.Seconds(), float64(rate)*meterBurst.Seconds()+4*float64(m.turn())
			if got := float64(m.Moved()); got > want+slack || got < want-slack {
				t.Errorf("%d bytes/s: %.0f bytes in %v, want %.0f", rate, got, span, want)
			}
			for i, k := range all {
				if share := float64(k.moved) / float64(m.Moved()); share < 0.2 || share > 0.3 {
					t.Errorf("%d bytes/s: stream %d has %.2f of all", rate, i, share)
				}
			}
		})
	}
}

// Streams of a few bytes each do not evade the rate.
func TestMeterBoundsNewStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := new(Meter)
		m.SetRate(100_000)
		begun := time.Now()
		for range 1000 { // one after the other, as many short connections
			k := new(taker)
			k.join(m)
			time.Sleep(k.wait())
			k.charge(1000)
		}
		if took := time.Since(begun); took < 9*time.Second {
			t.Errorf("1,000,000 bytes in %v at 100,000 bytes/s", took)
		}
	})
}

func TestRateOfAMeterChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, k := new(Meter), new(taker)
		k.join(m)
		k.charge(1 << 30)
		if k.wait() != 0 || m.turn() != chunk || m.Moved() != 1<<30 {
			t.Errorf("without a rate: wait %v, turn %d, moved %d", k.wait(), m.turn(), m.Moved())
		}
		m.SetRate(1000)
		k.charge(10_000)
		if got := k.wait(); got.Round(time.Second) != 10*time.Second || m.turn() != turnLeast {
			t.Errorf("wait %v, turn %d", got, m.turn())
		}
		time.Sleep(5 * time.Second)
		m.SetRate(100)
		if got := k.wait(); got.Round(time.Second) != 50*time.Second {
			t.Errorf("with a lower rate: wait %v", got)
		}
		m.SetRate(1_000_000)
		if got := k.wait(); got > 10*time.Millisecond {
			t.Errorf("with a higher rate: wait %v", got)
		}
		m.SetRate(0)
		if got := k.wait(); got != 0 {
			t.Errorf("with none: wait %v", got)
		}
	})
}
