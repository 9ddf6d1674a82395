//go:build linux

package mptcp

import (
	"net/netip"
	"slices"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
)

// Ends are the two ends of a subflow.
type Ends struct{ Local, Remote netip.AddrPort }

// Trait has the properties of a subflow that only the kernel's list of sockets shows.
type Trait struct {
	Backup    bool // for either end
	Interface int  // index of the interface to which it is bound, 0 for none
}

// Traits returns the traits of subflows of this machine that are backups, or whose local
// address is shared.
func Traits(shared func(netip.Addr) bool) (map[Ends]Trait, error) {
	all, err := host.Sockets(host.SubflowStates)
	if err != nil {
		return nil, err
	}
	traits := make(map[Ends]Trait)
	for i := range all {
		if s := &all[i]; s.Backup || s.Interface != 0 && shared(s.Local.Addr()) {
			traits[Ends{s.Local, s.Remote}] = Trait{s.Backup, s.Interface}
		}
	}
	return traits, nil
}

// EndSubflows ends the subflows of this machine that match, where another subflow of
// the same connection can go on, and returns their number. What a subflow had not
// delivered, MPTCP sends at once by the others (kernel: __mptcp_retrans). Needs
// CONFIG_INET_DIAG_DESTROY.
func EndSubflows(match paths.SubflowMatch) (int, error) {
	return host.EndSockets(host.SubflowStates, func(all []host.Socket) []host.Socket {
		all = slices.DeleteFunc(all, func(s host.Socket) bool { return s.Token == 0 })
		slices.SortFunc(all, func(a, b host.Socket) int { return paths.CompareTokens(a.Subflow, b.Subflow) })
		subflows := make([]paths.Subflow, len(all))
		for i := range all {
			subflows[i] = all[i].Subflow
		}
		var chosen []host.Socket
		for _, i := range paths.Dispensable(subflows, match) {
			chosen = append(chosen, all[i])
		}
		return chosen
	})
}
