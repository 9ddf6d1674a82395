package paths

import (
	"slices"
	"syscall"
	"testing"
	"time"
)

// kept is a [Keeper] that remembers how it was kept alive.
type kept struct {
	carried
	gaps []time.Duration
}

func (k *kept) SetKeepalive(idle time.Duration) { k.gaps = append(k.gaps, idle) }

// translatedLTE says that the second path is behind a NAT.
var translatedLTE = []Translation{{}, {V6: true}}

// idleConnection returns a kernel with a connection that has subflows on both paths.
func idleConnection(t *testing.T, translated ...Translation) (*fakeKernel, *kept) {
	t.Helper()
	k, traffic := newFakeKernel(t), &kept{}
	k.SetTranslated(k.now, translated)
	k.connect(1, SubflowPolicy{}, traffic)
	k.run(time.Second)
	k.expect("at first", 1, 0, 1)
	return k, traffic
}

func TestQuietConnectionsRestBehindANAT(t *testing.T) {
	for _, c := range []struct {
		name       string
		translated []Translation
		change     func(*fakeKernel)
		bytes      uint64 // carried each second
		want       []int
	}{
		{"no NAT", []Translation{{}, {}}, nil, 0, []int{0, 1}},
		{"second path behind a NAT", translatedLTE, nil, 0, []int{0}},
		{"NAT of the other family only", []Translation{{}, {V4: true}}, nil, 0, []int{0, 1}},
		{"first path behind a NAT", []Translation{{V6: true}, {}}, nil, 0, []int{1}},
		{"both paths behind a NAT", []Translation{{V6: true}, {V6: true}}, nil, 0, []int{0, 1}},
		{"a path with its own keepalive", translatedLTE, func(k *fakeKernel) { k.set.Paths[1].Keepalive = time.Minute }, 0, []int{0, 1}},
		{"the path without NAT is but a backup", translatedLTE, func(k *fakeKernel) { k.SetDesired([]DesiredState{Backup, Normal}) }, 0, []int{0, 1}},
		{"the path without NAT has fallen", translatedLTE, func(k *fakeKernel) { k.SetDesired([]DesiredState{Closed, Normal}) }, 0, []int{1}},
		{"a trickle", translatedLTE, nil, 100, []int{0}},
		{"a large transfer", translatedLTE, nil, 1 << 20, []int{0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, traffic := idleConnection(t, c.translated...)
			if c.change != nil {
				c.change(k)
			}
			for range 2 * quietTime / time.Second {
				traffic.bytes += c.bytes
				k.run(time.Second)
			}
			k.expect("after the quiet time", 1, c.want...)
		})
	}
}

func TestRestingConnectionWakes(t *testing.T) {
	for _, c := range []struct {
		name string
		wake func(*fakeKernel, *kept)
		want []int
	}{
		{"for a large transfer", func(_ *fakeKernel, c *kept) { c.bytes += quietBytes }, []int{0, 1}},
		{"not for a few bytes", func(_ *fakeKernel, c *kept) { c.bytes += quietBytes - 1 }, []int{0}},
		{"when its other path falls", func(k *fakeKernel, _ *kept) { k.SetDesired([]DesiredState{Closed, Normal}) }, []int{1}},
		{"when its other subflow ends", func(k *fakeKernel, _ *kept) { k.refuses[0] = true; k.kill(1, 0) }, []int{1}},
		{"when the path is behind a NAT no longer", func(k *fakeKernel, _ *kept) {
			k.SetTranslated(k.now, []Translation{{}, {}})
			k.run(quietTime)
		}, []int{0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, traffic := idleConnection(t, translatedLTE...)
			k.run(quietTime)
			k.expect("at rest", 1, 0)
			c.wake(k, traffic)
			k.run(idleInterval)
			k.expect("then", 1, c.want...)
		})
	}
}

func TestKeepalivesGrowRareWhileAConnectionIsIdle(t *testing.T) {
	k, traffic := idleConnection(t, Translation{V6: true}, Translation{V6: true})
	k.run(5 * time.Minute)
	want := []time.Duration{5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, time.Minute}
	if !slices.Equal(traffic.gaps, want) {
		t.Errorf("keepalives each %v, want %v", traffic.gaps, want)
	}
	traffic.bytes++
	k.run(idleInterval)
	if last := traffic.gaps[len(traffic.gaps)-1]; last != minKeepalive {
		t.Errorf("after traffic each %v", last)
	}
}

// TestKeepalivesAreSpacedApartFromTheirSteps checks that no step begins while a subflow
// may still owe the answer to a keepalive: the kernel would then wait for longer.
func TestKeepalivesAreSpacedApartFromTheirSteps(t *testing.T) {
	const answered = 4 * time.Second // package relay: pathKeepaliveInterval times pathKeepaliveProbes
	sent := time.Duration(0)
	for i, step := range slices.Backward(keepaliveSteps) {
		if sent += step.gap; i == 0 {
			break
		}
		if next := keepaliveSteps[i-1].idle; next < sent+answered || next > sent+step.gap+answered {
			t.Errorf("the keepalive after %v, the next step after %v", sent, next)
		}
	}
}

func TestOwnKeepaliveOfAPathStays(t *testing.T) {
	k, traffic := newFakeKernel(t), &kept{}
	k.set.Paths[1].Keepalive = 30 * time.Second
	k.connect(1, SubflowPolicy{}, traffic)
	k.run(5 * time.Minute)
	if want := []time.Duration{30 * time.Second}; !slices.Equal(traffic.gaps, want) {
		t.Errorf("keepalives each %v, want %v", traffic.gaps, want)
	}
	k.SetDesired([]DesiredState{Normal, Closed})
	k.run(time.Second)
	if last := traffic.gaps[len(traffic.gaps)-1]; last != 0 {
		t.Errorf("without a subflow on the path each %v", last)
	}
}

func TestSubflowsAreCheckedAfterTheFallOfAPath(t *testing.T) {
	k, traffic := idleConnection(t, Translation{V6: true}, Translation{V6: true})
	k.run(time.Minute)
	traffic.gaps = nil
	k.SetDesired([]DesiredState{Closed, Normal})
	k.run(checkTime + time.Second)
	if want := []time.Duration{checkInterval, minKeepalive}; !slices.Equal(traffic.gaps, want) {
		t.Errorf("keepalives each %v, want %v", traffic.gaps, want)
	}
}

func TestPathLearnsThatItsNATForgets(t *testing.T) {
	k, traffic := idleConnection(t, Translation{V6: true}, Translation{V6: true})
	most := func() (gap time.Duration) {
		traffic.gaps, traffic.bytes = nil, traffic.bytes+1
		k.run(5 * time.Minute)
		return slices.Max(traffic.gaps)
	}
	k.run(30 * time.Second) // keepalives each 20 s
	ended := k.open[1][1]
	k.open[1] = k.open[1][:1]
	ended.Err = syscall.ETIMEDOUT
	k.SubflowClosed(k.now, ended)
	k.run(time.Second)
	k.expect("soon", 1, 0, 1)
	if gap := most(); gap != 10*time.Second {
		t.Errorf("keepalives each %v", gap)
	}
	k.run(forgetfulFor)
	if gap := most(); gap != time.Minute {
		t.Errorf("after a long time each %v", gap)
	}
	traffic.bytes++
	k.run(idleInterval)
	k.kill(1, 1) // of a busy connection: no fault of the NAT's
	if gap := most(); gap != time.Minute {
		t.Errorf("after a reset of a busy connection each %v", gap)
	}
}
