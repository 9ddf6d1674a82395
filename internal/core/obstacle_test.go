package core

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/state"
)

// synTo is a SYN of a client's port to a server.
func synTo(t *testing.T, port uint16, server string, options ...layers.TCPOption) []byte {
	to := netip.MustParseAddrPort(server)
	from := netip.AddrPortFrom(client6.Addr(), port)
	if to.Addr().Is4() {
		from = netip.AddrPortFrom(client4.Addr(), port)
	}
	return segment(t, from, to, func(h *layers.TCP) { h.SYN = true }, append(options, mss)...)
}

// network is a core with clients that connect by way of a network: answer is what becomes
// of a dial.
type network struct {
	*driver
	now    time.Duration
	path   uint8
	answer func(Dial) (end Dialed, after time.Duration) // an end that never comes is after 0
	side   state.Side

	port uint16
	told []Notice
}

// ending is the end of a dial that is to come.
type ending struct {
	flow state.ID
	end  Dialed
	at   time.Duration
}

// result is what a client gets.
type result struct {
	verdict Verdict
	reason  state.Reason
	took    time.Duration
	dials   []Dial
}

// connect has a client connect, which repeats its SYN after 1 s and after 3 s.
func (n *network) connect(t *testing.T, server string, options ...layers.TCPOption) (r result) {
	t.Helper()
	n.port++
	begun, packet := n.now, synTo(t, n.port, server, options...)
	var endings []ending
	decided := false
	carry := func(acts []Action) {
		for _, a := range acts {
			switch a.Kind {
			case Decide:
				if d := a.Decision; d.Verdict != Hold && d.Reason != state.Repeat && !decided {
					decided, r.verdict, r.reason, r.took = true, d.Verdict, d.Reason, n.now-begun
				}
			case Connect:
				r.dials = append(r.dials, a.Dial)
				if end, after := n.answer(a.Dial); after > 0 {
					endings = append(endings, ending{a.Flow, end, n.now + after})
				}
			case Tell:
				n.told = append(n.told, *a.Notice)
			}
		}
	}
	const step = 5 * time.Millisecond
	for ; !decided && n.now-begun < 30*time.Second; n.now += step {
		if since := n.now - begun; since == 0 || since == time.Second || since == 3*time.Second {
			carry(n.Packet(nil, n.now, Packet{ID: uint32(n.port)*10 + uint32(since/time.Second), Side: n.side, Path: n.path, Data: packet}))
		}
		carry(n.Tick(nil, n.now))
		for _, e := range endings {
			if e.at <= n.now && e.at > n.now-step {
				carry(n.DialEnded(nil, n.now, e.flow, e.end))
			}
		}
	}
	if f, _ := n.Flow(state.KeyOf(netip.AddrPortFrom(clientOf(server), n.port), netip.MustParseAddrPort(server))); f.State == state.Released {
		n.Paired(nil, n.now, f.ID)
		n.Closed(nil, n.now, f.ID, state.FIN)
	}
	return r
}

func clientOf(server string) netip.Addr {
	if netip.MustParseAddrPort(server).Addr().Is4() {
		return client4.Addr()
	}
	return client6.Addr()
}

const roundTrip = 40 * time.Millisecond

// Networks, by what becomes of a dial.
var (
	sound  = func(Dial) (Dialed, time.Duration) { return Dialed{MPTCP: true}, roundTrip }
	plain  = func(Dial) (Dialed, time.Duration) { return Dialed{}, roundTrip }
	silent = func(Dial) (Dialed, time.Duration) { return Dialed{}, 0 }
	closed = func(Dial) (Dialed, time.Duration) { return Dialed{Err: unix.ECONNREFUSED}, roundTrip }
	drops  = func(d Dial) (Dialed, time.Duration) {
		if d.offers() { // the kernel repeats the SYN without MP_CAPABLE
			return Dialed{}, 3*time.Second + roundTrip
		}
		return Dialed{}, roundTrip
	}
	resets = func(d Dial) (Dialed, time.Duration) {
		if d.offers() {
			return Dialed{Err: unix.ECONNREFUSED}, roundTrip / 2
		}
		return Dialed{}, roundTrip
	}
	prohibits = func(d Dial) (Dialed, time.Duration) {
		if d.offers() {
			return Dialed{Err: unix.EACCES}, roundTrip / 2
		}
		return Dialed{}, roundTrip
	}
)

func newNetwork(t *testing.T, answer func(Dial) (Dialed, time.Duration)) *network {
	return &network{driver: newCore(t, state.Relay), now: time.Hour, port: 2000, answer: answer}
}

// want fails the test unless a client gets that, after most at last, and with so many dials.
func (r result) want(t *testing.T, what string, v Verdict, why state.Reason, most time.Duration, dials int) {
	t.Helper()
	if r.verdict != v || r.reason != why || r.took > most || len(r.dials) != dials {
		t.Errorf("%s: %v because of %q after %v, with %d dials; want %v because of %q within %v, %d dials",
			what, r.verdict, r.reason, r.took, len(r.dials), v, why, most, dials)
	}
}

func TestOnlyTheFirstConnectionPaysWhereMPTCPIsBlocked(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(Dial) (Dialed, time.Duration)
		first  time.Duration
	}{
		{"dropped", drops, time.Second + grace + roundTrip + 20*time.Millisecond},
		{"reset", resets, 2 * roundTrip},
		{"prohibited", prohibits, 2 * roundTrip},
	} {
		for _, server := range []string{"192.0.2.1:443", "[2001:db8:2::2]:443"} {
			t.Run(c.name+" "+server, func(t *testing.T) {
				n := newNetwork(t, c.answer)
				r := n.connect(t, server)
				r.want(t, "the first", Deliver, state.MPTCPBlocked, c.first, 2)
				if last := r.dials[len(r.dials)-1]; !last.Plain || !last.Multipath {
					t.Errorf("its last dial is %+v", last)
				}
				for range 3 {
					n.connect(t, server).want(t, "a later one", Accept, state.MPTCPBlocked, 0, 0)
				}
				if len(n.told) != 1 || n.told[0].Over || n.told[0].Reason != state.MPTCPBlocked {
					t.Errorf("told %+v", n.told)
				}
				n.now += firstPause
				n.connect(t, server).want(t, "a try", Accept, state.MPTCPBlocked, tryFor(roundTrip)+10*time.Millisecond, 1)
				n.connect(t, server).want(t, "one after it", Accept, state.MPTCPBlocked, 0, 0)
				n.now += firstPause
				n.connect(t, server).want(t, "one before the longer pause is over", Accept, state.MPTCPBlocked, 0, 0)
				n.now, n.answer = n.now+firstPause, sound
				n.connect(t, server).want(t, "a try when the middlebox has gone", Deliver, state.None, 2*roundTrip, 1)
				n.connect(t, server).want(t, "one after it", Deliver, state.None, 2*roundTrip, 1)
				if len(n.told) != 2 || !n.told[1].Over {
					t.Errorf("told %+v", n.told)
				}
			})
		}
	}
}

func TestRefusalIsBelievedAtOnceWhereMPTCPWasLatelyAnswered(t *testing.T) {
	n := newNetwork(t, closed)
	n.connect(t, "192.0.2.1:81").want(t, "the first", Reset, state.WasRefused, 3*roundTrip, 2)
	n.answer = sound
	n.connect(t, "192.0.2.1:443")
	n.answer = closed
	n.connect(t, "192.0.2.2:81").want(t, "in the same network", Reset, state.WasRefused, roundTrip+10*time.Millisecond, 1)
	n.connect(t, "192.0.2.1:443").want(t, "by a server that has just answered", Reset, state.WasRefused, 3*roundTrip, 2)
	n.connect(t, "192.0.2.1:443").want(t, "by it once more", Reset, state.WasRefused, roundTrip+10*time.Millisecond, 1)
	n.connect(t, "198.51.100.1:81").want(t, "in another network", Reset, state.WasRefused, 3*roundTrip, 2)
	n.now += provedFor
	n.connect(t, "192.0.2.2:81").want(t, "some time later", Reset, state.WasRefused, 3*roundTrip, 2)
	if len(n.Obstacles()) > 0 {
		t.Errorf("obstacles %+v", n.Obstacles())
	}
}

func TestUnreachableIsBelievedAtOnceWhereMPTCPWasLatelyAnswered(t *testing.T) {
	for _, errno := range []unix.Errno{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES} {
		took := roundTrip
		gone := func(Dial) (Dialed, time.Duration) { return Dialed{Err: errno}, took }
		o := outcomeOf(errno)
		n := newNetwork(t, gone)
		n.connect(t, "192.0.2.1:81").want(t, "the first", o.verdict, o.reason, 3*roundTrip, 2)
		n.connect(t, "192.0.2.1:81").want(t, "the next", o.verdict, o.reason, 3*roundTrip, 2)
		took = 800 * time.Millisecond
		n.connect(t, "192.0.2.3:81").want(t, "a slow answer", o.verdict, o.reason, 2*took+roundTrip, 2)
		n.answer, took = sound, roundTrip
		n.connect(t, "192.0.2.1:443")
		n.answer = gone
		n.connect(t, "192.0.2.2:81").want(t, "in a network that has answered", o.verdict, o.reason, roundTrip+10*time.Millisecond, 1)
		if len(n.Obstacles()) > 0 {
			t.Errorf("obstacles %+v", n.Obstacles())
		}
	}
}

// A router that looks for a host in vain says so late, and would do so again.
func TestLateUnreachableIsBelieved(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Plain, 7, syn(t, mss))
	core.dialed(promptError, key6, unix.EHOSTUNREACH)
	if !slices.Equal(core.kinds(), []Kind{Decide}) || core.acts[0].Decision.Verdict != HostUnreachable {
		t.Errorf("actions %+v", core.acts)
	}
}

func TestRefusalOfAHostIsBelievedByAHAG(t *testing.T) {
	n := newNetwork(t, closed)
	n.side = state.Multipath
	n.connect(t, "192.0.2.1:81", capable).want(t, "a SYN of the CPE", Reset, state.WasRefused, roundTrip+10*time.Millisecond, 1)
}

func TestOnePrefixIsBlockedAndOthersAreNot(t *testing.T) {
	n := newNetwork(t, func(d Dial) (Dialed, time.Duration) {
		if netip.MustParsePrefix("192.0.2.0/24").Contains(d.Server.Addr()) {
			return drops(d)
		}
		return sound(d)
	})
	n.connect(t, "192.0.2.1:443")
	n.connect(t, "192.0.2.77:80").want(t, "another server of the network", Accept, state.MPTCPBlocked, 0, 0)
	n.connect(t, "198.51.100.1:443").want(t, "another network", Deliver, state.None, 2*roundTrip, 1)
	n.path = 1
	n.connect(t, "192.0.2.1:443").want(t, "another path", Deliver, state.MPTCPBlocked, 2*time.Second, 2)
}

func TestManyBlockedPrefixesBlockThePathForTheirFamily(t *testing.T) {
	n := newNetwork(t, func(d Dial) (Dialed, time.Duration) {
		if d.Server.Addr().Is4() {
			return drops(d)
		}
		return sound(d)
	})
	for _, server := range []string{"192.0.2.1:443", "198.51.100.1:443", "203.0.113.1:443", "203.0.114.1:443"} {
		n.connect(t, server).want(t, server, Deliver, state.MPTCPBlocked, 2*time.Second, 2)
	}
	n.connect(t, "10.0.0.1:443").want(t, "a network that was never asked", Accept, state.MPTCPBlocked, 0, 0)
	n.connect(t, "[2001:db8:2::2]:443").want(t, "IPv6", Deliver, state.None, 2*roundTrip, 1)
	if last := n.told[len(n.told)-1]; last.Prefix != netip.MustParsePrefix("0.0.0.0/0") {
		t.Errorf("told %+v", n.told)
	}
}

func TestDropsThatBeginWhileOthersAreAnswered(t *testing.T) {
	n := newNetwork(t, sound)
	n.connect(t, "192.0.2.1:443")
	n.answer = drops
	for _, server := range []string{"192.0.2.2:443", "192.0.2.3:443"} {
		n.connect(t, server).want(t, "one that its client repeats twice", Accept, state.Unanswered, 3*time.Second, 1)
		n.connect(t, server).want(t, "the next one there", Accept, state.Unanswered, 0, 0)
	}
	n.connect(t, "192.0.2.4:443").want(t, "one to a third server", Deliver, state.MPTCPBlocked, 2*time.Second, 2)
	n.connect(t, "192.0.2.5:443").want(t, "the next one there", Accept, state.MPTCPBlocked, 0, 0)
}

func TestServerThatHasJustAnsweredIsDialedWithoutMPCapableAfterTwoRepeats(t *testing.T) {
	n := newNetwork(t, sound)
	n.connect(t, "192.0.2.2:443")
	n.answer = drops // within the minute
	n.connect(t, "192.0.2.2:443").want(t, "one to the same server", Deliver, state.MPTCPBlocked, 3200*time.Millisecond, 2)
	n.connect(t, "192.0.2.2:443").want(t, "the next one", Accept, state.MPTCPBlocked, 0, 0)
}

func TestLostSYNIsNoObstacle(t *testing.T) {
	lost := true
	n := newNetwork(t, func(d Dial) (Dialed, time.Duration) {
		if lost {
			return Dialed{MPTCP: true}, time.Second + roundTrip // to the kernel's own repeat
		}
		return sound(d)
	})
	n.connect(t, "192.0.2.1:443").want(t, "the first", Deliver, state.None, 1100*time.Millisecond, 1)
	lost = false
	n.connect(t, "192.0.2.1:443").want(t, "the next", Deliver, state.None, 2*roundTrip, 1)
}

func TestServerWithoutMPTCPIsNoObstacle(t *testing.T) {
	n := newNetwork(t, plain)
	for range 2 {
		n.connect(t, "192.0.2.1:443").want(t, "a connection", Deliver, state.None, 2*roundTrip, 1)
	}
}

func TestServerWhoseAnswersTakeAnotherWayIsPassed(t *testing.T) {
	for _, c := range []struct {
		name    string
		side    state.Side
		options []layers.TCPOption
		dials   int
		again   Verdict
	}{
		{"at a CPE", state.Plain, nil, 2, Accept},
		{"at a HAG", state.Multipath, []layers.TCPOption{capable}, 1, Rewrite},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNetwork(t, silent)
			n.side = c.side
			n.connect(t, "192.0.2.1:443", c.options...).want(t, "the first", Accept, state.Unanswered, 3*time.Second, c.dials)
			n.connect(t, "192.0.2.1:443", c.options...).want(t, "the next", c.again, state.Unanswered, 0, 0)
			n.connect(t, "192.0.2.1:80", c.options...).want(t, "another port", Accept, state.Unanswered, 3*time.Second, c.dials)
			n.now, n.answer = n.now+2*firstPause, sound
			n.connect(t, "192.0.2.1:443", c.options...).want(t, "a try", Deliver, state.None, 2*roundTrip, 1)
		})
	}
}

func TestSYNPassesTheHAGWhenItsCPEGivesMPTCPUp(t *testing.T) {
	core := newCore(t, state.Relay)
	core.decide(0, state.Multipath, 7, syn(t, mss, capable))
	core.acts = core.Packet(core.acts[:0], 200*time.Millisecond, Packet{ID: 8, Side: state.Multipath, Data: otherSYN(t)})
	if !slices.Equal(core.kinds(), []Kind{Decide, Decide, Abort}) {
		t.Fatalf("actions %+v", core.acts)
	}
	if d := core.acts[0].Decision; d.Packet.ID != 8 || d.Verdict != Accept || d.Reason != state.PlainTCP {
		t.Errorf("decision %+v", d)
	}
}

// A middlebox may drop SYN+ACKs with MP_CAPABLE: the CPE does not see what the HAG has sent.
func TestSYNPassesTheHAGWhenItsCPEHasGotNoAnswer(t *testing.T) {
	for _, again := range [][]byte{otherSYN(t), syn(t, mss)} { // a new dial, the kernel's repeat
		core := newCore(t, state.Relay)
		core.decide(0, state.Multipath, 7, syn(t, mss, capable))
		core.dialed(0, key6, nil)
		core.acts = core.Packet(core.acts[:0], time.Second, Packet{ID: 8, Side: state.Multipath, Data: again})
		if !slices.Equal(core.kinds(), []Kind{Abort, Decide}) {
			t.Fatalf("actions %+v", core.acts)
		}
		if d := core.acts[1].Decision; d.Packet.ID != 8 || d.Verdict != Accept || d.Reason != state.PlainTCP || !d.Reuses {
			t.Errorf("decision %+v", d)
		}
	}
}

// Over another path than the first only the box's own address leads: a SYN that passes
// would take the first path, which is down.
func TestBlockedSYNIsDialedWithoutMPTCPFromTheBoxsOwnAddress(t *testing.T) {
	n := newNetwork(t, drops)
	n.SetDialPolicy(nil, n.now, DialPolicy{Mode: OwnSource, Reason: state.FirstPathDown, Sources: [2]Source{lte, lte}, Down: firstDown})
	n.connect(t, "192.0.2.1:443").want(t, "the first", Deliver, state.MPTCPBlocked, 2*time.Second, 2)
	r := n.connect(t, "192.0.2.1:443")
	r.want(t, "the next", Deliver, state.None, 2*roundTrip, 1)
	if !r.dials[0].Plain || r.dials[0].From != lte {
		t.Errorf("dial %+v", r.dials[0])
	}
}

func TestClientWhosePortAListenerHasIsDialedFromAnotherPort(t *testing.T) {
	taken := func(d Dial) (Dialed, time.Duration) {
		if !d.OtherPort {
			return Dialed{Err: unix.EADDRINUSE}, time.Nanosecond
		}
		return sound(d)
	}
	for _, side := range []state.Side{state.Plain, state.Multipath} {
		n := newNetwork(t, taken)
		n.side = side
		r := n.connect(t, "192.0.2.1:443", map[state.Side][]layers.TCPOption{state.Multipath: {capable}}[side]...)
		r.want(t, "a connection", Deliver, state.PortInUse, 2*roundTrip, 2)
	}
}

func TestPlacesAreBounded(t *testing.T) {
	r := newReach()
	for i := range 10 * mostPlaces {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		r.answer(0, 0, netip.AddrPortFrom(a, 443))
	}
	if n := len(r.young) + len(r.old); n > mostPlaces {
		t.Errorf("%d places are remembered, want at most %d", n, mostPlaces)
	}
	if !r.proved(0, 0, netip.MustParseAddrPort("10.200.0.1:443"), pathLevel) {
		t.Error("the path, which is asked about all the time, is forgotten")
	}
}

func TestObstacleIsForgottenAfterALongTime(t *testing.T) {
	n := newNetwork(t, drops)
	n.connect(t, "192.0.2.1:443")
	n.now, n.answer = n.now+blockedFor+firstPause, silent
	n.connect(t, "192.0.2.1:443").want(t, "a connection", Accept, state.Unanswered, 3*time.Second, 2)
}
