package core

import (
	"testing"
	"time"

	"github.com/synbond/synbond/state"
)

func TestAnswersWithoutMPTCPInARowAreThePathsDoing(t *testing.T) {
	refuses := func(Dial) (Dialed, time.Duration) { return closed(Dial{}) }
	n := &network{driver: newCore(t, state.Relay), path: 1}
	for i, c := range []struct {
		answer func(Dial) (Dialed, time.Duration)
		path   uint8
		want   PathSet
	}{
		{sound, 1, 0}, {plain, 1, 0}, {plain, 1, 0}, {sound, 1, 0}, // an accident of the other box
		{plain, 1, 0}, {plain, 1, 0}, {refuses, 1, 0}, {plain, 0, 0}, {plain, 1, 1 << 1}, {plain, 1, 1 << 1},
		{sound, 0, 1 << 1}, {sound, 1, 0},
	} {
		n.answer, n.path = c.answer, c.path
		n.connect(t, server6.String())
		if got := n.Unbonded(); got != c.want {
			t.Errorf("after connection %d: paths %b, want %b", i+1, got, c.want)
		}
	}
}
