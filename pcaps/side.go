package pcaps

import (
	"slices"
	"strings"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// captureInterface is an interface of the capture.
type captureInterface struct {
	Interface
	side      state.Side
	sideKnown bool // side is valid
	recorded  bool // by a running box: outbound frames are packets of the box
}

// recordedSides are the ends of the interface descriptions in a recording; before them is
// the role.
var recordedSides = map[string]state.Side{"plain side": state.Plain, "multipath side": state.Multipath}

// interfaceOf returns an interface with its side: from the configuration of its name, or
// else from the description in a recording.
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

// sentByBox reports whether a recorded box has sent a frame.
func (in *captureInterface) sentByBox(f *Frame) bool { return in.recorded && f.Direction == Outbound }

// sideOf returns the side on which a SYN enters: the side of its interface, or else by the
// role, or else by its MPTCP option. See [Config.Role].
func (c *Config) sideOf(in *captureInterface, syn rewrite.MPTCP) state.Side {
	switch {
	case in.sideKnown:
		return in.side
	case c.Role == core.CPE:
		return state.Plain
	case c.Role == core.HAG, syn.Capable, syn.Join:
		return state.Multipath
	}
	return state.Plain
}
