package netlab_test

import (
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

func TestRoundTripIsThatOfTheLine(t *testing.T) {
	netlabtest.Require(t)
	const oneWay = 15 * time.Millisecond
	n, err := netlab.Build(netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}, {Name: "lte", Delay: oneWay}}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
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
