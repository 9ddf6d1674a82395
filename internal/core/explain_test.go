package core

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/state"
)

// randomCore returns a core with a random policy, memory and history.
func randomCore(t *testing.T, r *rand.Rand) *driver {
	t.Helper()
	action := func() state.Action { return state.Action(r.IntN(len(state.Actions))) }
	policy := &Policy{Default: action(), EndToEnd: uint8(r.IntN(2) * 43)}
	for range r.IntN(3) {
		rule := Rule{Name: "some", Action: action(), Ports: []PortRange{{0, uint16(r.IntN(2)) * 65535}}}
		if r.IntN(2) == 0 {
			rule.Capable = new(r.IntN(2) == 0)
		}
		policy.Rules = append(policy.Rules, rule)
	}
	d := newDriver(t, Config{Policy: policy, Table: state.Config{MaxFlows: 1 + r.IntN(6), MaxHalfOpen: 1 + r.IntN(4)}, Gone: func(f state.Flow) bool { return f.ISN%2 == 0 }})
	d.SetDialPolicy(nil, 0, DialPolicy{Mode: Mode(r.IntN(3)), Reason: state.FirstPathDown, Sources: [2]Source{lte, {}}})
	for n := range r.IntN(13) {
		now := time.Duration(n) * time.Second / 2
		d.acts = d.Packet(d.acts[:0], now, randomPacket(t, r))
		for _, id := range slices.Sorted(maps.Keys(d.handshakes)) {
			switch r.IntN(4) {
			case 0:
				d.DialEnded(nil, now, id, Dialed{MPTCP: r.IntN(2) == 0})
			case 1:
				d.DialEnded(nil, now, id, Dialed{MPTCP: r.IntN(2) == 0})
				d.Paired(nil, now, id)
			case 2:
				d.DialEnded(nil, now, id, Dialed{Err: syscall.ECONNREFUSED})
			}
		}
	}
	if r.IntN(4) == 0 {
		d.reach.fail(6*time.Second, 0, server6, state.MPTCPBlocked, 0)
	}
	return d
}

// randomPacket returns a SYN, or sometimes a SYN+ACK, between a few hosts.
func randomPacket(t *testing.T, r *rand.Rand) Packet {
	t.Helper()
	p := randomSYN(t, r)
	if r.IntN(8) == 0 {
		p.Side = p.Side.Opposite()
		p.Data = segment(t, server6, client6, func(h *layers.TCP) { h.SYN, h.ACK = true, true }, mss)
	}
	return p
}

func randomSYN(t *testing.T, r *rand.Rand) Packet {
	t.Helper()
	client, server := client6, server6
	if r.IntN(2) == 0 {
		client, server = client4, server4
	}
	client = netip.AddrPortFrom(client.Addr(), client.Port()+uint16(r.IntN(2)))
	options := []layers.TCPOption{mss}
	if r.IntN(2) == 0 {
		options = append(options, capable)
	}
	data := segment(t, client, server, func(h *layers.TCP) { h.SYN, h.Seq = true, r.Uint32N(3) }, options...)
	return Packet{ID: 9, Side: state.Side(r.IntN(2)), Out: 3, Mark: 5, Data: data}
}

// facts are what a core knows, as far as it can be compared.
func facts(d *driver) []any {
	var flows []state.Flow
	for f := range d.Flows() {
		flows = append(flows, f)
	}
	handshakes, retries := d.Backlog()
	pending := d.Pending()
	slices.SortFunc(pending, func(a, b Pending) int { return cmp.Compare(a.Flow, b.Flow) })
	return []any{flows, d.Totals(), d.LearntLen(), handshakes, retries, pending, len(d.Obstacles())}
}

// An explanation is what the core then decides, and changes nothing.
func TestExplainedIsWhatIsDecided(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		d := randomCore(t, r)
		p := randomSYN(t, r)
		const now = 7 * time.Second
		before := facts(d)
		e := d.Explain(now, p)
		if after := facts(d); !reflect.DeepEqual(before, after) {
			t.Fatalf("seed %d: explaining has changed\n%+v to\n%+v", seed, before, after)
		}
		d.acts = d.Packet(d.acts[:0], now, p)
		at := slices.IndexFunc(d.acts, func(a Action) bool { return a.Kind == Decide && a.Decision.Packet.Data != nil })
		if e.Waits != (at < 0) {
			t.Fatalf("seed %d: it would wait: %v; the actions are %+v", seed, e.Waits, d.acts)
		}
		if !e.Waits && !reflect.DeepEqual(e.Decision, d.acts[at].Decision) {
			t.Fatalf("seed %d: explained %+v\ndecided %+v", seed, e.Decision, d.acts[at].Decision)
		}
		if last := d.acts[len(d.acts)-1]; last.Kind == Connect && !reflect.DeepEqual(e.Dial, last.Dial) {
			t.Fatalf("seed %d: explained the dial %+v, dialed %+v", seed, e.Dial, last.Dial)
		}
		seen[e.Decision.Verdict.String()+" "+e.Decision.Why()] = true
		seen["it waits"] = seen["it waits"] || e.Waits
		for _, s := range e.Steps {
			seen["step "+s.Name] = true
		}
	}
	for _, want := range []string{
		"hold ", "hold some", "accept first-path-down", "hold first-path-down", "prohibited ", "accept end-to-end", "accept half-open-full", "hold repeat",
		"deliver repeat", "it waits", "rewrite ", "step policy", "step dial", "step limits", "accept mptcp-blocked", "step flow", "step learnt",
	} {
		if !seen[want] {
			t.Errorf("never seen: %s", want)
		}
	}
}

func TestExplanationNamesTheRules(t *testing.T) {
	d := newDriver(t, Config{Policy: &Policy{Default: state.Relay, Rules: []Rule{
		{Name: "guests", From: []netip.Prefix{netip.MustParsePrefix("2001:db8:9::/48")}, Action: state.Pass},
		{Name: "web", Ports: []PortRange{{server6.Port(), server6.Port()}}, Action: state.Relay},
		{Name: "rest", Action: state.Reject},
	}}})
	var texts []string
	for _, s := range d.Explain(0, Packet{Data: syn(t, mss)}).Steps {
		texts = append(texts, s.Name+": "+s.Text)
	}
	want := []string{
		"policy: rule guests does not match: from", "policy: relay, by rule web", "dial: new flows are dialed from the client's address",
	}
	if !slices.Equal(texts, want) {
		t.Errorf("%s\nwant %s", strings.Join(texts, "\n"), strings.Join(want, "\n"))
	}
}
