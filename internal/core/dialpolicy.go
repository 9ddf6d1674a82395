package core

import (
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/state"
)

// Mode says how the onward legs of new flows begin.
type Mode uint8

const (
	// AsClient dials from the client's own address, where ordinary routing leads: over
	// the first path.
	AsClient Mode = iota
	// NoBox lets the SYNs pass: ordinary routing decides, and no box is in the way.
	NoBox
	// OwnSource dials from the box's own address on another path.
	OwnSource
	// ThroughUpstream dials an upstream from the box's own address, see [UpstreamPolicy].
	ThroughUpstream
)

// DialPolicy says how the onward legs of new flows from the plain side begin, as the
// paths of a CPE allow. The zero DialPolicy dials as the client.
type DialPolicy struct {
	Mode   Mode
	Reason state.Reason // of a Mode that is not [AsClient], for the flows
	// Sources are the ends to dial from with [OwnSource], over IPv6 and over IPv4.
	// Flows of a family without one pass.
	Sources [2]Source
	// Down are the paths that are down: dials over these are in vain.
	Down PathSet
	// Ways are the ends to dial upstreams from with [ThroughUpstream], over IPv6 and over IPv4,
	// in the order of preference.
	Ways [][2]Source
}

// Stopped has the address families over which relayed connections cannot work on this
// machine: a firewall drops their packets. Their SYNs pass.
type Stopped struct{ IPv6, IPv4 bool }

// has reports whether the family of a flow is stopped.
func (s Stopped) has(k state.Key) bool {
	return s.IPv4 && k.Server().Addr().Is4() || s.IPv6 && !k.Server().Addr().Is4()
}

// apply has a flow pass that is about to begin, if its family is stopped. From the other box
// it goes on without MP_CAPABLE.
func (s Stopped) apply(f *state.Flow) {
	if f.Action == state.Relay && s.has(f.Key) {
		f.Action, f.Reason, f.Rule = state.Strip, state.Filtered, ""
	}
}

// SetStopped replaces the families that are stopped. The SYNs that are held of these pass.
func (c *Core) SetStopped(acts []Action, now time.Duration, s Stopped) []Action {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = s
	var held []state.ID
	for id := range c.handshakes {
		if f, ok := c.table.ByID(id); ok && f.State == state.Dialing && s.has(f.Key) {
			held = append(held, id)
		}
	}
	slices.Sort(held) // the oldest first, as maps have no order
	for _, id := range held {
		acts = c.passHeld(acts, now, id, state.Filtered)
	}
	return acts
}

// Source is an end to dial from: an address on a path, and the interface of that. The
// zero Source is the client, over the first path.
type Source struct {
	Path      uint8 // index of the path
	Addr      netip.Addr
	Interface string
}

// PathSet is a set of paths by their index, a bit each.
type PathSet uint8

// Has reports whether the path with that index is in the set.
func (s PathSet) Has(path uint8) bool { return s&(1<<path) != 0 }

// SubflowPolicy bounds the further subflows of a flow.
type SubflowPolicy struct {
	// Paths has the paths that the flow may use; 0 is all of them.
	Paths PathSet
	// After is the number of bytes that the flow must have carried before it gets a
	// further subflow; 0 leaves that to the path manager.
	After uint64
}

// apply returns the source to dial from for a flow that is about to begin. It has the
// flow pass if there is no way to dial.
func (p *DialPolicy) apply(f *state.Flow) Source {
	if p.Mode == AsClient || p.Mode == ThroughUpstream || f.Side != state.Plain || f.Action != state.Relay {
		return Source{}
	}
	f.Reason = p.Reason
	from := p.Sources[0]
	if f.Key.Server().Addr().Is4() {
		from = p.Sources[1]
	}
	if p.Mode == NoBox || !from.Addr.IsValid() {
		f.Action = state.Pass
		return Source{}
	}
	return from
}
