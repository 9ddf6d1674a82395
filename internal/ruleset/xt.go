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
func (w *walk) xtMatch(e *expr.Match, by By) truth {
	if counting[e.Name] {
		w.count(by)
	}
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
		return w.unknownMatch(e.Name, e.Rev, *info)
	}
	return uncertain
}

// unknownMatch carries out matches of which package xt knows nothing.
func (w *walk) unknownMatch(name string, revision uint32, b []byte) truth {
	switch {
	case name == "mark" && len(b) >= 9: // struct xt_mark_mtinfo1: u32 mark, mask, u8 invert
		return w.markMatch(binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:]), b[8] != 0)
	case name == "state" && len(b) >= 4: // struct xt_state_info: u32 states
		return w.conntrack(xtState, 0, uint16(binary.NativeEndian.Uint32(b)))
	case name == "limit":
		return w.limit(false)
	case name == "hashlimit":
		return w.hashlimit(revision, b)
	case name == "multiport" && revision == 1 && len(b) >= multiportSize:
		return w.multiport(b)
	}
	return uncertain
}

// hashlimit carries out a limit by hosts or ports (uapi linux/netfilter/xt_hashlimit.h: the
// field mode of struct hashlimit_cfg1, behind a name of 16 bytes, or of struct hashlimit_cfg2
// and 3, behind one of 255 bytes and two numbers).
func (w *walk) hashlimit(revision uint32, b []byte) truth {
	const invert = 1 << 4 // XT_HASHLIMIT_INVERT
	at := 256 + 2*8
	if revision < 2 {
		at = 16
	}
	if len(b) < at+4 {
		return uncertain
	}
	return w.limit(binary.NativeEndian.Uint32(b[at:])&invert != 0)
}

// struct xt_multiport_v1, uapi linux/netfilter/xt_multiport.h: u8 flags, u8 count, u16
// ports[15], u8 pflags[15], u8 invert. A port whose pflag is set begins a range, the next one
// ends it.
const (
	multiportSize = 48
	multiportMost = 15
	portsAt       = 2
	rangesAt      = portsAt + 2*multiportMost
	invertAt      = rangesAt + multiportMost
)

// multiport carries out a match with lists of ports.
func (w *walk) multiport(b []byte) truth {
	t := w.packet.Data[w.packet.transport():]
	any := func(port uint16) bool {
		for i := 0; i < min(int(b[1]), multiportMost); i++ {
			first := binary.NativeEndian.Uint16(b[portsAt+2*i:])
			last := first
			if b[rangesAt+i] != 0 && i+1 < multiportMost {
				i++
				last = binary.NativeEndian.Uint16(b[portsAt+2*i:])
			}
			if port >= first && port <= last {
				return true
			}
		}
		return false
	}
	src, dst := any(binary.BigEndian.Uint16(t)), any(binary.BigEndian.Uint16(t[2:]))
	found := map[byte]bool{0: src, 1: dst, 2: src || dst}[b[0]] // XT_MULTIPORT_SOURCE, DESTINATION, EITHER
	return truthOf(found != (b[invertAt] != 0))
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
	if flags&^xtStateAlias != xtState {
		return uncertain
	}
	bit := map[State]uint16{Established: 1 << 1, New: 1 << 3, Untracked: 1 << 8}[w.packet.State]
	return truthOf((states&bit != 0) != (inverted&xtState != 0))
}

// Flags of a match with conntrack: XT_CONNTRACK_STATE, and XT_CONNTRACK_STATE_ALIAS, which
// says that the rule was written with `-m state`.
const (
	xtState      = 1 << 0
	xtStateAlias = 1 << 13
)

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
