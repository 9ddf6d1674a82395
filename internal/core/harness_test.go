package core

import (
	"testing"
	"time"

	"github.com/synbond/synbond/state"
)

// driver drives a core like a box and remembers what it is told to do.
type driver struct {
	t testing.TB
	*Core
	acts []Action // of the last event
}

func newDriver(t testing.TB, cfg Config) *driver {
	t.Helper()
	d := &driver{t: t, Core: New(cfg)}
	t.Cleanup(func() {
		for id := range d.handshakes {
			if f, _ := d.table.ByID(id); f.State != state.Dialing && f.State != state.Released {
				t.Errorf("the handshake of flow %x is kept, which is over or relayed", id)
			}
		}
	})
	return d
}

// newCore returns a driver of a core whose policy has a default action only.
func newCore(t testing.TB, action state.Action) *driver {
	return newDriver(t, Config{Policy: &Policy{Default: action}})
}

// decide returns the decision about a packet, which must be the first action.
func (d *driver) decide(now time.Duration, side state.Side, id uint32, packet []byte) Decision {
	d.t.Helper()
	d.acts = d.Packet(d.acts[:0], now, Packet{ID: id, Side: side, Data: packet})
	if len(d.acts) == 0 || d.acts[0].Kind != Decide || d.acts[0].Decision.Packet.ID != id {
		d.t.Fatalf("no decision about packet %d: %+v", id, d.acts)
	}
	return d.acts[0].Decision
}

// id returns the ID of the flow with a key, 0 if there is none.
func (d *driver) id(key state.Key) state.ID {
	f, _ := d.Flow(key)
	return f.ID
}

// dialed ends the dial of a flow and returns the decision about its SYN, if there is one.
func (d *driver) dialed(now time.Duration, key state.Key, err error) (Decision, bool) {
	d.acts = d.DialEnded(d.acts[:0], now, d.id(key), Dialed{Err: err, MPTCP: err == nil})
	return d.decision()
}

// decision returns the only decision among the last actions.
func (d *driver) decision() (out Decision, ok bool) {
	d.t.Helper()
	for _, a := range d.acts {
		if a.Kind == Decide {
			if ok {
				d.t.Fatalf("two decisions: %+v", d.acts)
			}
			out, ok = a.Decision, true
		}
	}
	return out, ok
}

// pair takes the flow with a key on until it is relaying.
func (d *driver) pair(now time.Duration, key state.Key) {
	d.t.Helper()
	d.dialed(now, key, nil)
	var wanted bool
	if d.acts, wanted = d.Paired(d.acts[:0], now, d.id(key)); !wanted {
		d.t.Fatalf("flow %v is not wanted", key)
	}
}

// close ends the flow with a key.
func (d *driver) close(now time.Duration, key state.Key) {
	d.acts = d.Closed(d.acts[:0], now, d.id(key), state.FIN)
}

// kinds lists the last actions by kind.
func (d *driver) kinds() []Kind {
	var out []Kind
	for _, a := range d.acts {
		out = append(out, a.Kind)
	}
	return out
}
