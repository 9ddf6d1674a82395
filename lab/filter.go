package lab

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in the headers that the filter and isHandshake read.
const (
	ip4Fragment = 6
	ip4Protocol = 9
	ip6Next     = 6
	ip6Len      = 40
	tcpFlags    = 13
	flagSYN     = 0x02
)

// Next-header values that may stand before TCP (RFC 8200, RFC 4302, RFC 6275).
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestination = 60
	extMobility    = 135
)

// handshakeFilter passes TCP segments with SYN over IPv4, and over IPv6 when
// TCP comes first; IPv6 packets with extension headers all pass, for
// isHandshake to look into. It sees packets from the IP header on.
func handshakeFilter() []unix.SockFilter {
	const accept, drop = "accept", "drop"
	prog := assemble([]step{
		{ins: bpf.LoadExtension{Num: bpf.ExtProto}},
		{ins: bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.ETH_P_IPV6}, yes: "ipv6"},
		{ins: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.ETH_P_IP}, yes: drop},

		{ins: bpf.LoadAbsolute{Off: ip4Protocol, Size: 1}},
		{ins: bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.IPPROTO_TCP}, yes: drop},
		{ins: bpf.LoadAbsolute{Off: ip4Fragment, Size: 2}},
		{ins: bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x1fff}, yes: drop}, // not the first fragment
		{ins: bpf.LoadMemShift{Off: 0}},
		{ins: bpf.LoadIndirect{Off: tcpFlags, Size: 1}},
		{ins: bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: flagSYN}, yes: accept, no: drop},

		{label: "ipv6", ins: bpf.LoadAbsolute{Off: ip6Next, Size: 1}},
		{ins: bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.IPPROTO_TCP}, yes: "tcp6"},
		{ins: bpf.JumpIf{Cond: bpf.JumpEqual, Val: extHopByHop}, yes: accept},
		{ins: bpf.JumpIf{Cond: bpf.JumpEqual, Val: extRouting}, yes: accept},
		{ins: bpf.JumpIf{Cond: bpf.JumpEqual, Val: extFragment}, yes: accept},
		{ins: bpf.JumpIf{Cond: bpf.JumpEqual, Val: extAuth}, yes: accept},
		{ins: bpf.JumpIf{Cond: bpf.JumpEqual, Val: extMobility}, yes: accept},
		{ins: bpf.JumpIf{Cond: bpf.JumpEqual, Val: extDestination}, yes: accept, no: drop},

		{label: "tcp6", ins: bpf.LoadAbsolute{Off: ip6Len + tcpFlags, Size: 1}},
		{ins: bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: flagSYN}, yes: accept, no: drop},

		{label: accept, ins: bpf.RetConstant{Val: 1 << 16}},
		{label: drop, ins: bpf.RetConstant{Val: 0}},
	})
	return prog
}

// step is an instruction that may have a label, and jump to labels. No label: the next one.
type step struct {
	label   string
	ins     bpf.Instruction
	yes, no string
}

// assemble resolves the labels. The program is a constant of this file, so that
// an error in it is a panic.
func assemble(steps []step) []unix.SockFilter {
	at := map[string]int{}
	for i, s := range steps {
		at[s.label] = i
	}
	ins := make([]bpf.Instruction, len(steps))
	for i, s := range steps {
		ins[i] = s.ins
		if j, ok := s.ins.(bpf.JumpIf); ok {
			j.SkipTrue = skip(at, i, s.yes)
			j.SkipFalse = skip(at, i, s.no)
			ins[i] = j
		}
	}
	raw, err := bpf.Assemble(ins)
	if err != nil {
		panic("lab: filter: " + err.Error())
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return prog
}

func skip(at map[string]int, from int, label string) uint8 {
	if label == "" {
		return 0
	}
	return uint8(at[label] - from - 1)
}

// isHandshake tells whether an IP packet is a TCP segment with SYN.
func isHandshake(p []byte) bool {
	tcp, ok := tcpHeader(p)
	return ok && len(tcp) > tcpFlags && tcp[tcpFlags]&flagSYN != 0
}

// tcpHeader finds the TCP header of an IPv4 or IPv6 packet, behind IPv6
// extension headers too, if it is in this packet.
func tcpHeader(p []byte) ([]byte, bool) {
	if len(p) < 20 {
		return nil, false
	}
	if p[0]>>4 == 4 {
		header := int(p[0]&0x0f) * 4
		first := p[ip4Fragment]&0x1f == 0 && p[ip4Fragment+1] == 0
		if p[ip4Protocol] != unix.IPPROTO_TCP || !first || header > len(p) {
			return nil, false
		}
		return p[header:], true
	}
	if p[0]>>4 != 6 || len(p) < ip6Len {
		return nil, false
	}
	next, rest := p[ip6Next], p[ip6Len:]
	for next != unix.IPPROTO_TCP {
		n, ok := extensionLen(next, rest)
		if !ok || n > len(rest) {
			return nil, false
		}
		next, rest = rest[0], rest[n:]
	}
	return rest, true
}

// extensionLen is the length of an IPv6 extension header that TCP may follow.
func extensionLen(kind byte, b []byte) (int, bool) {
	if len(b) < 8 {
		return 0, false
	}
	switch kind {
	case extHopByHop, extRouting, extDestination, extMobility:
		return 8 * (int(b[1]) + 1), true
	case extAuth:
		return 4 * (int(b[1]) + 2), true
	case extFragment:
		first := b[2] == 0 && b[3]&0xf8 == 0
		return 8, first
	}
	return 0, false
}
