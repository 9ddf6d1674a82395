//go:build linux

package netlab_test

import (
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

func TestRoundTripIsTwiceTheLinesDelay(t *testing.T) {
	const oneWay = 15 * time.Millisecond
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}, {Name: "lte", Delay: oneWay}}})
	trip, err := n.Line("lte").RoundTrip(t.Context())
	if err != nil || trip < 2*oneWay-time.Millisecond {
		t.Errorf("lte: %v, %v, want %v and a little", trip, err, 2*oneWay)
	}
	if err := n.Line("dsl").SetLoss(1); err != nil {
		t.Fatal(err)
	}
	if trip, err := n.Line("dsl").RoundTrip(t.Context()); err == nil {
		t.Errorf("a line that loses everything: %v", trip)
	}
}
