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

// Backups returns the subflows of this machine that are backups now for either end.
func Backups() (map[Ends]bool, error) {
	all, err := host.Sockets(host.SubflowStates)
	if err != nil {
		return nil, err
	}
	backups := make(map[Ends]bool)
	for i := range all {
		if s := &all[i]; s.Backup {
			backups[Ends{s.Local, s.Remote}] = true
		}
	}
	return backups, nil
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
