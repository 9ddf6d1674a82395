//go:build linux

package box

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/packettest"
	"github.com/synbond/synbond/state"
)

// full is a writer that always fails.
type full struct{}

var errFull = errors.New("full")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestDumpIsOneObjectWithTheRequestedFlows(t *testing.T) {
	b := newBench(t, Config{Role: CPE, Policy: &core.Policy{Rules: []core.Rule{
		{Name: `a "rule"`, Ports: []core.PortRange{{First: 80, Last: 80}}, Action: state.Pass},
		{Name: "curious", Ports: []core.PortRange{{First: 81, Last: 81}}, Action: state.Learn},
	}}})
	to := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(packettest.Server6.Addr(), port) }
	put := func(src, dst netip.AddrPort, set func(*layers.TCP), options ...layers.TCPOption) {
		b.queue.Put(lan, packettest.Segment(t, src, dst, set, options...))
	}
	for _, c := range []struct {
		name      string
		begin     func()
		live, all int
	}{
		{"no flow", func() {}, 0, 0},
		{"a flow that has ended, and has learnt", func() {
			put(packettest.Client6, to(81), func(h *layers.TCP) { h.SYN = true })
			put(to(81), packettest.Client6, func(h *layers.TCP) { h.SYN, h.ACK = true, true }, packettest.MSS)
		}, 0, 1},
		{"one that is dialing", func() { b.queue.Put(lan, packettest.SYN(t)) }, 1, 2},
		{"and one that a rule passes", func() {
			put(packettest.Client6, to(80), func(h *layers.TCP) { h.SYN = true })
		}, 1, 3},
	} {
		c.begin()
		for _, all := range []bool{false, true} {
			var out bytes.Buffer
			check(t, b.writeDump(&out, flowFilter{api.FlowFilter{All: all}}))
			d := api.Dump{}
			from := json.NewDecoder(&out)
			from.DisallowUnknownFields()
			check(t, from.Decode(&d))
			if err := from.Decode(&d); err != io.EOF {
				t.Errorf("%s: after the object there is %v", c.name, err)
			}
			flows, learnt := c.live, 0
			if all {
				flows, learnt = c.all, min(c.all, 1)
			}
			if d.Role != string(CPE) || d.Flows == nil || len(d.Flows) != flows || len(d.Learnt) != learnt || d.Totals.Live["dialing"] != c.live {
				t.Errorf("%s, all %v: %+v", c.name, all, d)
			}
		}
	}
	b.dialEnded(id(b.last()), b.last(), errors.New("over"))
	if err := b.writeDump(full{}, flowFilter{api.FlowFilter{All: true}}); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
}
