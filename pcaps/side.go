package pcaps

import (
	"slices"
	"strings"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// place is what is known of an interface of the capture.
type captureInterface struct {
	Interface
	side      state.Side
	sideKnown bool // side is known
	recorded  bool // by a running box: it shows what has left the box, too
}

// recordedSides are the descriptions that a recording box gives its interfaces
// after its role.
var recordedSides = map[string]state.Side{"plain side": state.Plain, "multipath side": state.Multipath}

// placeOf finds out where an interface faces: by the name that the configuration
// gives it, or by what a recording says of it.
func (c *Config) interfaceOf(in Interface) captureInterface {
	p := captureInterface{Interface: in}
	switch {
	case slices.Contains(c.Plain, in.Name):
		p.side, p.sideKnown = state.Plain, true
	case slices.Contains(c.Paths, in.Name):
		p.side, p.sideKnown = state.Multipath, true
	}
	if box, where, ok := strings.Cut(in.Description, ", "); ok && strings.HasPrefix(box, "synbond ") {
		if side, known := recordedSides[where]; known {
			p.recorded = true
			if !p.sideKnown {
				p.side, p.sideKnown = side, true
			}
		}
	}
	return p
}

// leaving tells whether the box that was recorded has sent a frame.
func (p *captureInterface) sentByBox(f *Frame) bool { return p.recorded && f.Direction == Outbound }

// sideOf tells on which side a SYN has entered: where its interface faces, else
// where the role has its clients, else by whether it is of MPTCP.
func (c *Config) sideOf(p *captureInterface, syn rewrite.MPTCP) state.Side {
	switch {
	case p.sideKnown:
		return p.side
	case c.Role == core.CPE:
		return state.Plain
	case c.Role == core.HAG, syn.Capable, syn.Join:
		return state.Multipath
	}
	return state.Plain
}
