package lab

import (
	"testing"
	"time"
)

func TestRoundTripIsThatOfTheLine(t *testing.T) {
	Require(t)
	const oneWay = 15 * time.Millisecond
	n, err := Build(Topology{Lines: []LineConfig{{Name: "dsl"}, {Name: "lte", Delay: oneWay}}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	trip, err := n.roundTrip(t.Context(), n.Line("lte"))
	if err != nil || trip < 2*oneWay-time.Millisecond {
		t.Errorf("lte: %v, %v, want %v and a little", trip, err, 2*oneWay)
	}
	if err := n.Line("dsl").SetLoss(1); err != nil {
		t.Fatal(err)
	}
	if trip, err := n.roundTrip(t.Context(), n.Line("dsl")); err == nil {
		t.Errorf("a line that loses everything: %v", trip)
	}
}
