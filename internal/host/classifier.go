//go:build linux

package host

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// networkHeader is the offset of a packet's network header for a classic BPF program,
// behind any link header (SKF_NET_OFF, uapi linux/filter.h).
const networkHeader = 0xfff00000

// goldenRatio is 2³² divided by the golden ratio. The upper bits of a product with it
// are a hash of the other factor (Fibonacci hashing).
const goldenRatio = 0x9e3779b1

// ipHeader describes a version of IP to a classifier of flows.
type ipHeader struct {
	etherType    uint16
	source, dest uint32          // offsets of the last four bytes of the addresses
	loadLength   bpf.Instruction // loads the header's length into register X
}

var ipHeaders = []ipHeader{
	{unix.ETH_P_IP, 12, 16, bpf.LoadMemShift{Off: networkHeader}},
	{unix.ETH_P_IPV6, 20, 36, bpf.LoadConstant{Dst: bpf.RegX, Val: 40}},
}

// classifier returns a classic BPF program that gives the class of a packet's leaf, or
// 0 for a packet too short to have ports. Such a program takes no privilege beyond that
// of changing the interface.
//
// The leaf comes from the addresses and the four bytes behind the IP header: the ports,
// or the SPI of ESP. Those of ICMP may put packets of one host into several leaves.
func (h *ipHeader) classifier() []bpf.Instruction {
	word := func(off uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: networkHeader + off, Size: 4} }
	return []bpf.Instruction{
		h.loadLength,
		bpf.LoadIndirect{Off: networkHeader, Size: 4},
		bpf.TAX{},
		word(h.source),
		bpf.ALUOpX{Op: bpf.ALUOpXor},
		bpf.TAX{},
		word(h.dest),
		bpf.ALUOpX{Op: bpf.ALUOpXor},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: goldenRatio},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 32 - leafBits},
		bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: firstLeaf},
		bpf.RetA{},
	}
}
