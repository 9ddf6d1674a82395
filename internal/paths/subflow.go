package paths

import (
	"cmp"
	"net/netip"
	"slices"
)

// Subflow is a TCP connection that belongs to an MPTCP connection of this machine.
type Subflow struct {
	Token         uint32 // of the MPTCP connection
	Local, Remote netip.AddrPort
	Interface     int  // index of the interface to which the socket is bound, 0 for none
	Joined        bool // opened by MP_JOIN; otherwise the connection's first subflow
	Backup        bool // for either end
	CanSend       bool // it is established, and this end has not closed it
}

// SubflowMatch reports whether a subflow matches. It also gets all subflows of the
// same connection.
type SubflowMatch func(s *Subflow, connection []Subflow) bool

// Dispensable returns the indices of the subflows that match, except those of
// connections of which no other subflow can send. It needs the subflows sorted by
// [CompareTokens].
func Dispensable(sorted []Subflow, match SubflowMatch) (out []int) {
	for start := 0; start < len(sorted); {
		end := start + 1
		for end < len(sorted) && sorted[end].Token == sorted[start].Token {
			end++
		}
		connection, kept, before := sorted[start:end], false, len(out)
		for i := range connection {
			if match(&connection[i], connection) {
				out = append(out, start+i)
			} else {
				kept = kept || connection[i].CanSend
			}
		}
		if !kept {
			out = out[:before]
		}
		start = end
	}
	return out
}

// CompareTokens orders subflows by connection.
func CompareTokens(a, b Subflow) int { return cmp.Compare(a.Token, b.Token) }

// OnPath matches the subflows of path i at a CPE: those that are bound to its
// interface or start from an address of it, and on the first path also first
// subflows from clients' addresses.
func (s *Set) OnPath(i int) SubflowMatch {
	at := s.machine.Link(s.Paths[i].Interface)
	return func(sub *Subflow, _ []Subflow) bool {
		if on, is := s.Encapsulated(sub.Local.Addr(), sub.Remote.Addr()); is {
			return on == i
		}
		switch {
		case sub.Interface == at.Index && at.Index != 0:
			return true
		case sub.Interface != 0: // one that is gone, or was renamed, counts for any path
			return !s.machine.Exists(sub.Interface) || sub.Joined && s.at(sub.Interface) < 0
		case slices.Contains(at.Addrs, sub.Local.Addr()):
			return s.Index(sub.Local, sub.Remote) == i
		}
		return i == 0 && !sub.Joined && len(s.machine.Owners(sub.Local.Addr())) == 0
	}
}
