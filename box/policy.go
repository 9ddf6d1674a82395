package box

import (
	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// Policy chooses the action for a SYN.
type Policy struct {
	Default state.Action
}

// Choose returns the action for a SYN that entered on side and, unless it is
// the default, why.
func (p Policy) Choose(side state.Side, syn rewrite.MPTCP) (state.Action, string) {
	switch {
	case syn.Join:
		return state.Pass, "mp-join" // belongs to a connection between its ends
	case side == state.Plain && syn.Capable:
		return state.Pass, "end-to-end" // the host speaks MPTCP itself
	case side == state.Multipath && !syn.Capable:
		return state.Pass, "plain-tcp" // the other box did not offer to bond it
	}
	return p.Default, ""
}
