//go:build linux

package tap

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets into IPv4, IPv6 and TCP headers (RFC 791, RFC 8200, RFC 9293), and sizes.
const (
	ip4Fragment = 6
	ip4Protocol = 9
	ip6Next     = 6
	ip6Size     = 40
	tcpOffset   = 12 // upper four bits: the header's length in words
	tcpFlags    = 13
	tcpOptions  = 20
	timestamps  = 12 // size of two Nop and the timestamps option (RFC 7323, appendix A)
)

// Flags of segments that begin or end a connection, RFC 9293, section 3.1.
const flagFIN, flagSYN, flagRST = 0x01, 0x02, 0x04

const (
	optionMPTCP = 30 // RFC 8684, section 3
	// beyondJoin is the least third byte of an MPTCP option with a subtype (its upper
	// four bits) other than MP_CAPABLE (0) and MP_JOIN (1).
	beyondJoin = 0x20
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

// ICMP errors (RFC 792; RFC 4443, section 2.1: types below 128).
const (
	icmpUnreachable      = 3
	icmpTimeExceeded     = 11
	icmpParameterProblem = 12
	icmp6Errors          = 4 // the highest type of an error
)

// filter returns the program that selects the packets named in the package's comment.
// It reads packets from the IP header on. All IPv6 packets with extension headers pass:
// classic BPF has no loop to walk them.
func filter() []unix.SockFilter {
	const accept, drop = "accept", "drop"
	is := func(v uint32) bpf.JumpIf { return bpf.JumpIf{Cond: bpf.JumpEqual, Val: v} }
	least := func(v uint32) bpf.JumpIf { return bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: v} }
	bits := func(v uint32) bpf.JumpIf { return bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: v} }
	at := func(off uint32) bpf.LoadAbsolute { return bpf.LoadAbsolute{Off: off, Size: 1} }
	behindIP := func(off uint32) bpf.LoadIndirect { return bpf.LoadIndirect{Off: off, Size: 1} }
	return assemble([]step{
		{ins: bpf.LoadExtension{Num: bpf.ExtProto}},
		{ins: is(unix.ETH_P_IPV6), yes: "ipv6"},
		{ins: is(unix.ETH_P_IP), no: drop},

		{ins: bpf.LoadAbsolute{Off: ip4Fragment, Size: 2}},
		{ins: bits(0x1fff), yes: drop}, // not the first fragment
		{ins: bpf.LoadMemShift{Off: 0}},
		{ins: at(ip4Protocol)},
		{ins: is(unix.IPPROTO_TCP), yes: "tcp"},
		{ins: is(unix.IPPROTO_ICMP), no: drop},
		{ins: behindIP(0)},
		{ins: is(icmpUnreachable), yes: accept},
		{ins: is(icmpTimeExceeded), yes: accept},
		{ins: is(icmpParameterProblem), yes: accept, no: drop},

		{label: "ipv6", ins: bpf.LoadConstant{Dst: bpf.RegX, Val: ip6Size}},
		{ins: at(ip6Next)},
		{ins: is(unix.IPPROTO_TCP), yes: "tcp"},
		{ins: is(unix.IPPROTO_ICMPV6), yes: "icmp6"},
		{ins: is(extHopByHop), yes: accept},
		{ins: is(extRouting), yes: accept},
		{ins: is(extFragment), yes: accept},
		{ins: is(extAuth), yes: accept},
		{ins: is(extMobility), yes: accept},
		{ins: is(extDestination), yes: accept, no: drop},
		{label: "icmp6", ins: behindIP(0)},
		{ins: least(icmp6Errors + 1), yes: drop, no: accept},

		{label: "tcp", ins: behindIP(tcpFlags)},
		{ins: bits(flagFIN | flagSYN | flagRST), yes: accept},
		// Linux writes an MPTCP option first, or behind timestamps, and last, if SACK
		// leaves room for it. A load behind the packet's end drops the packet.
		{ins: behindIP(tcpOffset)},
		{ins: least((tcpOptions + 4) << 2), no: drop},
		{ins: behindIP(tcpOptions)},
		{ins: is(optionMPTCP), no: "behind timestamps"},
		{ins: behindIP(tcpOptions + 2)},
		{ins: least(beyondJoin), yes: drop, no: accept},
		{label: "behind timestamps", ins: behindIP(tcpOffset)},
		{ins: least((tcpOptions + timestamps + 4) << 2), no: drop},
		{ins: behindIP(tcpOptions + timestamps)},
		{ins: is(optionMPTCP), no: drop},
		{ins: behindIP(tcpOptions + timestamps + 2)},
		{ins: least(beyondJoin), yes: drop, no: accept},

		{label: accept, ins: bpf.RetConstant{Val: maxPacket}},
		{label: drop, ins: bpf.RetConstant{Val: 0}},
	})
}

// step is an instruction with a label and, for a jump, the labels to jump to if the
// condition holds and if not. An empty label is the next instruction.
type step struct {
	label   string
	ins     bpf.Instruction
	yes, no string
}

// assemble resolves the labels. It panics at an error, which can only be a mistake in
// this file.
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
		panic("tap: filter: " + err.Error())
	}
	prog := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		prog[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return prog
}

// skip returns the number of instructions to skip in a jump to a label.
func skip(at map[string]int, from int, label string) uint8 {
	if label == "" {
		return 0
	}
	return uint8(at[label] - from - 1)
}
