//go:build linux

package box

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/packettest"
	"github.com/synbond/synbond/state"
)

// shown returns the ports of the servers whose flows a dump shows.
func shown(t *testing.T, b *Box, f api.FlowFilter) (ports []uint16) {
	t.Helper()
	w := httptest.NewRecorder()
	b.controlHandler().ServeHTTP(w, httptest.NewRequest("GET", f.Request(), nil))
	var d api.Dump
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%+v: status %d, error %v: %s", f, w.Code, err, w.Body)
	}
	for _, flow := range d.Flows {
		ports = append(ports, flow.Server.Port())
	}
	slices.Sort(ports)
	return ports
}

func TestFilterSelectsFlows(t *testing.T) {
	b := newBench(t, Config{Role: CPE, Policy: &core.Policy{Rules: []core.Rule{
		{Ports: []core.PortRange{{First: 80, Last: 80}}, Action: state.Pass},
	}}})
	begin := func(src, dst string) {
		b.queue.Put(lan, packettest.Segment(t, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst), func(h *layers.TCP) { h.SYN = true }))
	}
	begin("[2001:db8:1::2]:1000", "[2001:db8:2::2]:443")
	begin("[2001:db8:1::3]:1000", "[2001:db8:2::2]:444")
	begin("198.51.100.2:1000", "203.0.113.2:445")
	begin("198.51.100.2:1001", "203.0.113.2:80")
	for _, c := range []struct {
		name string
		f    api.FlowFilter
		want []uint16
	}{
		{"none", api.FlowFilter{}, []uint16{443, 444, 445}},
		{"all", api.FlowFilter{All: true}, []uint16{80, 443, 444, 445}},
		{"a client", api.FlowFilter{Client: netip.MustParsePrefix("2001:db8:1::3/128")}, []uint16{444}},
		{"clients", api.FlowFilter{Client: netip.MustParsePrefix("2001:db8:1::/64")}, []uint16{443, 444}},
		{"servers over IPv4", api.FlowFilter{Server: netip.MustParsePrefix("203.0.113.0/24")}, []uint16{445}},
		{"every IPv4 address", api.FlowFilter{All: true, Server: netip.MustParsePrefix("0.0.0.0/0")}, []uint16{80, 445}},
		{"a port", api.FlowFilter{Port: 443}, []uint16{443}},
		{"an ended flow's port", api.FlowFilter{Port: 80}, nil},
		{"a state", api.FlowFilter{State: "dialing"}, []uint16{443, 444, 445}},
		{"a state of ended flows", api.FlowFilter{State: "passed"}, []uint16{80}},
		{"a reason that no flow has", api.FlowFilter{Reason: "refused"}, nil},
		{"several", api.FlowFilter{State: "dialing", Client: netip.MustParsePrefix("2001:db8::/32"), Port: 444}, []uint16{444}},
	} {
		if got := shown(t, b.Box, c.f); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	for range 2 { // dialed with MP_CAPABLE, and without
		for _, p := range b.core.Pending() {
			c, _ := b.conns.get(p.Flow)
			b.dialEnded(p.Flow, c, syscall.ECONNREFUSED)
		}
	}
	if got := shown(t, b.Box, api.FlowFilter{Reason: "refused", Port: 444}); !slices.Equal(got, []uint16{444}) {
		t.Errorf("refused: %v", got)
	}
}

// A dump that selects one flow of many costs no memory for the others.
func TestFilteredDumpCopiesNoOtherFlows(t *testing.T) {
	costs := func(flows int) float64 {
		x := newBox(Config{Policy: new(core.Policy), Table: state.Config{MaxFlows: 2 * flows, MaxHalfOpen: 2 * flows}.WithDefaults()})
		x.queue = idleQueue{}
		syn := packettest.NewSYNs(t)
		for n := range uint32(flows) {
			x.core.Packet(nil, 0, core.Packet{Data: syn.Nth(n)})
		}
		return testing.AllocsPerRun(5, func() {
			if err := x.writeDump(io.Discard, flowFilter{api.FlowFilter{Port: 1}}); err != nil {
				t.Error(err)
			}
		})
	}
	if few, many := costs(100), costs(30_000); many > few+50 {
		t.Errorf("%v allocations with 100 flows, %v with 30,000", few, many)
	}
}

func TestControlSocketRefusesAWrongFilter(t *testing.T) {
	b := newBench(t, Config{Role: HAG})
	for _, query := range []string{"port=x", "state=open", "reason=luck", "client=home", "filter=1"} {
		w := httptest.NewRecorder()
		b.controlHandler().ServeHTTP(w, httptest.NewRequest("GET", "/flows?"+query, nil))
		if w.Code != http.StatusBadRequest || !bytes.Contains(w.Body.Bytes(), []byte(`"error":"`)) {
			t.Errorf("%s: status %d: %s", query, w.Code, w.Body)
		}
	}
}
