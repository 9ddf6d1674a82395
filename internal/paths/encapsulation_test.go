package paths

import (
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"
)

// encapsulate gives the second path an encapsulated way.
func (k *fakeKernel) encapsulate() {
	k.SetEncapsulation(1, Encapsulation{Index: 91, Local: netip.MustParseAddr("240.91.0.2"), Remote: encapsulatedEnd})
}

// remotes returns where subflows of the second path were requested to since it was last asked.
func (k *fakeKernel) remotes() (all []netip.AddrPort) {
	for _, r := range k.requested(CreateSubflow, 1) {
		all = append(all, r.Remote)
	}
	return all
}

// rob ends all subflows of a connection as the kernel does whose middleboxes have taken the options.
func (k *fakeKernel) rob(token uint32) {
	for _, ev := range k.open[token] {
		ev.Err = syscall.EBADMSG
		k.SubflowClosed(k.now, ev)
	}
	k.open[token] = nil
}

func TestConnectionThatLosesAllSubflowsToMiddleboxesIsEncapsulated(t *testing.T) {
	for name, ending := range map[string]bool{"it lives on": false, "it ends": true} {
		t.Run(name, func(t *testing.T) {
			k := newFakeKernel(t)
			traffic := &carried{unacked: 1 << 20}
			k.connect(1, SubflowPolicy{}, traffic)
			k.run(time.Second)
			k.expect("at first", 1, 0, 1)
			if k.Encapsulations()[1].Wanted {
				t.Error("an encapsulated way is wanted without need")
			}
			k.remotes()
			k.strips[0], k.strips[1], traffic.ending = true, true, ending
			k.rob(1)
			k.run(provenAfter)
			if got := k.Encapsulations(); got[0].Wanted == ending || got[1].Wanted == ending {
				t.Errorf("after the loss: %+v, want the encapsulated ways: %v", got, !ending)
			}
			if ending {
				return
			}
			k.remotes()
			k.encapsulate()
			k.run(0)
			if got := k.remotes(); !slices.Equal(got, []netip.AddrPort{encapsulatedEnd}) {
				t.Errorf("with an encapsulated way subflows go to %v, want %v", got, encapsulatedEnd)
			}
			k.run(provenAfter)
			if got := k.Encapsulations()[1]; got.Open != 1 || got.Refusal.Reason != "" {
				t.Errorf("afterwards: %+v", got)
			}
		})
	}
}

// TestConnectionKeepsItsPathsWhereOneLosesItsSubflow has a middlebox reset the second subflow only.
func TestConnectionKeepsItsPathsWhereOneLosesItsSubflow(t *testing.T) {
	k := newFakeKernel(t)
	k.connect(1, SubflowPolicy{}, &carried{})
	k.run(time.Second)
	ev := k.open[1][1]
	ev.Err = syscall.EBADMSG
	k.open[1] = k.open[1][:1]
	k.SubflowClosed(k.now, ev)
	k.run(time.Second)
	if got := k.Encapsulations(); got[0].Wanted || got[1].Wanted {
		t.Errorf("encapsulated ways %+v, want none: the first subflow lives, and the second one is open again", got)
	}
	k.expect("afterwards", 1, 0, 1)
}

func TestPathThatRefusesPlainSubflowsTakesEncapsulatedOnes(t *testing.T) {
	k := newFakeKernel(t)
	k.refuses[1] = true
	for token := range uint32(4) {
		k.connect(token, SubflowPolicy{}, &carried{})
	}
	k.run(furtherDelay + time.Second)
	if got := k.Encapsulations(); got[0].Wanted || !got[1].Wanted {
		t.Fatalf("encapsulated ways %+v, want the second one", got)
	}
	k.encapsulate()
	k.run(time.Second)
	for token := range uint32(4) {
		if len(k.open[token]) != 2 {
			t.Errorf("connection %d has the subflows %+v, want a second one", token, k.open[token])
		}
	}
	k.remotes()
	k.connect(9, SubflowPolicy{}, &carried{})
	k.run(time.Second)
	if got := k.remotes(); !slices.Contains(got, encapsulatedEnd) {
		t.Errorf("a new connection's subflows go to %v, want %v", got, encapsulatedEnd)
	}
	clear(k.refuses)
	k.remotes()
	for token := range uint32(20) {
		k.connect(100+token, SubflowPolicy{}, &carried{})
		k.run(maxPause / 10)
	}
	if got := k.remotes(); !slices.Contains(got, joinLTE) || k.Refusals()[1].Reason != "" {
		t.Errorf("once the path takes plain subflows they go to %v, and it refuses: %q", got, k.Refusals()[1].Reason)
	}
}
