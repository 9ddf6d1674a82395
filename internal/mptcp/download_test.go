//go:build linux

package mptcp

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/probe"
)

// watchPaths runs a responder at the pair's HAG and a monitor at its CPE.
func (s *pair) watchPaths(t *testing.T, cfg paths.ProbeConfig) *probe.Monitor {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	var joins []netip.AddrPort
	var all []paths.Path
	for i, l := range s.Lines {
		joins = append(joins, s.joins[i])
		all = append(all, paths.Path{Name: l.Name, Interface: l.Name, Join: joins[i : i+1]})
	}
	var responder *probe.Responder
	check(t, s.HAG.Do(func() (err error) {
		responder, err = probe.NewResponder(joins, "", EndSubflows, log)
		return err
	}))
	m := newMachine(t, s.CPE).Load()
	monitor, err := probe.NewMonitor(m, nil, all, cfg, log)
	check(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	running := []<-chan error{
		netlabtest.Inside(t, s.HAG, func() error { return responder.Run(ctx) }),
		netlabtest.Inside(t, s.CPE, func() error { return m.Watch(ctx, true) }),
		netlabtest.Inside(t, s.CPE, func() error { return monitor.Run(ctx, func() {}) }),
	}
	t.Cleanup(func() {
		cancel()
		for _, done := range running {
			check(t, <-done)
		}
		check(t, responder.Close())
	})
	return monitor
}

// A download over two lines goes on when one of them goes silent: both boxes end
// the subflow there, and it continues on the other line.
func TestDownloadSurvivesASilentPath(t *testing.T) {
	for i, name := range []string{"the first line", "the second line"} {
		t.Run(name, func(t *testing.T) {
			s := newPair(t)
			if err := s.HAG.Do(host.CanEndSockets); err != nil {
				t.Skip("kernel without CONFIG_INET_DIAG_DESTROY: ", err)
			}
			for k, rate := range []int64{20e6, 40e6} {
				check(t, s.Lines[k].SetRate(rate))
				check(t, s.Lines[k].SetDelay([]time.Duration{10, 30}[k]*time.Millisecond))
			}
			monitor := s.watchPaths(t, paths.ProbeConfig{Silence: 500 * time.Millisecond})
			client, result := s.download(t, 4*time.Second)
			s.m.Track(tokenOf(t, client), paths.SubflowPolicy{}, nil)
			expect(t, "the second subflow does not come", client, s.first, s.other)
			eventually(t, "the monitor does not hear of the HAG", func() bool { return monitor.HAG().State == paths.HAGUp })
			time.Sleep(2 * time.Second) // until both lines are busy
			check(t, s.Lines[i].Down(true))
			eventually(t, "silence is not noticed", func() bool { return monitor.Statuses()[i].Reason == "silent" })
			check(t, s.CPE.Do(func() error {
				n, err := EndSubflows(s.m.set.OnPath(i))
				if n != 1 {
					t.Errorf("%d subflows end, want 1", n)
				}
				return err
			}))
			desired := []paths.DesiredState{paths.Normal, paths.Normal}
			desired[i] = paths.Closed
			s.m.SetDesired(desired)
			r := <-result
			t.Logf("stall %v, %.1f Mbit/s", r.Stall.Round(time.Millisecond), r.Goodput/1e6)
			if other := monitor.Statuses()[1-i]; !other.Up {
				t.Errorf("the other path is down, too: %+v", other)
			}
		})
	}
}

// download begins a download of that duration from the HAG, and returns its
// connection and, later, its result.
func (s *pair) download(t *testing.T, d time.Duration) (net.Conn, <-chan netlab.Result) {
	t.Helper()
	l, err := s.HAG.Listen("mptcp", at(netlab.HAGWan6, 0).String())
	check(t, err)
	served := make(chan error, 1)
	go func() { served <- netlab.ServeTraffic(l) }()
	t.Cleanup(func() { check(t, l.Close()); check(t, <-served) })
	conns := make(chan net.Conn, 1)
	dial := func(ctx context.Context) (net.Conn, error) {
		c, err := s.CPE.Dial(ctx, "mptcp", "", l.Addr().String())
		if err == nil {
			conns <- c
		}
		return c, err
	}
	result := make(chan netlab.Result, 1)
	go func() {
		r, err := netlab.TransferFor(t.Context(), dial, netlab.Down, d)
		if err != nil {
			t.Error(err)
		}
		result <- r
	}()
	return <-conns, result
}
