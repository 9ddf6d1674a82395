//go:build linux

package netlab_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// serve runs the traffic server on a host and returns a dialer to it from another.
func serve(t *testing.T, server, client *netlab.Host, addr string) netlab.Dialer {
	t.Helper()
	l, err := server.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	serveUntilEnd(t, l)
	return func(ctx context.Context) (net.Conn, error) {
		return client.Dial(ctx, "tcp", "", l.Addr().String())
	}
}

// serveUntilEnd serves traffic on a listener until the test ends.
func serveUntilEnd(t *testing.T, l net.Listener) {
	done := make(chan error, 1)
	go func() { done <- netlab.ServeTraffic(l) }()
	t.Cleanup(func() {
		l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// timeout is long enough for a loaded machine.
func timeout(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestLineKeepsItsRate(t *testing.T) {
	const rate = 20e6
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Rate: rate, Delay: 5 * time.Millisecond}}})
	dial := serve(t, n.Server, n.Client, netlab.Server6.String())
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		// 1428 bytes of payload in frames of 1514; a busy machine may bring less at times.
		netlabtest.Eventually(t, d.String()+": never half of the line's rate", func() bool {
			r, err := netlab.Request{Direction: d, Duration: time.Second, Warmup: 300 * time.Millisecond}.Run(timeout(t), dial)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %.2f Mbit/s", d, r.Goodput/1e6)
			if r.Goodput > rate*1.01 {
				t.Errorf("%s: goodput %.1f Mbit/s on a line of 20 Mbit/s", d, r.Goodput/1e6)
			}
			return r.Goodput > rate*0.5
		})
	}
	up, down := n.Lines[0].Bytes()
	if up < 1e6 || down < 1e6 {
		t.Errorf("line counted %d bytes up and %d down", up, down)
	}
}

func TestLineChangesWhileItCarriesTraffic(t *testing.T) {
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}}})
	remote := net.JoinHostPort(netlab.Server6.String(), echo(t, n.Server))
	l := n.Line("dsl")
	for _, d := range []time.Duration{20 * time.Millisecond, 5 * time.Millisecond, 0} {
		if err := l.SetDelay(d); err != nil {
			t.Fatal(err)
		}
		takes(t, n, remote, 2*d)
	}
	dial := serve(t, n.Server, n.Client, netlab.Server6.String())
	if err := l.SetRate(8e6); err != nil {
		t.Fatal(err)
	}
	if r, err := netlab.Transfer(timeout(t), dial, netlab.Down, 512<<10); err != nil || r.Goodput > 8.5e6 {
		t.Errorf("at 8 Mbit/s: %.1f Mbit/s, %v", r.Goodput/1e6, err)
	}
	if err := l.SetRate(0); err != nil {
		t.Fatal(err)
	}
	netlabtest.Eventually(t, "never 20 Mbit/s without a rate", func() bool {
		r, err := netlab.Transfer(timeout(t), dial, netlab.Down, 4<<20)
		if err != nil {
			t.Fatal(err)
		}
		return r.Goodput > 20e6
	})
}

func TestSilentLineStallsAndRecovers(t *testing.T) {
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Rate: 50e6, Delay: 5 * time.Millisecond}}})
	dial := serve(t, n.Server, n.Client, netlab.Server6.String())
	const silence = 400 * time.Millisecond
	failed := make(chan error, 1)
	go func() {
		carries := func() bool { _, down := n.Lines[0].Bytes(); return down > 100_000 }
		for begin := time.Now(); !carries() && time.Since(begin) < 10*time.Second; {
			time.Sleep(10 * time.Millisecond)
		}
		if err := n.Lines[0].Down(true); err != nil {
			failed <- err
		}
		time.Sleep(silence)
		failed <- n.Lines[0].Down(false)
	}()
	r, err := netlab.TransferFor(timeout(t), dial, netlab.Down, 1200*time.Millisecond)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.Stall < silence-20*time.Millisecond {
		t.Errorf("longest stall %v, line was silent for %v", r.Stall, silence)
	}
	if err := n.Lines[0].Down(true); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx); ctx.Err() == nil {
		t.Errorf("connected over a silent line: %v", err)
	}
}

func TestLineLosesPackets(t *testing.T) {
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Loss: 0.05}}})
	dial := serve(t, n.Server, n.Client, netlab.Server4.String())
	if _, err := netlab.Transfer(timeout(t), dial, netlab.Down, 2<<20); err != nil {
		t.Errorf("with losses: %v", err)
	}
	if got := retransmitted(t, n.Server); got < 10 {
		t.Errorf("%d segments retransmitted of some 1,400 at 5%% loss", got)
	}
	if err := n.Lines[0].SetLoss(1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := dial(ctx); ctx.Err() == nil {
		t.Errorf("connected over a line that loses all: %v", err)
	}
}

func TestCarrierMovesTrafficToTheNextLine(t *testing.T) {
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}, {Name: "lte"}}})
	remote := net.JoinHostPort(n.Line("lte").HAG6.String(), echo(t, n.HAG))
	byLine := func() (dsl, lte bool) {
		d0, _ := n.Line("dsl").Bytes()
		l0, _ := n.Line("lte").Bytes()
		exchange(t, n.CPE, "", remote)
		d1, _ := n.Line("dsl").Bytes()
		l1, _ := n.Line("lte").Bytes()
		return d1-d0 > uint64(len(message)), l1-l0 > uint64(len(message))
	}
	for _, carrier := range []bool{true, false, true, false, true} {
		if err := n.Line("dsl").Carrier(carrier); err != nil {
			t.Fatal(err)
		}
		waitCarrier(t, n.CPE, "dsl", carrier)
		if dsl, lte := byLine(); dsl != carrier || lte == carrier {
			t.Errorf("carrier %v: by dsl %v, by lte %v", carrier, dsl, lte)
		}
	}
}
