package nfq

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// Registers: every term loads what it needs and leaves nothing behind.
const reg1, reg2 = unix.NFT_REG_1, unix.NFT_REG_2

// Byte 13 of the TCP header and the flags in it, RFC 9293, section 3.1.
const (
	tcpFlagsOffset  = 13
	tcpSYN          = 0x02
	tcpRST          = 0x04
	tcpACK          = 0x10
	tcpFINSYNRSTACK = 0x17
)

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: data}
}

func nfproto(a netip.Addr) term {
	proto, name := byte(unix.NFPROTO_IPV6), "ipv6"
	if a.Is4() {
		proto, name = unix.NFPROTO_IPV4, "ipv4"
	}
	return term{"meta nfproto " + name, []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1}, equal([]byte{proto}),
	}}
}

func isTCP() term {
	return term{"meta l4proto tcp", []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1}, equal([]byte{unix.IPPROTO_TCP}),
	}}
}

// isSYN matches a SYN without FIN, RST and ACK, extension headers or not.
func isSYN() term { return tcpFlagsAre("syn", tcpSYN) }

// isSYNACK matches a SYN+ACK without FIN and RST.
func isSYNACK() term { return tcpFlagsAre("(syn | ack)", tcpSYN|tcpACK) }

// isBareReset matches a RST without ACK: what the kernel answers to an ACK, or to data
// (RFC 9293, section 3.10.7.1), for which it has no socket.
func isBareReset() term { return tcpFlagsAre("rst", tcpRST) }

func tcpFlagsAre(name string, flags byte) term {
	tcp := isTCP()
	return term{tcp.text + " tcp flags & (fin | syn | rst | ack) == " + name, append(tcp.exprs,
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseTransportHeader, Offset: tcpFlagsOffset, Len: 1},
		&expr.Bitwise{SourceRegister: reg1, DestRegister: reg1, Len: 1, Mask: []byte{tcpFINSYNRSTACK}, Xor: []byte{0}},
		equal([]byte{flags}),
	)}
}

func iifname(set string) term { return interfaceIn("iifname", expr.MetaKeyIIFNAME, set) }
func oifname(set string) term { return interfaceIn("oifname", expr.MetaKeyOIFNAME, set) }

func interfaceIn(which string, key expr.MetaKey, set string) term {
	return term{which + " @" + set, []expr.Any{
		&expr.Meta{Key: key, Register: reg1},
		&expr.Lookup{SourceRegister: reg1, SetName: set},
	}}
}

// fibOIF matches what the routing table sends out by an interface of the set, which
// has these names: nft(8) takes no named set here.
func fibOIF(set string, names []string) term {
	return term{"fib daddr oifname { " + quoted(names) + " }", []expr.Any{
		&expr.Fib{Register: reg1, FlagDADDR: true, ResultOIFNAME: true},
		&expr.Lookup{SourceRegister: reg1, SetName: set},
	}}
}

// endIs matches TCP from that address and port, or to them.
func endIs(source bool, at netip.AddrPort) term {
	// Offsets of both ends in the headers: RFC 8200, section 3; RFC 791, section 3.1;
	// RFC 9293, section 3.1.
	family, addr, port, word := "ip6", uint32(24), uint32(2), "d"
	if at.Addr().Is4() {
		family, addr = "ip", 16
	}
	if source {
		addr, port, word = addr-uint32(at.Addr().BitLen())/8, 0, "s"
	}
	load := func(base expr.PayloadBase, offset, size uint32) expr.Any {
		return &expr.Payload{DestRegister: reg1, Base: base, Offset: offset, Len: size}
	}
	text := fmt.Sprintf("%s %saddr %s tcp %sport %d", family, word, at.Addr(), word, at.Port())
	return term{text, slices.Concat(nfproto(at.Addr()).exprs, isTCP().exprs, []expr.Any{
		load(expr.PayloadBaseNetworkHeader, addr, uint32(at.Addr().BitLen())/8), equal(at.Addr().AsSlice()),
		load(expr.PayloadBaseTransportHeader, port, 2), equal(binary.BigEndian.AppendUint16(nil, at.Port())),
	})}
}

func fibNotLocal(addr string) term {
	return term{fmt.Sprintf("fib %s type != local", addr), []expr.Any{
		&expr.Fib{Register: reg1, FlagDADDR: addr == "daddr", FlagSADDR: addr == "saddr", ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}}
}

// socketTransparent matches packets of the box's sockets, and ICMP errors
// about them (kernel: nf_sk_lookup_slow_v6 looks into the quoted packet).
func socketTransparent() term {
	return term{"socket transparent 1", []expr.Any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: reg1}, equal([]byte{1}),
	}}
}

func markIs(m Mark) term {
	return term{fmt.Sprintf("meta mark 0x%08x", uint32(m)), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg1},
		equal(binaryutil.NativeEndian.PutUint32(uint32(m))),
	}}
}

// isRefused matches the marks of SYNs that the box has refused.
func isRefused() term {
	const kinds = 0xf
	return masked("meta mark", &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1}, ^uint32(kinds), Refused)
}

// sentBy matches what sockets with that mark send, whatever their DSCP.
func sentBy(m Mark) term {
	return masked("meta mark", &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1}, ^uint32(dscpBits), m)
}

// socketMark matches packets of sockets with that mark, whatever their DSCP, and
// ICMP errors about them. A handshake, or a connection in TIME-WAIT, has no mark.
func socketMark(m Mark) term {
	return masked("socket mark", &expr.Socket{Key: expr.SocketKeyMark, Register: reg1}, ^uint32(dscpBits), m)
}

// withoutDSCP matches what bears no mark with a DSCP.
func withoutDSCP() term {
	return masked("meta mark", &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1}, dscpBits, 0)
}

// hasDSCP matches what bears the mark of a socket with that DSCP.
func hasDSCP(dscp uint8) term {
	const socket = 0xff // the byte that tells which
	return masked("meta mark", &expr.Meta{Key: expr.MetaKeyMARK, Register: reg1}, ^uint32(socket), (PathSocket &^ socket).WithDSCP(dscp))
}

// masked matches where what load puts into the register has the value under the mask.
func masked(what string, load expr.Any, mask uint32, value Mark) term {
	return term{fmt.Sprintf("%s & 0x%08x == 0x%08x", what, mask, uint32(value)), []expr.Any{
		load,
		&expr.Bitwise{
			SourceRegister: reg1, DestRegister: reg1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(mask), Xor: make([]byte, 4),
		},
		equal(binaryutil.NativeEndian.PutUint32(uint32(value))),
	}}
}

// setDSCP6 sets the DSCP in the first two bytes of the IPv6 header: version,
// traffic class and four bits of the flow label. Other packets do not match.
func setDSCP6(dscp uint8) term {
	const bits = 0x3f << 6
	return term{fmt.Sprintf("ip6 dscp set 0x%02x", dscp), append(nfproto(netip.IPv6Unspecified()).exprs,
		&expr.Payload{DestRegister: reg1, Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 2},
		&expr.Bitwise{
			SourceRegister: reg1, DestRegister: reg1, Len: 2,
			Mask: binary.BigEndian.AppendUint16(nil, 0xffff&^bits), Xor: binary.BigEndian.AppendUint16(nil, uint16(dscp)<<6),
		},
		&expr.Payload{
			OperationType: expr.PayloadWrite, SourceRegister: reg1,
			Base: expr.PayloadBaseNetworkHeader, Offset: 0, Len: 2,
		},
	)}
}

func markIsNot(m Mark) term {
	return term{fmt.Sprintf("meta mark != 0x%08x", uint32(m)), []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg1, Data: binaryutil.NativeEndian.PutUint32(uint32(m))},
	}}
}

func setMark(m Mark) term {
	return term{fmt.Sprintf("meta mark set 0x%08x", uint32(m)), []expr.Any{
		&expr.Immediate{Register: reg1, Data: binaryutil.NativeEndian.PutUint32(uint32(m))},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: reg1},
	}}
}

func notrack() term { return term{"notrack", []expr.Any{&expr.Notrack{}}} }

func tproxy(to netip.AddrPort) term {
	family, word := byte(unix.NFPROTO_IPV6), "ip6"
	if to.Addr().Is4() {
		family, word = unix.NFPROTO_IPV4, "ip"
	}
	return term{fmt.Sprintf("tproxy %s to %s", word, to), []expr.Any{
		&expr.Immediate{Register: reg1, Data: to.Addr().AsSlice()},
		&expr.Immediate{Register: reg2, Data: binary.BigEndian.AppendUint16(nil, to.Port())},
		&expr.TProxy{Family: family, TableFamily: unix.NFPROTO_INET, RegAddr: reg1, RegPort: reg2},
	}}
}

// queue diverts to an NFQUEUE, and lets the packet go on where nobody listens.
func queue(number uint16, xt bool) term {
	return term{fmt.Sprintf("queue flags bypass to %d", number), []expr.Any{QueueExpr(number, true, xt)}}
}

// QueueExpr sends packets to an NFQUEUE: by the native expression, or by the xt
// target through nft_compat. With bypass they go on where nobody listens.
func QueueExpr(number uint16, bypass, throughXT bool) expr.Any {
	if !throughXT {
		q := &expr.Queue{Num: number}
		if bypass {
			q.Flag = expr.QueueFlagBypass
		}
		return q
	}
	// struct xt_NFQ_info_v3, padded to 8 bytes (XT_ALIGN):
	// u16 queuenum, u16 queues_total, u16 flags (bit 0: bypass), native endian.
	info := make(xt.Unknown, 8)
	binary.NativeEndian.PutUint16(info[0:], number)
	binary.NativeEndian.PutUint16(info[2:], 1)
	if bypass {
		binary.NativeEndian.PutUint16(info[4:], 1)
	}
	return &expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}
}

func rejectReset() term {
	return term{"reject with tcp reset", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
}

// rejectICMP answers with the ICMP or ICMPv6 error of that name.
func rejectICMP(name string) term {
	code := map[string]uint8{
		"no-route":         unix.NFT_REJECT_ICMPX_NO_ROUTE,
		"host-unreachable": unix.NFT_REJECT_ICMPX_HOST_UNREACH,
		"admin-prohibited": unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED,
	}[name]
	return term{"reject with icmpx " + name, []expr.Any{
		&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: code},
	}}
}

func accept() term { return ends("accept", expr.Verdict{Kind: expr.VerdictAccept}) }
func drop() term   { return ends("drop", expr.Verdict{Kind: expr.VerdictDrop}) }

func jump(chain string) term {
	return ends("jump "+chain, expr.Verdict{Kind: expr.VerdictJump, Chain: chain})
}

func ends(text string, v expr.Verdict) term { return term{text, []expr.Any{&v}} }
