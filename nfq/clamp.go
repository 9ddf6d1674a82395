//go:build linux

package nfq

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Clamp lowers the MSS of the multipath connections that use an interface, in an address
// family: no segment is then longer than the path takes. Handshakes of both directions
// say how long segments may be, so one end sees to both.
type Clamp struct {
	Interface string
	Family    netip.Addr // any address of it
	Packet    int        // size in bytes of the largest packets, IP header included
}

// mss returns the largest MSS whose segments fit into the packets (RFC 6691, section 2).
func (c Clamp) mss() uint16 {
	const tcpHeader, header4, header6 = 20, 20, 40
	if c.Family.Is4() {
		return uint16(c.Packet - header4 - tcpHeader)
	}
	return uint16(c.Packet - header6 - tcpHeader)
}

// clamps returns the chains that lower the MSS, none without a clamp.
func (r Rules) clamps() []chain {
	if len(r.Clamps) == 0 {
		return nil
	}
	in := chain{"clamp_in", nftables.ChainHookPrerouting, "prerouting", -295, nil}
	out := chain{"clamp_out", nftables.ChainHookPostrouting, "postrouting", -150, nil}
	for _, c := range r.Clamps {
		match := []statement{nfproto(c.Family), hasSYN(), hasMPTCP(), lowerMSS(c.mss())}
		in.rules = append(in.rules, append(rule{interfaceIs("iifname", expr.MetaKeyIIFNAME, c.Interface)}, match...))
		out.rules = append(out.rules, append(rule{interfaceIs("oifname", expr.MetaKeyOIFNAME, c.Interface)}, match...))
	}
	return []chain{in, out}
}

func interfaceIs(which string, key expr.MetaKey, name string) statement {
	return statement{fmt.Sprintf("%s %q", which, name), []expr.Any{
		&expr.Meta{Key: key, Register: reg1}, equal(InterfaceName(name)),
	}}
}

// hasSYN matches SYNs and SYN+ACKs.
func hasSYN() statement {
	tcp := isTCP()
	return statement{tcp.text + " tcp flags & (fin | syn | rst) == syn", append(tcp.exprs,
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlagsOffset, Len: 1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 1, Mask: []byte{tcpFINSYNRSTACK &^ tcpACK}, Xor: []byte{0}},
		equal([]byte{tcpSYN}),
	)}
}

// Kinds of TCP options: RFC 9293, section 3.2; RFC 8684, section 3.
const optionMSS, optionMPTCP = 2, 30

// hasMPTCP matches segments with an MPTCP option.
func hasMPTCP() statement {
	return statement{"tcp option mptcp exists", []expr.Any{
		&expr.Exthdr{DestRegister: reg1, Type: optionMPTCP, Len: 1, Flags: unix.NFT_EXTHDR_F_PRESENT, Op: expr.ExthdrOpTcpopt},
		equal([]byte{1}),
	}}
}

// lowerMSS sets the MSS of a SYN, if it is larger (kernel: nft_exthdr_tcp_set_eval).
func lowerMSS(mss uint16) statement {
	const offset, size = 2, 2 // within the option
	return statement{fmt.Sprintf("tcp option maxseg size set %d", mss), []expr.Any{
		&expr.Immediate{Register: reg1, Data: binary.BigEndian.AppendUint16(nil, mss)},
		&expr.Exthdr{SourceRegister: reg1, Type: optionMSS, Offset: offset, Len: size, Op: expr.ExthdrOpTcpopt},
	}}
}
