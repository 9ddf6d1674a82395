//go:build linux

package probe

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/paths"
)

func TestResponderRepliesToProbesOnlyAndToEachOnce(t *testing.T) {
	responder := newResponder("secret", nil, slog.New(slog.DiscardHandler))
	responder.instance = 77
	r := responder.newReplier()
	cpe := newCodec("secret")
	m := report(1, 1, 1, 1, 0)
	m.version = messageVersion
	with := func(change func(*message)) []byte {
		changed := m
		change(&changed)
		return cpe.append(nil, changed)
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
		{"a reply", with(func(m *message) { m.kind = kindReply }), lteA, message{}, 0},
		{"a refusal of another version", with(func(m *message) { m.kind, m.version = kindRefusal, 9 }), lteA, message{}, 0},
		{"another version", with(func(m *message) { m.version = 9 }), lteA, message{kind: kindRefusal, reason: otherVersion}, 0},
		{"another secret", newCodec("other").append(nil, m), lteA, message{kind: kindRefusal, reason: otherSecret}, 0},
		{"the first probe", with(func(*message) {}), lteA, message{kind: kindReply, cookie: cookie}, 0},
		{"a cookie of another address", with(func(m *message) { m.cookie = cookie }), dslB, message{kind: kindReply, cookie: r.cookie(m, dslB)}, 0},
		{"the second probe", with(func(m *message) { m.cookie, m.sequence = cookie, 2 }), lteA, message{kind: kindReply, cookie: cookie, flags: flagConfirmed}, 1},
		{"the same again", with(func(m *message) { m.cookie, m.sequence = cookie, 2 }), lteA, message{}, 1},
		{"a report", with(func(m *message) { m.cookie, m.sequence, m.down, m.revision = cookie, 3, 4, 2 }), lteA,
			message{kind: kindReply, cookie: cookie, flags: flagConfirmed, down: 4, revision: 2}, 1},
	} {
		reply := r.reply(nil, c.in, netip.AddrPortFrom(c.from, 5), time.Now())
		if c.want.kind == 0 {
			if len(reply) > 0 {
				t.Errorf("%s: the reply is % x", c.name, reply)
			}
			continue
		}
		got, err := newCodec("secret").parse(reply)
		if err != nil || len(reply) > len(c.in) {
			t.Errorf("%s: a reply of %d bytes: %v", c.name, len(reply), err)
		}
		got.box, got.sequence, got.version, got.path = 0, 0, 0, 0
		if c.want.instance = 77; c.want.kind == kindReply && c.want.revision == 0 {
			c.want.revision = 1
		}
		if got != c.want || len(responder.Peers()) != c.peers {
			t.Errorf("%s: %+v with %d peers, want %+v with %d", c.name, got, len(responder.Peers()), c.want, c.peers)
		}
	}
}

func TestResponderRepliesToExtendedProbes(t *testing.T) {
	r := newResponder("", nil, slog.New(slog.DiscardHandler)).newReplier()
	from := netip.AddrPortFrom(lteA, 4321)
	for i, c := range []struct {
		name          string
		size          int
		abilities     uint64
		want          int // bytes of the reply
		seen, extends bool
	}{
		{"a CPE that knows no items", messageSize, 0, messageSize, false, false},
		{"one that knows them", messageSize, abilityItems, messageSize, false, true},
		{"an extended probe", extendedSize, abilityItems, extendedSize, true, true},
		{"the largest", maxMessageSize, abilityItems, maxMessageSize, true, true},
	} {
		m := message{version: messageVersion, kind: kindProbe, sequence: uint64(i + 1), size: c.size, instance: c.abilities}
		b := r.reply(nil, newCodec("").append(nil, m), from, time.Now())
		got, err := newCodec("").parse(b)
		if err != nil || len(b) != c.want || got.seen.IsValid() != c.seen || c.seen && got.seen != from || got.flags&flagItems != 0 != c.extends {
			t.Errorf("%s: %d bytes, %+v, %v", c.name, len(b), got, err)
		}
	}
}

func TestPortInUseIsAnError(t *testing.T) {
	taken, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv6loopback})
	check(t, err)
	defer taken.Close()
	leftOver(t)
	free := netip.MustParseAddrPort("[::1]:0")
	_, err = NewResponder([]netip.AddrPort{free, taken.LocalAddr().(*net.UDPAddr).AddrPort()}, "", nil, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Error("a port that is in use can be opened")
	}
}

func TestBusyPathDoesNotCountAsSilent(t *testing.T) {
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
			respond(t, n, "")
			o := observe(t, n, paths.ProbeConfig{Silence: patient})
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
			if o.failures(0)+o.failures(1) != 0 {
				t.Errorf("the path failed: %+v", o.last())
			}
			if !slices.Equal([]bool{s.Up, s.Probed}, []bool{true, true}) || s.Sent < 20 {
				t.Errorf("status %+v", s)
			}
		})
	}
}
