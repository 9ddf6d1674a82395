//go:build linux

package probe

import (
	"bytes"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/encap"
	"github.com/synbond/synbond/internal/paths"
)

// fakeEncapsulator is an [Encapsulator] that has this grant for all.
type fakeEncapsulator struct {
	mu    sync.Mutex
	grant encap.Grant
	heard []encap.Via
	asked int
}

func (e *fakeEncapsulator) Grant(time.Time, uint64, int, encap.Via) (encap.Grant, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	return e.grant, e.grant.Valid()
}

func (e *fakeEncapsulator) Heard(_ time.Time, _ uint64, _ int, via encap.Via) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, via)
}

func (e *fakeEncapsulator) Inner(uint64, int) netip.Addr     { return e.grant.Inner }
func (e *fakeEncapsulator) Take([]byte, netip.AddrPort, int) {}
func (e *fakeEncapsulator) count() int                       { e.mu.Lock(); defer e.mu.Unlock(); return e.asked }

var someGrant = encap.Grant{Inner: netip.MustParseAddr("240.91.0.5"), Key: 1 << 63}

func TestCPEAsksForEncapsulationOnlyWhenItIsWanted(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		r, stop := x.respond("", nil)
		e := &fakeEncapsulator{grant: someGrant}
		r.Encapsulate(e)
		x.await("both paths are probed", x.bothProbed)
		time.Sleep(time.Minute)
		if e.count() > 0 {
			t.Error("it asks without need")
		}
		x.Want(1 << 1)
		took := x.await("there is an offer", func() bool { return x.Statuses()[1].Offer.Inner.IsValid() })
		x.within("the offer", took, 0, 200*time.Millisecond)
		want := paths.Offer{Inner: someGrant.Inner, Key: someGrant.Key}
		if s := x.Statuses(); s[1].Offer != want || s[0].Offer != (paths.Offer{}) {
			t.Errorf("offers %+v, %+v", s[0].Offer, s[1].Offer)
		}
		asked := e.count()
		time.Sleep(time.Minute)
		if n := e.count() - asked; n < 1 || n > 4 {
			t.Errorf("it asks %d times in a minute", n)
		}
		if err := x.Send(1, []byte("x")); err != nil {
			t.Errorf("over a path that works: %v", err)
		}
		// A HAG that has restarted knows nothing of it.
		stop()
		other := encap.Grant{Inner: netip.MustParseAddr("240.91.0.6"), Key: 2}
		r, stop = x.respond("", nil)
		defer stop()
		r.Encapsulate(&fakeEncapsulator{grant: other})
		x.await("there is another offer", func() bool { return x.Statuses()[1].Offer.Inner == other.Inner })
	})
}

func TestHAGThatCannotEncapsulateSaysSo(t *testing.T) {
	for name, c := range map[string]struct {
		e    Encapsulator
		want string
	}{
		"it has no device":            {&fakeEncapsulator{}, denialNone},
		"it is configured without it": {nil, denialNone},
	} {
		inRig(t, paths.ProbeConfig{}, func(x *rig) {
			r, stop := x.respond("", nil)
			defer stop()
			if c.e != nil {
				r.Encapsulate(c.e)
			}
			x.await("both paths are probed", x.bothProbed)
			x.Want(1)
			x.await("there is an answer", func() bool { return x.Statuses()[0].Offer.Denial != "" })
			if got := x.Statuses()[0].Offer.Denial; got != c.want {
				t.Errorf("%s: %q", name, got)
			}
		})
	}
}

func TestOlderHAGIsAskedOnceInAWhile(t *testing.T) {
	e := &encapsulation{}
	e.sent(message{sequence: 4})
	e.replied(message{sequence: 4, size: extendedSize})
	e.sent(message{sequence: 5, encap: true})
	e.replied(message{sequence: 4, size: extendedSize}) // late, to a probe that did not ask
	e.replied(message{sequence: 6})
	if e.offer != (paths.Offer{}) {
		t.Errorf("before any answer: %+v", e.offer)
	}
	e.replied(message{sequence: 5, size: extendedSize})
	if e.offer.Denial != denialOld {
		t.Errorf("without the item: %+v", e.offer)
	}
	e.replied(message{sequence: 7, size: extendedSize, encap: true, grant: encap.Grant{Inner: netip.MustParseAddr("10.0.0.1")}})
	if e.offer.Inner.IsValid() {
		t.Errorf("an address of another network is taken: %+v", e.offer)
	}
	e.replied(message{sequence: 8, size: extendedSize, encap: true, grant: someGrant})
	if e.offer.Inner != someGrant.Inner || e.offer.Denial != "" {
		t.Errorf("with a grant: %+v", e.offer)
	}
}

func TestOnlyConfirmedAddressesGetGrants(t *testing.T) {
	r := newResponder("", nil, slog.New(slog.DiscardHandler)).newReplier()
	e := &fakeEncapsulator{grant: someGrant}
	r.Encapsulate(e)
	r.socket, r.index = 1, 9
	source := netip.AddrPortFrom(lteA, 4321)
	m := message{version: messageVersion, kind: kindProbe, path: 1, box: 5, sequence: 1, size: extendedSize, instance: abilityItems, encap: true}
	for _, want := range []encap.Grant{{}, someGrant} {
		got, err := newCodec("").parse(r.reply(nil, newCodec("").append(nil, m), source, time.Now()))
		if err != nil || got.grant != want {
			t.Errorf("cookie %d: %+v, %v", m.cookie, got.grant, err)
		}
		m.cookie, m.sequence = r.cookie(m, lteA), m.sequence+1
	}
	if want := (encap.Via{Addr: source, Socket: 1, Interface: 9}); len(e.heard) != 1 || e.heard[0] != want {
		t.Errorf("heard %+v, want %+v once", e.heard, want)
	}
	if o := r.peers[5].paths[1][0]; o.inner != someGrant.Inner {
		t.Errorf("the peer's origin %+v", o)
	}
}

func TestDatagramsOfSubflowsAreNoResponses(t *testing.T) {
	inRig(t, paths.ProbeConfig{}, func(x *rig) {
		_, stop := x.respond("", nil)
		defer stop()
		datagram := append([]byte("sBe1"), bytes.Repeat([]byte{7}, 100)...)
		got := make(chan []byte, 1)
		x.Deliver(func(path int, b []byte) {
			if path == 1 {
				got <- bytes.Clone(b)
			}
		})
		x.await("both paths are probed", x.bothProbed)
		time.Sleep(time.Second) // until the address is confirmed
		x.Monitor.paths[1].encap.outlet.Load().conn.(*fakeConn).in <- datagram
		if b := <-got; !bytes.Equal(b, datagram) {
			t.Errorf("delivered % x", b)
		}
	})
}
