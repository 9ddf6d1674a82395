package box

import (
	"net/netip"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/state"
)

// Leg is how the multipath leg of a flow from the plain side begins.
type Leg uint8

const (
	// FirstPath dials as the client, where ordinary routing leads.
	FirstPath Leg = iota
	// NoLeg lets the SYN pass: ordinary routing decides, and no box is in the way.
	NoLeg
	// OwnSource dials from the box's own address on another path.
	OwnSource
)

// Outlook is how new flows from the plain side fare, as a CPE sees it. The zero
// value is a fair one: as the client, over the first path.
type Outlook struct {
	Leg    Leg
	Reason string // that flows show, of a Leg that is not [FirstPath]
	// From is where an [OwnSource] dials from, over IPv6 and over IPv4. What has no
	// address passes.
	From [2]Source
	// Down are the paths that are down, as the Interface of a [Source] names them:
	// what is being dialed over these waits in vain. None is offered to new flows.
	Down []string
}

// Source is an end to dial from: an address, and the interface that has it. The
// zero Source is the client, over the first path.
type Source struct {
	Addr      netip.Addr
	Interface string
}

// from returns the end from which to dial to an address.
func (o *Outlook) from(server netip.Addr) Source {
	if server.Is4() {
		return o.From[1]
	}
	return o.From[0]
}

// foresee returns where to dial from for a flow that is about to begin. It has the
// flow pass if there is no way to dial.
func (o *Outlook) foresee(f *state.Flow) Source {
	if o.Leg == FirstPath || f.Side != state.Plain || f.Action != state.Relay {
		return Source{}
	}
	f.Reason = o.Reason
	from := o.from(f.Key.Server().Addr())
	if o.Leg == NoLeg || !from.Addr.IsValid() {
		f.Action = state.Pass
		return Source{}
	}
	return from
}

// outlook tells how new flows fare when the HAG and the paths are so, and the
// paths are wanted for these uses.
func (c *Config) outlook(hag paths.HAGState, all []paths.Status, uses []paths.Use) (o Outlook) {
	for i, s := range all {
		if s.Up {
			continue
		}
		way := c.Paths[i].Interface
		if i == 0 {
			way = Source{}.Interface
		}
		o.Down = append(o.Down, way)
	}
	switch {
	case hag == paths.HAGDown:
		o.Leg, o.Reason = NoLeg, "hag-down"
	case !all[0].Up:
		o.Leg, o.Reason = c.FirstPathDown, "first-path-down"
	}
	if o.Leg != OwnSource {
		return o
	}
	for _, want := range []paths.Use{paths.Normal, paths.Backup} {
		for i, s := range all {
			if uses[i] != want {
				continue
			}
			for family, addr := range []netip.Addr{s.Addr6, s.Addr4} {
				if from := &o.From[family]; addr.IsValid() && !from.Addr.IsValid() {
					*from = Source{addr, c.Paths[i].Interface}
				}
			}
		}
	}
	return o
}

// Legs are what a CPE may do with new flows while its first path is down, by the
// name that configurations use.
var Legs = map[string]Leg{"pass": NoLeg, "own-source": OwnSource}
