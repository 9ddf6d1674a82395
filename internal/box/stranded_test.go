//go:build linux

package box

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/packettest"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/relay/relaytest"
	"github.com/synbond/synbond/state"
)

// elsewhereToken is the token of a connection whose other end is no HAG.
const elsewhereToken = 0xe15e

// relayed has the box relay a connection from that port, with that token.
func (x *bench) relayed(port uint16, token uint32) *relaytest.Conn {
	x.t.Helper()
	set := func(h *layers.TCP) { h.SYN = true }
	client := netip.AddrPortFrom(packettest.Client6.Addr(), port)
	x.queue.Put(lan, packettest.Segment(x.t, client, packettest.Server6, set, packettest.MSS))
	c := x.last()
	c.Tok = token
	x.dialEnded(id(c), c, nil)
	if !x.paired(id(c), c.Dial) {
		x.t.Fatal("the connection is unwanted")
	}
	return c
}

func TestConnectionWithoutSubflowsIsEndedWhileAPathIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, f := steered(t, core.NoBox)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- x.watchStranded(ctx) }()
		defer func() { cancel(); <-done }()
		dead, alive := x.relayed(1000, 1), x.relayed(1001, 2)
		x.change(f, func() { f.statuses[0].Up, f.statuses[1].Up = false, false })
		dead.Dead = true
		time.Sleep(time.Minute)
		if dead.Ended() != nil {
			t.Error("the connection has ended while all paths are down")
		}
		x.change(f, func() { f.statuses[1].Up = true })
		time.Sleep(1900 * time.Millisecond)
		if dead.Ended() != nil {
			t.Error("the connection has ended before three seconds were over")
		}
		time.Sleep(1600 * time.Millisecond)
		if err := dead.Ended(); reasonOf(err) != state.NoSubflow {
			t.Errorf("the connection has ended because of %v", err)
		}
		if alive.Ended() != nil {
			t.Error("a connection with a subflow has ended")
		}
		x.closed(id(dead), dead.Ended())
		totals := x.core.Totals()
		if n := totals.ReasonsByName()["no-subflow"]; n != 1 {
			t.Errorf("%d flows are counted", n)
		}
		x.closed(id(alive), nil)
	})
}

func TestBytesThatStandStillArePushed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, Config{Role: HAG})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- x.watchStranded(ctx) }()
		bytes, fin, idle := x.relayed(1000, 1), x.relayed(1001, 2), x.relayed(1002, 3)
		bytes.At.Left, fin.At.Left = 8, 1
		time.Sleep(4 * time.Second)
		cancel()
		<-done
		if all, probed := bytes.Pushed(); all == 0 || probed != 0 {
			t.Errorf("bytes are pushed %d times, %d with keepalives", all, probed)
		}
		if all, probed := fin.Pushed(); probed == 0 || probed == all {
			t.Errorf("a FIN is pushed %d times, %d with keepalives", all, probed)
		}
		if all, _ := idle.Pushed(); all != 0 {
			t.Errorf("an idle connection is pushed %d times", all)
		}
		for _, c := range []*relaytest.Conn{bytes, fin, idle} {
			x.closed(id(c), nil)
		}
	})
}

func TestFlowsOfARunOfTheHAGThatIsOverAreEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, f := steered(t, core.NoBox)
		x.change(f, func() { f.instance = 1 })
		old, other := x.relayed(1000, 1), x.relayed(1001, elsewhereToken)
		time.Sleep(time.Second)
		heard := time.Now()
		time.Sleep(time.Second)
		late := x.relayed(1002, 3)
		x.change(f, func() { f.instance = 2 })
		next := x.relayed(1003, 4)
		x.change(f, func() { f.departed = []paths.Departed{{Instance: 1, Heard: heard}} })
		if err := old.Ended(); reasonOf(err) != state.HAGRestarted {
			t.Errorf("its flow has ended because of %v", err)
		}
		for name, c := range map[string]*relaytest.Conn{
			"a flow whose other end is no HAG": other, "a flow that began after its last answer": late, "a flow of the next run": next,
		} {
			if c.Ended() != nil {
				t.Errorf("%s has ended", name)
			}
		}
		if f.renewed == 0 {
			t.Error("the refusals of the former HAG are remembered")
		}
		for _, c := range []*relaytest.Conn{old, other, late, next} {
			x.closed(id(c), c.Ended())
		}
	})
}

// TestProbesOfLateFlowsLeaveTheirKeepalive has a flow that may belong to either run of a HAG
// probed for a while.
func TestProbesOfLateFlowsLeaveTheirKeepalive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, f := steered(t, core.NoBox)
		x.change(f, func() { f.instance = 1 })
		heard := time.Now()
		time.Sleep(time.Second)
		late := x.relayed(1000, 1)
		late.SetKeepalive(time.Minute) // the planner's choice
		x.change(f, func() { f.departed = []paths.Departed{{Instance: 1, Heard: heard}} })
		time.Sleep(pokeTime / 2)
		if _, probing := late.Keepalive(); !probing {
			t.Error("the flow is not probed")
		}
		late.SetKeepalive(40 * time.Second) // its next one
		time.Sleep(pokeTime)
		synctest.Wait()
		if idle, probing := late.Keepalive(); probing || idle != 40*time.Second {
			t.Errorf("afterwards its keepalive is %v, probing %v", idle, probing)
		}
		x.closed(id(late), nil)
	})
}

func TestRefusalsOfAPathAreFindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, f := steered(t, core.NoBox)
		x.change(f, func() {
			f.refusals = []paths.Refusal{{}, {Reason: "subflows are refused: reset", Likely: "a firewall"}}
		})
		all := x.findings.All()
		if len(all) != 1 || all[0].ID != "refuses-subflows" || all[0].Path != "lte" || all[0].Remedy != "a firewall" {
			t.Errorf("findings %+v", all)
		}
		x.change(f, func() { f.refusals = nil })
		if all := x.findings.All(); len(all) != 0 {
			t.Errorf("findings %+v after the path takes subflows", all)
		}
	})
}

func TestHAGWaitsLongerForItsHalf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newBench(t, Config{Role: HAG})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- x.watchStranded(ctx) }()
		defer func() { cancel(); <-done }()
		c := x.relayed(1000, 1)
		c.Dead = true
		time.Sleep(paths.HAGPatience - time.Second)
		if c.Ended() != nil {
			t.Error("it has ended before a CPE's keepalive may have come")
		}
		time.Sleep(3 * time.Second)
		if err := c.Ended(); reasonOf(err) != state.NoSubflow {
			t.Errorf("it has ended because of %v", err)
		}
		x.closed(id(c), c.Ended())
	})
}

func TestFallbacksInARowAreAFinding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, f := steered(t, core.NoBox)
		for i, c := range []struct {
			fallback bool
			bytes    uint64
			want     int // findings
		}{{true, 1, 0}, {true, 1, 0}, {false, 1, 0}, {true, 1, 0}, {true, 0, 0}, {true, 1, 0}, {true, 1, 1}, {true, 1, 1}, {false, 0, 1}, {false, 1, 0}} {
			conn := x.relayed(uint16(1000+i), uint32(i+1))
			conn.Up = c.bytes
			if c.fallback {
				conn.Tok = 0
			}
			x.closed(id(conn), nil)
			x.change(f, func() {})
			if all := x.findings.All(); len(all) != c.want || c.want > 0 && (all[0].ID != "removes-options" || all[0].Path != "dsl") {
				t.Errorf("after flow %d: findings %+v", i, all)
			}
		}
	})
}
