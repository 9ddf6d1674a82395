//go:build linux

package box

import (
	"testing"

	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
)

func TestMarkSaysWhoseSocketItIs(t *testing.T) {
	for _, c := range []struct {
		mptcp, own bool
		want       nfq.Mark
	}{
		{false, false, nfq.PlainSocket},
		{true, false, nfq.PathSocket},
		{true, true, nfq.OwnSocket},
		{false, true, nfq.OwnSocket},
	} {
		if got := markOf(relay.Dial{MPTCP: c.mptcp, OwnSource: c.own}); got != c.want {
			t.Errorf("MPTCP %v, own source %v: %#x, want %#x", c.mptcp, c.own, got, c.want)
		}
	}
}
