//go:build linux

package ruleset

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Matches and targets of x_tables that iptables-nft leaves as they are.

// targets reports how a target ends the walk, if it does.
func targets(name string) (end, bool) {
	switch name {
	case "REJECT", "DROP", "TARPIT":
		return dropped, true
	case "ACCEPT":
		return accepted, true
	case "MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP":
		return translated, true
	}
	return continues, false
}

// xtTarget carries out a target that does not end the walk: those that may change a mark.
func (w *walk) xtTarget(e *expr.Target, by By, certain bool) {
	switch e.Name {
	case "MARK":
		// struct xt_mark_tginfo2, uapi linux/netfilter/xt_mark.h: u32 mark, mask.
		info, ok := e.Info.(*xt.Unknown)
		if !ok || len(*info) < 8 || !certain {
			w.markKnown = false
			return
		}
		b := []byte(*info)
		w.packet.Mark = w.packet.Mark&^binary.NativeEndian.Uint32(b[4:]) ^ binary.NativeEndian.Uint32(b)
		w.markedBy = by
	case "CONNMARK":
		w.markKnown = false
	}
}

// xtMatch carries out a match.
func (w *walk) xtMatch(e *expr.Match) truth {
	switch info := e.Info.(type) {
	case *xt.Comment:
		return matches
	case *xt.Tcp:
		return w.ports(info)
	case *xt.ConntrackMtinfo1:
		return w.conntrack(info.MatchFlags, info.InvertFlags, uint16(info.StateMask))
	case *xt.ConntrackMtinfo2:
		return w.conntrack(info.MatchFlags, info.InvertFlags, info.StateMask)
	case *xt.ConntrackMtinfo3:
		return w.conntrack(info.MatchFlags, info.InvertFlags, info.StateMask)
	case *xt.Unknown:
		if e.Name == "mark" && len(*info) >= 9 { // struct xt_mark_mtinfo1: u32 mark, mask, u8 invert
			b := []byte(*info)
			return w.markMatch(binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:]), b[8] != 0)
		}
	}
	return uncertain
}

func (w *walk) markMatch(mark, mask uint32, invert bool) truth {
	if !w.markKnown {
		return uncertain
	}
	return truthOf((w.packet.Mark&mask == mark) != invert)
}

// conntrack carries out a match with the state of connection tracking alone (uapi
// linux/netfilter/xt_conntrack.h: XT_CONNTRACK_STATE; the bits of the state are those of
// XT_CONNTRACK_STATE_BIT and XT_CONNTRACK_STATE_UNTRACKED).
func (w *walk) conntrack(flags, inverted, states uint16) truth {
	const state = 1
	if flags != state {
		return uncertain
	}
	bit := map[State]uint16{Established: 1 << 1, New: 1 << 3, Untracked: 1 << 8}[w.packet.State]
	return truthOf((states&bit != 0) != (inverted&state != 0))
}

// ports carries out a match with ports and flags of TCP.
func (w *walk) ports(m *xt.Tcp) truth {
	p := w.packet
	if p.protocol() != unix.IPPROTO_TCP {
		return differs
	}
	t := p.Data[p.transport():]
	inside := func(port uint16, r [2]uint16) bool { return port >= r[0] && port <= r[1] }
	inv := func(flag xt.TcpInvFlagset) bool { return m.InvFlags&flag != 0 }
	if m.Option != 0 {
		return uncertain
	}
	return truthOf(inside(binary.BigEndian.Uint16(t), m.SrcPorts) != inv(xt.TcpInvSrcPorts) &&
		inside(binary.BigEndian.Uint16(t[2:]), m.DstPorts) != inv(xt.TcpInvDestPorts) &&
		(t[13]&m.FlagsMask == m.FlagsCmp) != inv(xt.TcpInvFlags))
}
