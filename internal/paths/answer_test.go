package paths

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

func TestAnswererAnswersProbesOnlyAndEachOnce(t *testing.T) {
	a := &Answerer{secret: "secret", log: slog.New(slog.DiscardHandler), instance: 77, fallen: make(chan struct{}, 1), peers: make(peers)}
	r := &replier{a, newSealer(a.secret), hmac.New(sha256.New, a.key[:])}
	seal := newSealer(a.secret)
	m := report(1, 1, 1, 1, 0)
	m.version = messageVersion
	with := func(change func(*message)) []byte {
		changed := m
		change(&changed)
		return seal.append(nil, changed)
	}
	cookie := r.cookie(m, lteA)
	for _, c := range []struct {
		name  string
		in    []byte
		from  netip.Addr
		want  message // kind 0: no reply
		peers int
	}{
		{"nothing", nil, lteA, message{}, 0},
		{"garbage", make([]byte, messageSize), lteA, message{}, 0},
		{"an answer", with(func(m *message) { m.kind = answer }), lteA, message{}, 0},
		{"a refusal of another version", with(func(m *message) { m.kind, m.version = refusal, 9 }), lteA, message{}, 0},
		{"another version", with(func(m *message) { m.version = 9 }), lteA, message{kind: refusal, reason: otherVersion}, 0},
		{"another secret", newSealer("other").append(nil, m), lteA, message{kind: refusal, reason: otherSecret}, 0},
		{"the first probe", with(func(*message) {}), lteA, message{kind: answer, cookie: cookie}, 0},
		{"a cookie of another address", with(func(m *message) { m.cookie = cookie }), dslB, message{kind: answer, cookie: r.cookie(m, dslB)}, 0},
		{"the second probe", with(func(m *message) { m.cookie, m.sequence = cookie, 2 }), lteA, message{kind: answer, cookie: cookie, flags: flagKnown}, 1},
		{"the same again", with(func(m *message) { m.cookie, m.sequence = cookie, 2 }), lteA, message{}, 1},
		{"a report", with(func(m *message) { m.cookie, m.sequence, m.down, m.revision = cookie, 3, 4, 2 }), lteA,
			message{kind: answer, cookie: cookie, flags: flagKnown, down: 4, revision: 2}, 1},
	} {
		reply := r.reply(nil, c.in, c.from)
		if c.want.kind == 0 {
			if len(reply) > 0 {
				t.Errorf("%s: the reply is % x", c.name, reply)
			}
			continue
		}
		got, err := newSealer(a.secret).open(reply)
		if err != nil || len(reply) > len(c.in) {
			t.Errorf("%s: a reply of %d bytes: %v", c.name, len(reply), err)
		}
		got.box, got.sequence, got.version, got.path = 0, 0, 0, 0
		if c.want.instance = 77; c.want.kind == answer && c.want.revision == 0 {
			c.want.revision = 1
		}
		if got != c.want || len(a.Peers()) != c.peers {
			t.Errorf("%s: %+v with %d peers, want %+v with %d", c.name, got, len(a.Peers()), c.want, c.peers)
		}
	}
}

func TestJoinAddressThatCannotBeProbedIsNamed(t *testing.T) {
	taken, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback})
	check(t, err)
	defer taken.Close()
	leftOver(t)
	free := netip.MustParseAddrPort("[::1]:0")
	_, err = NewAnswerer([]netip.AddrPort{free, taken.LocalAddr().(*net.UDPAddr).AddrPort()}, "", slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("a port that is in use can be opened")
	}
}

// A download over two lines goes on when one of them goes silent: both boxes end
// the subflow there, and it continues on the other line.
func TestDownloadGoesOnWhenALineGoesSilent(t *testing.T) {
	for i, name := range []string{"the first line", "the second line"} {
		t.Run(name, func(t *testing.T) {
			s := setScene(t)
			if err := s.HAG.Do(ProbeDestroy); err != nil {
				t.Skip("kernel without CONFIG_INET_DIAG_DESTROY: ", err)
			}
			for k, rate := range []int64{20e6, 40e6} {
				check(t, s.Lines[k].SetRate(rate))
				check(t, s.Lines[k].SetDelay([]time.Duration{10, 30}[k]*time.Millisecond))
			}
			answers(t, s.Network, "")
			o := observe(t, s.Network, ProbeConfig{Silence: patient})
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
				r, err := netlab.TransferFor(t.Context(), dial, netlab.Down, 4*time.Second)
				if err != nil {
					t.Error(err)
				}
				result <- r
			}()
			client := <-conns
			s.m.Track(established(t, s.m), Terms{}, nil)
			expect(t, "the second subflow does not come", client, s.first, s.other)
			time.Sleep(2 * time.Second) // until both lines are busy
			then := time.Now()
			before := o.Statuses()[i]
			check(t, s.Lines[i].Down(true))
			o.await(t, then, "silence", fails(i, reasonSilent))
			check(t, s.CPE.Do(func() error {
				n, err := o.DestroyPath(i)
				if n != 1 {
					t.Errorf("%d subflows end, want 1", n)
				}
				return err
			}))
			uses := []Use{Normal, Normal}
			uses[i] = Closed
			s.m.Want(uses)
			r := <-result
			t.Logf("stall %v, %.1f Mbit/s; round trip %v±%v before", r.Stall.Round(time.Millisecond), r.Goodput/1e6,
				before.RTT.Round(time.Millisecond), before.RTTVar.Round(time.Millisecond))
			if o.falls(1-i) != 0 {
				t.Error("the other line fell, too")
			}
		})
	}
}

func TestBusyLineIsNotTakenForSilent(t *testing.T) {
	for _, c := range []struct {
		name      string
		direction netlab.Direction
		loss      float64
	}{
		{"download", netlab.Down, 0},
		{"upload", netlab.Up, 0},
		{"download with losses", netlab.Down, 0.01},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := build(t)
			check(t, n.Lines[0].SetRate(20e6))
			check(t, n.Lines[0].SetDelay(10*time.Millisecond))
			check(t, n.Lines[0].SetLoss(c.loss))
			answers(t, n, "")
			o := observe(t, n, ProbeConfig{Silence: patient})
			l, err := n.HAG.Listen("tcp", at(netlab.HAGWan6, 0).String())
			check(t, err)
			served := make(chan error, 1)
			go func() { served <- netlab.ServeTraffic(l) }()
			defer func() { check(t, l.Close()); check(t, <-served) }()
			dial := func(ctx context.Context) (net.Conn, error) { return n.CPE.Dial(ctx, "tcp", "", l.Addr().String()) }
			r, err := netlab.TransferFor(t.Context(), dial, c.direction, 3*time.Second)
			check(t, err)
			s := o.Statuses()[0]
			t.Logf("%.1f Mbit/s, round trip %v±%v, at least %v, loss %.2f, %d probes, %d missed", r.Goodput/1e6,
				s.RTT.Round(time.Millisecond), s.RTTVar.Round(time.Millisecond), s.MinRTT.Round(time.Millisecond), s.Loss, s.Sent, s.Missed)
			if o.falls(0)+o.falls(1) != 0 {
				t.Errorf("the line fell: %+v", o.last())
			}
			if !slices.Equal([]bool{s.Up, s.Probed}, []bool{true, true}) || s.Sent < 20 {
				t.Errorf("status %+v", s)
			}
		})
	}
}
