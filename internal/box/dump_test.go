package box

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/state"
)

// full is a writer that always fails.
type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestDumpIsOneObjectWithTheRequestedFlows(t *testing.T) {
	b := &Box{cfg: Config{Role: CPE}, start: time.Now(), core: newCore(state.Relay), queue: new(nfq.Queue), recorder: idle{}}
	b.core.Learnt.Learn(b.now(), server6.Addr(), true)
	for _, c := range []struct {
		name      string
		begin     func()
		live, all int
	}{
		{"no flow", func() {}, 0, 0},
		{"a flow that is dialing", func() { b.core.Packet(b.now(), state.Plain, 1, syn(t)) }, 1, 1},
		{"and one that has ended", func() {
			b.core.Table.Begin(b.now(), state.Flow{Key: key4, State: state.Passed, Reason: `a "rule"`})
		}, 1, 2},
	} {
		c.begin()
		for _, all := range []bool{false, true} {
			var out bytes.Buffer
			check(t, b.writeDump(&out, all))
			d := api.Dump{}
			from := json.NewDecoder(&out)
			from.DisallowUnknownFields()
			check(t, from.Decode(&d))
			if err := from.Decode(&d); err != io.EOF {
				t.Errorf("%s: after the object there is %v", c.name, err)
			}
			flows, learnt := c.live, 0
			if all {
				flows, learnt = c.all, 1
			}
			if d.Role != string(CPE) || d.Flows == nil || len(d.Flows) != flows || len(d.Learnt) != learnt || d.Totals.Live["dialing"] != c.live {
				t.Errorf("%s, all %v: %+v", c.name, all, d)
			}
		}
	}
	if err := b.writeDump(full{}, true); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
}
